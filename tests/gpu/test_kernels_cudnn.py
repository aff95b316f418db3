"""Convolutions by cuDNN: the calls, on a front end that computes on the CPU; and the plans of the
real one, which it makes for an H200 without having one (where it is installed).
"""

from __future__ import annotations

import ctypes
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.backends.cuda import cudnn
from minigrad.backends.cuda.cudnn import Cudnn, Sizes, contiguous, plan
from tests.gpu import device
from tests.gpu.close import assert_near, exact, normal
from tests.gpu.test_kernels_blas import Cupy, address
from tests.gpu.test_kernels_pool import windows

few = settings(max_examples=25, derandomize=True)
DTYPES = {"HALF": "float16", "FLOAT": "float32", "DOUBLE": "float64"}


# ---- a front end that computes on the CPU -------------------------------------------------------


class Tensor:
    """A tensor of a graph, with cuDNN's way to describe it."""

    def __init__(self, dim=None, stride=None, data_type=None, name=""):
        self.dim, self.stride, self.data_type, self.output = dim, stride, data_type, False

    def set_output(self, value):
        self.output = value
        return self

    def set_dim(self, dim):
        self.dim = dim
        return self

    def set_stride(self, stride):
        self.stride = stride
        return self

    def set_data_type(self, data_type):
        self.data_type = data_type
        return self

    def at(self, pointer):
        """The array at an address."""
        assert self.stride == contiguous(tuple(self.dim))
        dtype = np.dtype(DTYPES[self.data_type])
        size = int(np.prod(self.dim)) * dtype.itemsize
        memory = (ctypes.c_char * size).from_address(pointer)
        return np.frombuffer(memory, dtype).reshape(self.dim)


class Graph:
    """One convolution; what must be called comes in the order that cuDNN wants."""

    order = ("validate", "build_operation_graph", "create_execution_plans", "check_support")

    def __init__(self, frontend, **types):
        self.frontend, self.types, self.done, self.without = frontend, types, [], []

    def tensor(self, **described):
        return Tensor(**described)

    def __getattr__(self, name):
        if name.startswith("conv_"):
            return lambda *operands, **options: self.convolution(name[5:], operands, options)
        if name in self.order:
            return lambda *_: self.step(name)
        raise AttributeError(name)

    def convolution(self, kind, operands, options):
        self.kind, self.operands, self.options, self.result = kind, operands, options, Tensor()
        return self.result

    def step(self, name):
        assert self.order[len(self.done)] == name
        self.done.append(name)
        if name == "check_support" and self.frontend.refuses(self):
            raise self.frontend.NotSupportedError("No valid engine configs")

    def deselect_numeric_notes(self, notes):
        assert self.done[-1] == "create_execution_plans"
        self.without += notes

    def build_plans(self):
        assert self.done[-1] == "check_support"

    def get_workspace_size(self):
        return 256

    def execute(self, pointers, workspace, handle):
        assert workspace % 256 == 0 and handle.stream is not None and self.result.output
        first, second = (t.at(pointers[t]).astype("d") for t in self.operands)
        result = self.result.at(pointers[self.result])
        result[...] = self.frontend.compute(self.kind, first, second, result.shape, self.options)
        self.frontend.executed.append(self)


class Frontend:
    """The package cudnn, as far as it is called."""

    data_type = SimpleNamespace(HALF="HALF", FLOAT="FLOAT", DOUBLE="DOUBLE")
    heur_mode = SimpleNamespace(A="A", FALLBACK="FALLBACK")
    numerical_note = SimpleNamespace(TENSOR_CORE="tensor core", NONDETERMINISTIC="by chance")

    class NotSupportedError(RuntimeError):
        """cuDNN has no engine."""

    def __init__(self, reference, refuses=lambda graph: False):
        self.reference, self.refuses, self.executed, self.graphs = reference, refuses, [], []
        self.handles = []

    def pygraph(self, handle, **types):
        assert handle in self.handles
        self.graphs.append(Graph(self, **types))
        return self.graphs[-1]

    def create_handle(self):
        self.handles.append(SimpleNamespace(stream=None))
        return self.handles[-1]

    def set_stream(self, handle, stream):
        handle.stream = stream

    def compute(self, kind, first, second, shape, options):
        pads = tuple(zip(options["pre_padding"], options["post_padding"], strict=True))
        rest = tuple(options["stride"]), pads, tuple(options["dilation"])
        if kind == "fprop":
            groups = first.shape[1] // second.shape[1]
            return self.reference.conv2d(first, second, None, *rest, groups)
        needs, x, weight, grad = (False, True, False), first, np.zeros(shape), second
        if kind == "dgrad":
            needs, x, weight, grad = (True, False, False), np.zeros(shape), second, first
        groups = x.shape[1] // weight.shape[1]
        found = self.reference.conv2d_backward(grad, x, weight, *rest, groups, needs)
        return found[needs.index(True)]


@pytest.fixture
def convolving(cuda, reference):
    """A function that gives the overrides with cuDNN, and its front end."""
    if device.REAL:
        pytest.skip("this front end computes on the CPU")

    def make(refuses=lambda graph: False):
        backend = type(cuda)(cuda.module)
        frontend = Frontend(reference, refuses)
        backend.cudnn = Cudnn(Cupy(), frontend, address)
        return backend, frontend

    return make


