"""How kernels are launched, what a launch refuses, and that the emulator finds what is wrong."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.backends.cuda import launch
from minigrad.backends.cuda.launch import Grid, Launcher, channels, elements, rows
from minigrad.errors import DeviceError
from tests.gpu import device, emulator
from tests.gpu.close import normal

needs_compiler = pytest.mark.skipif(
    emulator.COMPILER is None or device.REAL,
    reason="needs g++, which compiles the kernels for the CPU; a GPU hides such faults",
)
sizes = st.integers(1, 2**31 - 1)


# ---- how many threads ---------------------------------------------------------------------------


@given(n=sizes)
def test_elements(n):
    (blocks, *_), (threads, *_) = elements(n)
    assert 1 <= blocks <= launch.BLOCKS and threads % 32 == 0
    assert blocks * threads >= min(n, launch.BLOCKS * launch.THREADS)
    assert (blocks - 1) * threads < n, "no block without work"


def test_nothing_to_do_needs_no_block():
    assert elements(0).blocks[0] == rows(0, 5).blocks[0] == 0


def test_one_block():
    assert launch.one_block(5).threads[0] == 32 and launch.one_block(513).threads[0] == 512


@given(count=st.integers(1, 10**6), width=st.integers(1, 10**6))
def test_rows(count, width):
    (blocks, *_), (x, y, _) = rows(count, width)
    assert x in (32, 64, 128, 256, 512) and x * y <= launch.MOST_THREADS
    assert y == 1 or x == 32, "rows share a block only as warps"
    assert (blocks - 1) * y < count <= blocks * y


@given(n=st.integers(1, 10**4), c=st.integers(1, 10**4), s=st.integers(1, 10**4))
def test_channels(n, c, s):
    (blocks, x, y), part, parts = _flat(channels(n, c, s))
    count = n * s
    assert x * y <= launch.CHANNEL_THREADS and y & (y - 1) == 0
    assert (blocks - 1) * x < c <= blocks * x
    assert (parts - 1) * part < count <= parts * part, "every part has values, and has them once"
    assert parts <= y, "one block merges the parts, a thread each"


def _flat(shared):
    grid, part, parts = shared
    assert grid.blocks[1:] == (parts, 1) and grid.threads[2] == 1
    return (grid.blocks[0], *grid.threads[:2]), part, parts


def test_the_largest_block_of_channels_is_that_of_the_source():
    assert f"#define THREADS {launch.CHANNEL_THREADS} " in launch.text("prelude.cuh")


# ---- what a kernel takes ------------------------------------------------------------------------


@pytest.mark.parametrize("file", launch.FILES)
def test_every_kernel_is_read(file):
    kernels = launch.signatures(file)
    assert len(kernels) == launch.text(f"{file}.cu").count("__global__")
    for kernel in kernels.values():
        assert any(not p.const and p.pointer for p in kernel.parameters), "it has a result"
        numbers = {p.name: 1 for p in kernel.parameters if not p.pointer}
        for p in kernel.parameters:
            assert bool(p.size) == p.pointer and eval(p.size or "0", {}, numbers) >= 0


def test_every_file_is_there():
    names = {p.name for p in launch.FOLDER.iterdir()}
    assert names == {"prelude.cuh", *(f"{f}.cu" for f in launch.FILES)} and "norm" in launch.FILES


@pytest.mark.parametrize(
    "head", ["const float* x", "float* __restrict__ x", "int", "unsigned int n", "T& x"]
)
def test_a_parameter_that_cannot_be_read_is_an_error(head):
    with pytest.raises(SyntaxError, match="cannot read"):
        launch._parameters("k", head)


class Recorder:
    """A module whose kernels only note how they were called."""

    def __init__(self):
        self.compiled, self.calls = [], []

    def RawModule(self, code, options):  # noqa: N802 - CuPy's name
        self.compiled.append((re.search(r'#line 1 "(\w+)', code)[1], "typedef half16 T" in code))
        note = lambda name: lambda *call: self.calls.append((name, *call))  # noqa: E731
        return SimpleNamespace(get_function=note)


@pytest.fixture
def recorder():
    return Recorder()


def given_to_norm(dtype="f", **changes):
    arguments = {
        "x": np.zeros((2, 3), dtype),
        "gamma": None,
        "y": np.zeros((2, 3), dtype),
        "inv_rms": np.zeros(2, "d" if dtype == "d" else "f"),
        **{"rows": 2, "width": 3, "eps": 0.5},
    }
    return {**arguments, **changes}


def test_arguments_come_in_order_and_in_their_types(recorder):
    run, grid = Launcher(recorder), elements(6)
    run("norm.rms_norm", grid, "f", **given_to_norm())
    [(name, blocks, threads, values)] = recorder.calls
    assert (name, blocks, threads) == ("rms_norm", *grid)
    assert [type(v).__name__ for v in values] == [
        *("ndarray", "uint64", "ndarray", "ndarray"),
        *("int32", "int32", "float32"),
    ]
    assert values[1] == 0, "a missing array is a null pointer"
    assert [float(v) for v in values[4:]] == [2, 3, 0.5]
    taken, numbers = np.zeros(2, "uint64"), {"n": 1, "bound": 2**32, "scale": 2}
    for dtype, scale in (("e", np.float32), ("f", np.float32), ("d", np.float64)):
        x = np.zeros(1, dtype)
        run("elementwise.dropout", grid, dtype, x=x, taken=taken, y=x, **numbers)
        assert [type(v) for v in recorder.calls[-1][3][-2:]] == [np.uint64, scale]


def test_a_file_is_compiled_once_a_dtype_and_device(recorder):
    run = Launcher(recorder)
    for dtype in "ffeed":
        run("norm.rms_norm", elements(6), dtype, **given_to_norm(dtype))
    assert recorder.compiled == [
        ("norm", False),
        ("norm", True),
        ("norm", False),
    ]
    assert {key[1:] for key in run.modules} == {("f", 0), ("e", 0), ("d", 0)}


def test_nothing_is_launched_without_blocks(recorder):
    none = {name: np.zeros((0, 3), "f") for name in ("x", "y", "inv_rms")}
    empty = given_to_norm(**none, rows=0)
    Launcher(recorder)("norm.rms_norm", elements(0), "f", **empty)
    assert not recorder.calls


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros((2, 3))}, TypeError, "x must be an array of float32, got float64"),
        ({"x": [1.0]}, TypeError, "x must be an array of float32, got list"),
        ({"x": np.float32(1)}, ValueError, r"x must have rows \* width = 6 values"),
        ({"x": None}, TypeError, "x must be an array of float32, got NoneType"),
        ({"x": np.zeros((3, 2), "f").T}, ValueError, "x must be contiguous"),
        ({"x": np.zeros(5, "f")}, ValueError, r"x must have rows \* width = 6 values, got \(5,\)"),
        ({"gamma": np.zeros(2, "f")}, ValueError, "gamma must have width = 3 values"),
        ({"rows": 2**32}, ValueError, "rows must be a whole number of int32, got 4294967296"),
        ({"width": 3.0}, ValueError, "width must be a whole number of int32"),
        ({"extra": 1}, TypeError, "rms_norm has no argument extra"),
    ],
)
def test_a_wrong_argument_is_refused(recorder, change, error, message):
    with pytest.raises(error, match=message):
        Launcher(recorder)("norm.rms_norm", elements(6), "f", **given_to_norm(**change))
    assert not recorder.calls


def test_a_missing_argument_is_refused(recorder):
    arguments = given_to_norm()
    del arguments["y"]
    with pytest.raises(TypeError, match="needs the argument y"):
        Launcher(recorder)("norm.rms_norm", elements(6), "f", **arguments)


def test_arrays_of_two_devices_are_refused(recorder):
    class First(np.ndarray):
        device = SimpleNamespace(id=0)

    class Second(np.ndarray):
        device = SimpleNamespace(id=1)

    x, y = (np.zeros((2, 3), "f").view(kind) for kind in (First, Second))
    run = Launcher(recorder, several=True)
    with pytest.raises(DeviceError, match=r"cuda:0 and cuda:1 \(y\)"):
        run("elementwise.relu", elements(6), "f", x=x, y=y, n=6)
    for array in (x, y):
        run("elementwise.relu", elements(6), "f", x=array, y=array, n=6)
    assert {key[2] for key in run.modules} == {0, 1}, "compiled for each"


# ---- the emulator finds what is wrong -----------------------------------------------------------

FAULTS = {
    "no barrier between writing and reading": (
        "        __syncthreads();\n        if (threadIdx.y < half)",
        "        if (threadIdx.y < half)",
    ),
    "no barrier between the warps": (
        "slots[threadIdx.x / 32] = v;\n    __syncthreads();",
        "slots[threadIdx.x / 32] = v;",
    ),
    "a barrier that some threads do not come to": (
        "    slots[place] = v;\n",
        "    slots[place] = v;\n    if (threadIdx.y > 2) return v;\n",
    ),
    "a shuffle that some lanes do not come to": (
        "    v = across_lanes(v, both, 32);\n",
        "    if (threadIdx.x != 3) v = across_lanes(v, both, 32);\n",
    ),
    "a value read beyond the end": ("k < few ?", "k < 4 ?"),
    "a value written beyond the end": (
        "i < width; i += blockDim.x) {\n        A x_hat = ((",
        "i < width + 1; i += blockDim.x) {\n        A x_hat = ((",
    ),
    "a value that nobody writes": ("        mean[row.r] = shift + m.mean;\n", ""),
    "shared memory that nobody wrote": ("    slots[place] = v;\n", ""),
}


@needs_compiler
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault, cuda, reference, monkeypatch):
    right, wrong = FAULTS[fault]
    assert right in launch.source("norm", "d")
    spoiled = type(
        "RawModule",
        (emulator.RawModule,),
        {"spoil": staticmethod(lambda code: code.replace(right, wrong))},
    )
    module = emulator.Module()
    monkeypatch.setattr(module, "RawModule", spoiled, raising=False)
    x, wide = normal(67, 5), normal(3, 2500)
    broken = type(cuda)(module)
    with pytest.raises(AssertionError):
        for _ in range(3):  # threads run in another order each time
            for found, expected in [
                (broken.batch_norm(x, None, None, 1e-5), cuda.batch_norm(x, None, None, 1e-5)),
                (
                    broken.layer_norm(wide, None, None, (1,), 1e-5),
                    cuda.layer_norm(wide, None, None, (1,), 1e-5),
                ),
            ]:
                for f, e in zip(found, expected, strict=True):
                    np.testing.assert_allclose(f, e, rtol=1e-9)


@needs_compiler
def test_a_kernel_that_does_not_compile_is_shown(cuda):
    with pytest.raises(emulator.KernelFaultError, match="does not compile"):
        emulator.compiled("nonsense", "norm")


def test_grid_is_blocks_and_threads():
    assert elements(1) == Grid((1, 1, 1), (launch.THREADS, 1, 1))
