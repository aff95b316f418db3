"""Products: how rows become columns, and the calls of cuBLAS, against one that runs on the CPU."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.backends.cuda import blas
from minigrad.backends.cuda.blas import Blas, matrix, product
from minigrad.errors import DeviceError
from tests.gpu import emulator
from tests.gpu.close import assert_near, exact, normal

few = settings(max_examples=80, derandomize=True)
small = st.integers(0, 5)


def multiplied_by_columns(p, a, b, c):
    """What cuBLAS computes with the arguments ``p`` on flat memory, which it counts by columns."""
    for e in range(p.batch):
        for i in range(p.m):
            for j in range(p.n):
                total = 0.0
                for k in range(p.k):
                    x = k + i * p.leading[0] if p.first_transposed else i + k * p.leading[0]
                    y = j + k * p.leading[1] if p.second_transposed else k + j * p.leading[1]
                    total += b[e * p.steps[0] + x] * a[e * p.steps[1] + y]
                c[e * p.steps[2] + i + j * p.leading[2]] = total


@st.composite
def views(draw, rows, columns, batch, plain=False):
    """A (batch, rows, columns) matrix within a larger one: by rows or columns, with gaps."""
    by_columns = not plain and draw(st.booleans())
    one_for_all = not plain and draw(st.booleans())
    shape = (columns, rows) if by_columns else (rows, columns)
    above, beside = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    memory = normal(1 if one_for_all else batch, shape[0] + above, shape[1] + beside)
    view = memory[:, above:, beside:]
    if by_columns:
        view = view.swapaxes(1, 2)
    return np.broadcast_to(view, (batch, rows, columns)), memory


@st.composite
def products(draw):
    m, n, k, batch = draw(small), draw(small), draw(small), draw(st.integers(1, 3))
    return (
        draw(views(m, k, batch)),
        draw(views(k, n, batch)),
        draw(views(m, n, batch, plain=True)),
    )


def place(view, memory):
    return (view.ctypes.data - memory.ctypes.data) // 8


@few
@given(products())
def test_rows_said_by_columns(given):
    (a, in_a), (b, in_b), (c, in_c) = given
    found = [matrix(x.shape, [s // 8 for s in x.strides]) for x in (a, b, c)]
    assert None not in found
    p = product(*found)
    if min(a.size, b.size, c.size):
        flat = [m.reshape(-1)[place(v, m) :] for v, m in ((a, in_a), (b, in_b), (c, in_c))]
        multiplied_by_columns(p, *flat)
        np.testing.assert_allclose(c, a @ b, rtol=1e-12, atol=1e-12)


@few
@given(products())
def test_leading_dimensions_are_what_cublas_allows(given):
    found = [matrix(x.shape, [s // 8 for s in x.strides]) for x, _ in given]
    p = product(*found)
    assert p.leading[0] >= max(1, p.k if p.first_transposed else p.m)
    assert p.leading[1] >= max(1, p.n if p.second_transposed else p.k)
    assert p.leading[2] >= max(1, p.m)


@pytest.mark.parametrize(
    ("shape", "strides"), [((4, 3), (6, 2)), ((4, 3), (0, 1)), ((4, 3), (-3, 1)), ((4, 3), (1, 0))]
)
def test_what_cublas_cannot_address_is_no_matrix(shape, strides):
    assert matrix(shape, strides) is None


# ---- the binding, on a cuBLAS of the CPU --------------------------------------------------------


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    if emulator.COMPILER is None:
        pytest.skip("needs g++, which compiles a cuBLAS for the CPU")
    path = tmp_path_factory.mktemp("cublas") / "libcublas.so"
    source = Path(__file__).parent / "cublas_on_cpu.cpp"
    command = [emulator.COMPILER, "-std=c++17", "-O2", "-fPIC", "-shared", source, "-o", path]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(path))


class Cupy(emulator.Module):
    """NumPy with a device and a stream."""

    def __init__(self):
        self.stream, self.number = 0, 0
        runtime = SimpleNamespace(getDevice=lambda: self.number)
        stream = lambda: SimpleNamespace(ptr=self.stream)  # noqa: E731
        self.cuda = SimpleNamespace(get_current_stream=stream, runtime=runtime)

    @staticmethod
    def empty(shape, dtype=float):
        if dtype != "uint8":
            return emulator.Module.empty(shape, dtype)
        memory = np.empty(shape + 256, dtype)  # as on a GPU, at a multiple of 256
        start = -memory.ctypes.data % 256
        return memory[start : start + shape]


@pytest.fixture
def cupy():
    return Cupy()


def address(x):
    return x.ctypes.data


@pytest.fixture
def ours(library, cupy):
    return Blas(cupy, library, address)


@few
@given(products(), st.booleans(), st.sampled_from(["float16", "float32", "float64"]))
def test_matmul(library, given, add, dtype):
    (a, _), (b, _), (c, in_c) = given
    before = c.copy()
    a, b = (_like(x, dtype) for x in (a, b))
    out = np.full(in_c.shape, np.nan, dtype)[:, : c.shape[1], : c.shape[2]]
    if add:
        out[...] = before
    expected = exact(a) @ exact(b) + (exact(out) if add else 0)
    assert Blas(Cupy(), library, address).matmul(a, b, out, add)
    assert_near(out, expected, units=8, scale=30)


def _like(x, dtype):
    """A copy with the same strides, counted in elements."""
    copy = np.empty(x.size * 4 + 200, dtype)
    strides = [s // 8 * copy.itemsize for s in x.strides]
    y = np.lib.stride_tricks.as_strided(copy, x.shape, strides)
    y[...] = x
    return y


def test_one_matrix_and_no_batch(ours):
    a, b = normal(3, 4), normal(5, 4)
    out = np.empty((3, 5))
    assert ours.matmul(a, b.T, out)
    np.testing.assert_allclose(out, a @ b.T)


@pytest.mark.parametrize("broken", ["dtype", "strides", "out", "shape", "batch", "axes"])
def test_what_it_cannot_do_it_says(ours, broken):
    a, b, out = normal(4, 6), normal(6, 5), np.empty((4, 5))
    if broken == "dtype":
        a = a.astype("f")
    elif broken == "strides":
        a = normal(8, 12)[::2, ::2]
    elif broken == "out":
        out = np.empty((5, 4)).T
    elif broken == "shape":
        b = normal(5, 6)
    elif broken == "batch":
        a, out = normal(2, 4, 6), np.empty((3, 4, 5))
    else:
        a, out = normal(1, 1, 4, 6), np.empty((1, 1, 4, 5))
    assert not ours.matmul(a, b, out)


def test_float32_is_exact_unless_tf32_is_asked_for(ours, library):
    compute = ctypes.c_int.in_dll(library, "last_compute")
    a, b, out = (normal(8, 8, dtype="f", seed=s) for s in range(3))
    ours.matmul(a, b, out)
    assert compute.value == blas.COMPUTE_32F
    assert_near(out, exact(a) @ exact(b), scale=8)
    ours.tf32 = True
    ours.matmul(a, b, out)
    assert compute.value == blas.COMPUTE_32F_FAST_TF32
    rounded = np.abs(out - exact(a) @ exact(b)).max()
    assert 1e-5 < rounded < 1e-2
    wide = np.empty((8, 8))
    ours.matmul(exact(a), exact(b), wide)
    assert compute.value == blas.COMPUTE_64F
    half = np.empty((8, 8), "e")
    ours.matmul(a.astype("e"), b.astype("e"), half)
    assert compute.value == blas.COMPUTE_32F


def test_a_handle_for_each_device_and_stream(ours, library, cupy):
    before = ctypes.c_int.in_dll(library, "created").value
    a, out = normal(2, 2), np.empty((2, 2))
    for cupy.number, cupy.stream in [(0, 0), (0, 0), (0, 7), (1, 7), (0, 7)]:
        assert ours.matmul(a, a, out)
    assert ctypes.c_int.in_dll(library, "created").value - before == 3
    assert len({h.value for h, _ in ours.handles.values()}) == 3


class Failing:
    """A library whose products fail."""

    def __getattr__(self, name):
        return Function(13 if "Gemm" in name else 0)


class Function:
    def __init__(self, status):
        self.status = status

    def __call__(self, *arguments):
        return self.status


def test_a_failure_has_a_name():
    failing = Blas(Cupy(), Failing(), address)
    with pytest.raises(DeviceError, match=r"product of \(2, 2\).*EXECUTION_FAILED"):
        failing.matmul(normal(2, 2), normal(2, 2), np.empty((2, 2)))


def test_without_the_library_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(blas, "_candidates", lambda: ["libcublas_that_is_not_there.so"])
    with pytest.raises(DeviceError, match=r"cupy-cuda13x\[ctk\]"):
        blas.load()


def test_places_to_look_for_it():
    assert "libcublas.so.13" in blas._candidates()