@pytest.mark.parametrize("refused", ["nothing", "dgrad", "all"])
def test_convolutions(convolving, reference, refused):
    @few
    @given(
        window=windows(),
        groups=st.sampled_from([1, 2]),
        dtype=st.sampled_from(["float16", "float32", "float64"]),
        bias=st.booleans(),
    )
    def check(window, groups, dtype, bias):
        backend, frontend = convolving(lambda graph: refused in ("all", graph.kind))
        shape, kernel, *rest, _ = window
        options = (*rest, groups)
        x = normal(2, 3 * groups, *shape[-2:], dtype=dtype)
        weight = normal(2 * groups, 3, *kernel, dtype=dtype, seed=1)
        b = normal(2 * groups, dtype=dtype, seed=2) if bias else None
        y = backend.conv2d(x, weight, b, *options)
        assert_near(y, reference.conv2d(exact(x), exact(weight), exact(b), *options), scale=30)
        dy, needs = normal(*y.shape, dtype=dtype, seed=3), (True, True, True)
        found = backend.conv2d_backward(dy, x, weight, *options, needs)
        wide = [exact(a) for a in (dy, x, weight)]
        for f, o in zip(found, reference.conv2d_backward(*wide, *options, needs), strict=True):
            assert f.dtype == dtype
            assert_near(f, o, scale=100)
        kinds = {"nothing": ["fprop", "dgrad", "wgrad"], "dgrad": ["fprop", "wgrad"], "all": []}
        assert [g.kind for g in frontend.executed] == kinds[refused]

    check()


X, WEIGHT = normal(2, 3, 8, 8, dtype="float32"), normal(4, 3, 3, 3, dtype="float32", seed=1)
OPTIONS = (1, 1), ((1, 1), (1, 1)), (1, 1), 1


def test_a_plan_is_made_once(convolving):
    backend, frontend = convolving()
    for _ in range(3):
        backend.conv2d(X, WEIGHT, None, *OPTIONS)
    assert len(frontend.graphs) == 1 and len(frontend.executed) == 3
    backend.conv2d(X[:1], WEIGHT, None, *OPTIONS)
    assert len(frontend.graphs) == 2 and len(frontend.handles) == 1
    backend.cudnn.cupy.stream = 7
    backend.conv2d(X, WEIGHT, None, *OPTIONS)
    assert len(frontend.graphs) == 3 and [h.stream for h in frontend.handles] == [0, 7]


def test_what_cudnn_has_not_is_asked_for_once(convolving):
    backend, frontend = convolving(lambda graph: True)
    for _ in range(3):
        backend.conv2d(X, WEIGHT, None, *OPTIONS)
    assert len(frontend.graphs) == 1


def test_float32_is_exact_unless_tf32_is_asked_for(convolving):
    backend, frontend = convolving()
    backend.conv2d(X, WEIGHT, None, *OPTIONS)
    backend.cudnn.tf32 = True
    backend.conv2d(X, WEIGHT, None, *OPTIONS)
    backend.conv2d(X.astype("e"), WEIGHT.astype("e"), None, *OPTIONS)
    exactly, rounded, half = (g.without for g in frontend.graphs)
    assert exactly == ["tensor core", "by chance"]
    assert rounded == half == ["by chance"]
    assert frontend.graphs[2].types["compute_data_type"] == "FLOAT"


@pytest.mark.skipif(device.REAL, reason="on arrays of the CPU")
def test_without_cudnn_convolutions_are_products(cuda, monkeypatch):
    monkeypatch.setattr(cudnn, "find", lambda: None)
    backend = type(cuda)(cuda.module)
    backend.cudnn = Cudnn(Cupy())
    expected = cuda.conv2d(X, WEIGHT, None, *OPTIONS)
    np.testing.assert_array_equal(backend.conv2d(X, WEIGHT, None, *OPTIONS), expected)


# ---- the plans of the real one ------------------------------------------------------------------

#: The public figures of an H200, as cuDNN wants them.
H200 = {
    **{"maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64]},
    **{"regsPerBlock": 65536, "multiProcessorCount": 132, "smClockRateKHz": 1980000},
    **{"memClockRateKHz": 3201000, "l2CacheSize": 62914560, "warpSize": 32},
    **{"maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448},
    **{"reservedSharedMemoryPerBlock": 1024, "maxRegistersPerSM": 65536, "pciDeviceId": 0},
    **{"maxCtasPerSM": 32, "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "isTccDriver": 0},
    **{"supportCoopLaunch": 1, "deviceVer": 900, "driverVer": 13000, "cudaDeviceId": 0},
    **{"totalGlobalMem": 150000000000, "name": "NVIDIA H200", "deviceName": "NVIDIA H200"},
    **{"driverVersion": 13000, "deviceVersion": 900, "smVersion": 900, "version": 1},
}
real = pytest.mark.skipif(
    not os.environ.get("CUDNN_PLANS") or cudnn.find() is None,
    reason="CUDNN_PLANS=1 asks for it; needs nvidia-cudnn-cu13 and nvidia-cudnn-frontend<1.29",
)


@real
@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kind", ["fprop", "dgrad", "wgrad"])
def test_plans_for_an_h200_without_one(kind, dtype, tf32):
    frontend = cudnn.find()
    described = json.dumps({**H200, "cudnnVersion": frontend.backend_version()})
    device = {"device_property": frontend.create_device_properties(described)}
    device |= {"sm_version": 90, "sm_count": 132}
    for channels, image, stride, groups, pads in [
        (16, 32, 1, 1, ((1, 1), (1, 1))),
        (3, 28, 1, 1, ((1, 1), (1, 1))),
        (64, 16, 2, 1, ((1, 1), (1, 1))),
        (32, 16, 1, 4, ((1, 1), (1, 1))),
    ]:
        out = (image + 2 - 3) // stride + 1
        sizes = Sizes(
            *((8, channels, image, image), (64, channels // groups, 3, 3), (8, 64, out, out)),
            *((stride, stride), pads, (1, 1), dtype, tf32),
        )
        plan(frontend, kind, sizes, **device)
