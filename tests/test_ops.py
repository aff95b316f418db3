"""Every row of tests/cases.py, on every backend: derivatives, dtypes, shapes, kernels, PyTorch."""

from __future__ import annotations

import inspect
import warnings
from importlib.util import find_spec
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import minigrad as mg
from minigrad import ops
from minigrad.backends import Backend, Reference, backends, quiet
from minigrad.namespace import tensors
from minigrad.ops import Fused, Op
from minigrad.tensor import apply, wrap
from tests.cases import CASES, TESTS, Case
from tests.gpu import device

#: The CPU backend twice, with and without compiled kernels; and CUDA, on a stand-in for CuPy.
BACKENDS: dict[str, Any] = {"numpy": mg.backends.numpy}
if find_spec("numba"):
    BACKENDS["numba"] = BACKENDS["numpy"]
with device.cuda():
    BACKENDS["cupy"] = mg.backends.cuda_backend()
FLOATS = ("float16", "float32", "float64")


def cases(test: str | None = None, fused: bool = False) -> Any:
    """Parametrize over the rows that take part in ``test``, on every backend."""
    chosen = [c for c in CASES if test not in c.exempt and (not fused or c.op.fused)]
    return pytest.mark.parametrize(
        ("case", "backend"),
        [
            pytest.param(c, b, id=f"{c.name}-{b}")
            for b in BACKENDS
            for c in chosen
            if b != "numba" or c.op.fused
        ],
    )


@pytest.fixture(autouse=True)
def _gpu() -> Any:
    with device.cuda():
        yield


@pytest.fixture(autouse=True)
def _compiled_kernels(request: Any, monkeypatch: Any) -> None:
    """The backend ``"numba"`` compiles however little there is to do, ``"numpy"`` never does."""
    backend = getattr(request.node, "callspec", None) and request.node.callspec.params.get(
        "backend"
    )
    monkeypatch.setattr(BACKENDS["numpy"], "numba", backend == "numba")
    monkeypatch.setattr(BACKENDS["numpy"], "smallest", 0)


def place(case: Case, values: list[Any], backend: str, dtype: str = "float64") -> list[Any]:
    """The drawn values as Tensors on a backend; numbers and None as they are."""
    placed = []
    for spec, value in zip(case.inputs, values, strict=True):
        if spec.drawn:
            host = np.asarray(value)
            host = host.astype(dtype, copy=False) if host.dtype.kind == "f" else host
            value = wrap(put(host, backend))
            value.requires_grad = spec.differentiable
        placed.append(value)
    return placed


def put(host: Any, backend: str) -> Any:
    """A NumPy array on a backend, laid out in memory as it is."""
    xp = BACKENDS[backend]
    if backend != "cupy":
        return xp.from_host(host, "cpu")
    array = xp.from_host(np.ascontiguousarray(host).reshape(host.shape), "cuda")
    if host.flags.c_contiguous:
        return array
    view = _strided_in(xp.zeros, host.shape, host.dtype)
    view[...] = array
    return view


def made(case: Case, backend: str) -> Op:
    """The op of a row, its own arrays (an index, shares) on the backend, too."""
    op = case.make()
    if backend == "cupy":
        for name, value in list(vars(op).items()):
            setattr(op, name, _on_gpu(value))
    return op


def _on_gpu(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return put(value, "cupy")
    return tuple(map(_on_gpu, value)) if type(value) is tuple else value


def run(case: Case, inputs: list[Any]) -> Any:
    arrays = [x.array for x in inputs if isinstance(x, mg.Tensor)]
    on_gpu = any(isinstance(a, BACKENDS["cupy"].array_type) for a in arrays)
    return apply(made(case, "cupy" if on_gpu else "numpy"), *inputs)


def wanted(inputs: list[Any]) -> list[Any]:
    return [x for x in inputs if isinstance(x, mg.Tensor) and x.requires_grad]


def home(tensor: Any) -> Any:
    """The backend a tensor lives on."""
    return backends[type(tensor.array)]


def numbers(tensor: Any) -> Any:
    return home(tensor).to_host(tensor.array)


# ---- the table is complete ----------------------------------------------------------------------


def test_every_op_has_a_row() -> None:
    exported = {getattr(ops, name) for name in ops.__all__} - {Op, Fused}
    assert exported == {c.op for c in CASES}


def test_row_names_are_unique() -> None:
    names = [c.name for c in CASES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_no_row_opts_out_without_a_reason(case: Case) -> None:
    assert not case.misses()
    assert set(case.exempt) <= set(TESTS)
    assert all(len(reason) > 10 for reason in case.exempt.values())


@pytest.mark.parametrize("op", [getattr(ops, n) for n in ops.__all__], ids=lambda op: op.__name__)
def test_every_op_says_what_it_computes(op: type[Op]) -> None:
    assert op.__doc__
    if op not in (Op, Fused):
        assert "y" in op.formula
        assert op.vjp.startswith("d")
        assert op.fused == issubclass(op, Fused)
        assert hasattr(op, "composed") == op.fused


# ---- derivatives --------------------------------------------------------------------------------


@cases("first")
def test_first_derivatives(case: Case, backend: str) -> None:
    inputs = place(case, case.draw(), backend)
    assert mg.gradcheck(lambda *x: run(case, list(x)), inputs, atol=1e-7, rtol=1e-6)


@cases("second")
def test_second_derivatives(case: Case, backend: str) -> None:
    inputs = place(case, case.draw(), backend)
    assert mg.gradgradcheck(lambda *x: run(case, list(x)), inputs, atol=1e-6, rtol=1e-5)


#: Central differences of 8th order: weights of f(x + k h) - f(x - k h).
STENCIL = (4 / 5, -1 / 5, 4 / 105, -1 / 280)


def directional(case: Case, inputs: list[Any], order: int) -> Any:
    """The ``order``-th derivative of a smooth function of the value, along fixed directions."""
    y = run(case, inputs)
    rng = np.random.default_rng(7)
    weights = wrap(home(y).from_host(rng.uniform(0.5, 1.5, y.shape), y.device))
    total = (weights * y * y).sum() + (weights * y).sum()
    sought = wanted(inputs)
    for _ in range(order):
        if not total.requires_grad:
            return total * 0.0
        slopes = mg.grad(
            total, sought, create_graph=True, allow_unused=True, materialize_grads=True
        )
        total = sum((g * d).sum() for g, d in zip(slopes, directions(sought), strict=True))
    return total


def directions(sought: list[Any]) -> list[Any]:
    rng = np.random.default_rng(8)
    return [
        wrap(home(x).from_host(np.asarray(rng.uniform(-1, 1, x.shape)), x.device)) for x in sought
    ]


def check_order(case: Case, backend: str, order: int, rtol: float) -> None:
    inputs = place(case, case.draw(), backend)
    found = directional(case, inputs, order).item()
    sought = wanted(inputs)
    origin = [x.array for x in sought]
    slope, scale, h = 0.0, 0.0, 5e-3
    for k, weight in enumerate(STENCIL, 1):
        for sign in (1, -1):
            for x, at, d in zip(sought, origin, directions(sought), strict=True):
                x.array = at + sign * k * h * d.array
            value = directional(case, inputs, order - 1).item()
            slope += sign * weight * value / h
            scale = max(scale, abs(value))
    assert found == pytest.approx(slope, rel=rtol, abs=1e-9 + 1e-10 * scale)


@cases("third")
def test_third_derivatives(case: Case, backend: str) -> None:
    check_order(case, backend, 3, 1e-6)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("case", "backend"),
    [
        pytest.param(c, b, id=f"{c.name}-{b}")
        for b in BACKENDS
        for c in CASES
        if c.make().__module__ == ops.BatchNorm.__module__
    ],
)
def test_normalization_to_fourth_order(case: Case, backend: str, order: int) -> None:
    check_order(case, backend, order, 1e-6)


# ---- fused equals composed ----------------------------------------------------------------------


@cases(fused=True)
def test_composed_arrays(case: Case, backend: str) -> None:
    inputs = place(case, case.draw(), backend)
    arrays = [getattr(x, "array", x) for x in inputs]
    fused = run(case, inputs)
    xp = BACKENDS[backend]
    composed = wrap(xp.asarray(made(case, backend).composed(xp, *arrays)))
    np.testing.assert_allclose(numbers(fused), numbers(composed), rtol=1e-12, atol=1e-13)


@cases(fused=True)
def test_composed_tensors(case: Case, backend: str) -> None:
    """The value, and the gradients of order 1 and 2."""
    inputs = place(case, case.draw(), backend)
    sought = wanted(inputs)
    results = []
    for composed in (False, True):
        op = made(case, backend)
        y = op.composed(tensors, *inputs) if composed else apply(op, *inputs)
        rng = np.random.default_rng(3)
        weights = wrap(home(y).from_host(rng.standard_normal(y.shape), y.device))
        total = (y * y * weights).sum()
        plain = mg.grad(total, sought, retain_graph=True)  # the kernel, or the rules of primitives
        first = mg.grad(total, sought, create_graph=True)
        second = mg.grad(sum((g * g).sum() for g in first), sought)
        results.append([y, *plain, *first, *second])
    for fused, primitive in zip(*results, strict=True):
        np.testing.assert_allclose(numbers(fused), numbers(primitive), rtol=1e-10, atol=1e-12)


# ---- dtypes, memory, shapes ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@cases("dtypes")
def test_dtype_is_kept(case: Case, backend: str, dtype: str) -> None:
    inputs = place(case, case.draw(), backend, dtype)
    y = run(case, inputs)
    assert y.dtype == dtype
    exact = run(case, place(case, case.draw(), backend))
    tolerance = {"float16": 1e-2, "float32": 1e-5, "float64": 0}[dtype]
    np.testing.assert_allclose(numbers(y), numbers(exact), rtol=tolerance, atol=tolerance)
    for create_graph in (False, True):
        slopes = mg.grad(y.sum(), wanted(inputs), retain_graph=True, create_graph=create_graph)
        assert [g.dtype for g in slopes] == [np.dtype(dtype)] * len(slopes)


@pytest.mark.parity
@pytest.mark.parametrize("call", ["sum", "mean", "std", "var", "norm", "cumsum", "logsumexp"])
def test_float16_adds_up_in_float32(call: str) -> None:
    """5000 ones are not 2048, the largest of float16's whole numbers that 1 can be added to."""
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).uniform(0, 2, (5000, 2)).astype("float16")
    x[:, 1] *= 150  # whose squares are infinite
    ours, theirs = (getattr(x, call)(dim=0) for x in (mg.tensor(x), torch.tensor(x)))
    assert ours.dtype == mg.float16
    np.testing.assert_allclose(numbers(ours), theirs.numpy(), rtol=2e-3)


@cases("strided")
def test_strided_inputs(case: Case, backend: str) -> None:
    values = case.draw()
    plain = place(case, values, backend)
    strided = place(case, [_strided(v) for v in values], backend)
    assert any(not x.is_contiguous() for x in strided if isinstance(x, mg.Tensor) and x.ndim)
    results = []
    for inputs in (plain, strided):
        y = run(case, inputs)
        seed = wrap(put(_strided(np.ones(y.shape) * 0.5), backend))
        results.append([y, *mg.grad(y, wanted(inputs), seed.to(y.dtype), retain_graph=True)])
    for a, b in zip(*results, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(numbers(a), numbers(b), rtol=1e-13, atol=1e-14)


def _strided(value: Any) -> Any:
    """The same values, every other element of a larger array, axes in reverse order in memory."""
    if not isinstance(value, np.ndarray) or not value.ndim:
        return value
    view = _strided_in(np.zeros, value.shape, value.dtype)
    view[...] = value
    return view


def _strided_in(zeros: Any, shape: Any, dtype: Any) -> Any:
    large = zeros([2 * n + 1 for n in shape[::-1]], dtype=dtype).T
    return large[tuple(slice(1, None, 2) for _ in shape)]


def check_small(case: Case, small: Any, backend: str) -> None:
    case = case.shaped(small.shapes, small.make)
    inputs = place(case, case.draw(), backend)
    if isinstance(small.gives, type):
        with pytest.raises(small.gives):
            run(case, inputs)
        return
    y = run(case, inputs)
    assert y.shape == small.gives
    for create_graph in (False, True):
        seed = wrap(home(y).ones_like(y.array))
        slopes = mg.grad(y, wanted(inputs), seed, retain_graph=True, create_graph=create_graph)
        for slope, x in zip(slopes, wanted(inputs), strict=True):
            assert slope.shape == x.shape
            assert slope.dtype == x.dtype


@cases("empty")
def test_empty_inputs(case: Case, backend: str) -> None:
    check_small(case, case.empty, backend)


@cases("scalar")
def test_scalar_inputs(case: Case, backend: str) -> None:
    check_small(case, case.scalar, backend)


BROADCASTING = [c for c in CASES if c.op.broadcasts and not issubclass(c.op, ops.SetItem)]


@pytest.mark.parametrize("case", BROADCASTING, ids=lambda c: c.name)
@given(data=st.data())
@settings(max_examples=15, deadline=None, derandomize=True)
def test_broadcasting(case: Case, data: Any) -> None:
    """Shapes drawn by Hypothesis: each gradient has the shape of its input, summed back right."""
    drawn = [i for i, g in enumerate(case.inputs) if g.drawn]
    core = 2 if case.op is ops.MatMul else 0
    shapes = data.draw(
        mutually_broadcastable_shapes(num_shapes=len(drawn), min_side=0, max_side=3, max_dims=3)
    )
    full: list[Any] = [None] * len(case.inputs)
    for i, shape in zip(drawn, shapes.input_shapes, strict=True):
        full[i] = (*shape, *((2, 3), (3, 2))[i]) if core else shape
    case = case.shaped(tuple(full))
    for backend in BACKENDS:
        inputs = place(case, case.draw(), backend)
        y = run(case, inputs)
        assert y.shape == ((*shapes.result_shape, 2, 2) if core else shapes.result_shape)
        seed = wrap(home(y).from_host(np.ones(y.shape), y.device))
        slopes = mg.grad(y, wanted(inputs), seed)
        # the same with every input stretched beforehand, and the sums taken here
        stretched = [
            x.expand(*shapes.result_shape, *x.shape[x.ndim - core :]).detach().clone()
            if isinstance(x, mg.Tensor)
            else x
            for x in inputs
        ]
        for x, spec in zip(stretched, case.inputs, strict=True):
            if spec.differentiable:
                x.requires_grad = True
        whole = mg.grad(run(case, stretched), wanted(stretched), seed)
        for x, slope, large in zip(wanted(inputs), slopes, whole, strict=True):
            summed = numbers(large)
            extra = summed.ndim - x.ndim
            summed = summed.sum(axis=tuple(range(extra)))
            ones = tuple(i for i, n in enumerate(x.shape) if n == 1)
            summed = summed.sum(axis=ones, keepdims=True)
            assert slope.shape == x.shape
            np.testing.assert_allclose(numbers(slope), summed, rtol=1e-12, atol=1e-12)


# ---- kernels that override the reference --------------------------------------------------------

KERNELS: dict[str, Any] = {}  # name -> function of (rng, size, dtype) that gives argument lists
ELSEWHERE = {
    "use_numba": "a switch, not a kernel",
    "compiles": "a question, not a kernel",
    "where": "tests/test_cpu.py",
    "add_bias": "a part of conv2d",
    "batch_norm_of": "a part of batch_norm",
    "batch_norm_backward_of": "a part of batch_norm_backward",
    "batch_norm_inference_of": "a part of batch_norm_inference",
    "channel_moments": "a part of batch_norm",
    "channel_scaled": "a part of batch_norm",
    "channel_products": "a part of batch_norm_backward",
    "channel_dx": "a part of batch_norm_backward",
    "row_norm": "a part of layer_norm",
    "row_norm_backward": "a part of layer_norm_backward",
    "device_of": "memory, not a kernel",
    "to_host": "memory, not a kernel",
    "from_host": "memory, not a kernel",
    "sgd_update": "tests/test_optim.py",
    "momentum_update": "tests/test_optim.py",
    "rmsprop_update": "tests/test_optim.py",
    "adam_update": "tests/test_optim.py",
    "adam_updates": "tests/test_optim.py",
    "adam_again": "tests/test_optim.py",
}
NONE = ((0, 0), (0, 0))


def kernel(function: Any) -> Any:
    KERNELS[function.__name__] = function
    return function


@kernel
def linear(draw: Any, n: int) -> Any:
    for shape in ((n, 3), (2, n, 3), (3,)):
        yield draw(*shape), draw(n, 3), draw(n)
        yield draw(*shape), draw(n, 3), None


@kernel
def linear_backward(draw: Any, n: int) -> Any:
    for shape in ((n,), (2, n), ()):
        yield draw(*shape, n), draw(*shape, 3), draw(n, 3), (True, True, True)
    yield draw(n, 3), draw(n, 2), draw(3, 2), (True, False, False)


CONVOLUTIONS = (
    ((1, 1), NONE, (1, 1), 1),
    ((2, 1), ((1, 1), (2, 2)), (1, 1), 1),
    ((1, 2), ((0, 1), (1, 0)), (2, 1), 2),
)


@kernel
def conv2d(draw: Any, n: int) -> Any:
    for stride, padding, dilation, groups in CONVOLUTIONS:
        weight = draw(2 * groups, 3, 2, 3)
        for bias in (draw(2 * groups), None):
            x = draw(n % 4 + 1, 3 * groups, n + 3, n + 4)
            yield x, weight, bias, stride, padding, dilation, groups


@kernel
def conv2d_backward(draw: Any, n: int) -> Any:
    for x, weight, bias, *rest in conv2d(draw, n):
        grad = np.zeros_like(Reference.conv2d(BACKENDS["numpy"], x, weight, bias, *rest))
        grad[...] = draw(*grad.shape)
        yield grad, x, weight, *rest, (True, True, True)
        yield grad, x, weight, *rest, (False, True, False)


POOLS = (((2, 2), (2, 2), NONE, (1, 1)), ((3, 2), (2, 1), ((1, 1), (1, 0)), (1, 1)))


def _pool_size(shape: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    return tuple(
        (n + sum(p) - d * (k - 1) - 1) // s + 1
        for n, p, k, s, d in zip(shape[-2:], padding, kernel, stride, dilation, strict=True)
    )


@kernel
def max_pool2d(draw: Any, n: int) -> Any:
    for options in (*POOLS, ((2, 2), (1, 2), NONE, (2, 1))):
        x = draw(2, n % 4 + 1, n + 3, n + 2)
        yield x, *options, _pool_size(x.shape, *options)


@kernel
def max_pool2d_backward(draw: Any, n: int) -> Any:
    for x, *options, size in max_pool2d(draw, n):
        y, winner = Reference.max_pool2d(BACKENDS["numpy"], x, *options, size)
        yield draw(*y.shape), winner, *options, x.shape


@kernel
def avg_pool2d(draw: Any, n: int) -> Any:
    for kernel, stride, padding, _ in POOLS:
        x = draw(2, n % 4 + 1, n + 3, n + 2)
        size = _pool_size(x.shape, kernel, stride, padding, (1, 1))
        yield x, kernel, stride, padding, size, draw(*size)


@kernel
def avg_pool2d_backward(draw: Any, n: int) -> Any:
    for x, kernel, stride, padding, size, share in avg_pool2d(draw, n):
        yield draw(*x.shape[:-2], *size), kernel, stride, padding, share, x.shape


def _normal_shapes(n: int) -> Any:
    return (n + 1, n), (2, n, 3), (2, 3, n, n)


@kernel
def moments(draw: Any, n: int) -> Any:
    for shape in _normal_shapes(n):
        yield draw(*shape), (0, *range(2, len(shape)))
        yield draw(*shape), (len(shape) - 1,)


@kernel
def batch_norm(draw: Any, n: int) -> Any:
    for shape in _normal_shapes(n):
        yield draw(*shape), draw(shape[1]), draw(shape[1]), 1e-5
        yield draw(*shape), None, None, 1e-3


@kernel
def batch_norm_backward(draw: Any, n: int) -> Any:
    for x, gamma, _, eps in batch_norm(draw, n):
        _, mean, _, inv_std = Reference.batch_norm(BACKENDS["numpy"], x, gamma, None, eps)
        yield draw(*x.shape), x, gamma, mean, inv_std, (True, True, True)
        yield draw(*x.shape), x, gamma, mean, inv_std, (True, False, False)


@kernel
def batch_norm_inference(draw: Any, n: int) -> Any:
    for x, gamma, beta, eps in batch_norm(draw, n):
        yield x, gamma, beta, draw(x.shape[1]), abs(draw(x.shape[1])), eps


@kernel
def batch_norm_inference_backward(draw: Any, n: int) -> Any:
    for x, gamma, _, mean, var, eps in batch_norm_inference(draw, n):
        yield draw(*x.shape), x, gamma, mean, var, eps, (True, True, True)
        yield draw(*x.shape), x, gamma, mean, var, eps, (False, True, False)


@kernel
def layer_norm(draw: Any, n: int) -> Any:
    for shape in _normal_shapes(n):
        for axes in ((len(shape) - 1,), tuple(range(1, len(shape)))):
            features = [shape[a] for a in axes]
            yield draw(*shape), draw(*features), draw(*features), axes, 1e-5
            yield draw(*shape), None, None, axes, 1e-3


@kernel
def layer_norm_backward(draw: Any, n: int) -> Any:
    for x, gamma, _, axes, eps in layer_norm(draw, n):
        _, mean, inv_std = Reference.layer_norm(BACKENDS["numpy"], x, gamma, None, axes, eps)
        yield draw(*x.shape), x, gamma, mean, inv_std, axes, (True, True, True)
        yield draw(*x.shape), x, gamma, mean, inv_std, axes, (True, False, False)


@kernel
def relu(draw: Any, n: int) -> Any:
    yield (draw(n, n + 1),)
    yield (draw(70, n, 20),)
    yield (np.transpose(draw(3, 20, n, 20), (0, 3, 1, 2)),)
    yield (np.where(draw(n, n) > 0, np.nan, -np.inf).astype(draw(1).dtype),)


@kernel
def relu_backward(draw: Any, n: int) -> Any:
    for (x,) in relu(draw, n):
        yield draw(*x.shape), x


@kernel
def sigmoid(draw: Any, n: int) -> Any:
    yield from relu(draw, n)
    yield (300 * draw(n, n),)


@kernel
def sigmoid_backward(draw: Any, n: int) -> Any:
    for (x,) in relu(draw, n):
        yield draw(*x.shape), np.tanh(x)


@kernel
def softmax(draw: Any, n: int) -> Any:
    for axis in (0, 1):
        yield draw(n, n + 1), axis


KERNELS["log_softmax"] = softmax


@kernel
def softmax_cross_entropy(draw: Any, n: int) -> Any:
    for ignored in (-100, 1):
        yield draw(n, 3), np.arange(n) % 3, ignored


@kernel
def softmax_cross_entropy_backward(draw: Any, n: int) -> Any:
    for logits, target, ignored in softmax_cross_entropy(draw, n):
        found = Reference.softmax_cross_entropy(BACKENDS["numpy"], logits, target, ignored)
        yield draw(n), found[1], target, ignored
        yield draw(), found[1], target, ignored


def overrides() -> list[tuple[str, str]]:
    public = [
        name
        for name, function in inspect.getmembers(Reference, inspect.isfunction)
        if name[0] != "_" and name not in vars(Backend)
    ]
    return [
        (backend, name)
        for backend, xp in BACKENDS.items()
        if backend != "cupy"  # tests/gpu/test_kernels_*.py
        for name in public
        if getattr(type(xp), name) is not getattr(Reference, name) and name not in ELSEWHERE
    ]


def test_every_kernel_has_arguments() -> None:
    assert ("numpy", "conv2d") in overrides()
    assert {name for _, name in overrides()} <= set(KERNELS)


@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 3, 17])
@pytest.mark.parametrize(("backend", "name"), overrides())
def test_override_equals_reference(
    backend: str, name: str, n: int, dtype: str, strided: bool
) -> None:
    xp, rng = BACKENDS[backend], np.random.default_rng(n)

    def draw(*shape: int) -> Any:
        values = np.asarray(rng.standard_normal(shape)).astype(dtype)
        return _strided(values) if strided else values

    for host in KERNELS[name](draw, n):
        arguments = [xp.from_host(a, "cpu") if isinstance(a, np.ndarray) else a for a in host]
        with quiet():  # as ops run them
            expected = getattr(Reference, name)(xp, *arguments)
            found = getattr(xp, name)(*arguments)
        if not isinstance(expected, tuple):
            expected, found = (expected,), (found,)
        tolerance = 1e-12 if dtype == "float64" else 2e-5
        for e, f in zip(expected, found, strict=True):
            if e is None:
                assert f is None
                continue
            assert f.shape == e.shape
            assert f.dtype == e.dtype
            np.testing.assert_allclose(xp.to_host(f), xp.to_host(e), rtol=tolerance, atol=tolerance)


# ---- in a captured step -------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_captured_op_computes_what_it_is_given(case: Case) -> None:
    def step(*inputs: Any) -> Any:
        y = run(case, list(inputs))
        needed = [x for x in wanted(list(inputs)) if y.requires_grad]
        return y.detach(), mg.autograd.grad(y, needed, mg.ones_like(y)) if needed else ()

    compiled = mg.compile(step)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for seed in (0, 0, 1, 2):
            inputs = place(case, case.draw(seed), "numpy")
            y, grads = step(*inputs)
            found, slopes = compiled(*inputs)
            for a, b in zip((y, *grads), (found, *slopes), strict=True):
                np.testing.assert_array_equal(numbers(b), numbers(a))
    why = [str(w.message) for w in told if "compile:" in str(w.message)]
    assert not any("a captured call differs" in w for w in why), why


# ---- PyTorch ------------------------------------------------------------------------------------


def torch_inputs(torch: Any, case: Case, values: list[Any], dtype: str = "float64") -> list[Any]:
    placed = []
    for spec, value in zip(case.inputs, values, strict=True):
        if spec.drawn:
            value = torch.tensor(np.asarray(value))
            if value.dtype.is_floating_point:
                value = value.to(getattr(torch, dtype)).requires_grad_(spec.differentiable)
        placed.append(value)
    return placed


def check_parity(case: Case, backend: str, values: list[Any], rtol: float = 1e-10) -> None:
    torch = pytest.importorskip("torch")
    theirs_in = torch_inputs(torch, case, values)
    call = case.same or case.oracle
    theirs = call(torch, *theirs_in)
    weights = np.random.default_rng(5).uniform(0.5, 1.5, theirs.shape)
    sought = [x for x in theirs_in if isinstance(x, torch.Tensor) and x.requires_grad]
    seed = torch.tensor(weights, dtype=theirs.dtype)
    slopes = torch.autograd.grad(theirs, sought, seed, allow_unused=True)
    ways = [lambda *x: run(case, list(x))]
    if case.same:
        ways.append(lambda *x: case.same(mg, *x))
    for way in ways:
        inputs = place(case, values, backend)
        ours = way(*inputs)
        assert ours.shape == tuple(theirs.shape)
        assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
        np.testing.assert_allclose(numbers(ours), theirs.detach().numpy(), rtol=rtol, atol=1e-12)
        seed = wrap(home(ours).from_host(weights, ours.device)).to(ours.dtype)
        found = mg.grad(ours, wanted(inputs), seed, allow_unused=True)
        for a, b in zip(found, slopes, strict=True):
            np.testing.assert_allclose(
                numbers(a), 0 if b is None else b.numpy(), rtol=rtol, atol=1e-12
            )


@pytest.mark.parity
@cases("parity")
def test_parity(case: Case, backend: str) -> None:
    check_parity(case, backend, case.draw())


SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 20.0, -20.0, 40.0, -90.0, 1e-9])


@pytest.mark.parity
@pytest.mark.parametrize("case", [c for c in CASES if c.edges], ids=lambda c: c.name)
def test_parity_at_the_edges(case: Case) -> None:
    """0, infinities, NaN, large and small, every pair of them: values and gradients of PyTorch."""
    drawn = [i for i, g in enumerate(case.inputs) if g.drawn]
    full: list[Any] = [None] * len(case.inputs)
    values = case.draw()
    shapes = {1: [(-1,)], 2: [(-1, 1), (1, -1)], 3: [(2, 1, 1), (-1, 1), (1, -1)]}[len(drawn)]
    for i, shape in zip(drawn, shapes, strict=True):
        special = SPECIAL if case.edges == "all" else SPECIAL[~np.isnan(SPECIAL)]
        value = np.array([True, False]) if case.inputs[i].kind == "mask" else special
        values[i] = value.reshape(shape)
        full[i] = values[i].shape
    for backend in BACKENDS:
        check_parity(case.shaped(tuple(full)), backend, values, rtol=1e-8)


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "bool"])
@pytest.mark.parametrize("case", [c for c in CASES if c.same], ids=lambda c: c.name)
def test_integers_as_in_pytorch(case: Case, dtype: str) -> None:
    """The same dtype and values, or an error in both."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    values = [
        rng.integers(1, 5, g.shape).astype(dtype) if g.drawn and g.kind != "mask" else v
        for g, v in zip(case.inputs, case.draw(), strict=True)
    ]
    arrays = [isinstance(v, np.ndarray) for v in values]
    try:
        theirs = case.same(
            torch, *(torch.tensor(v) if a else v for v, a in zip(values, arrays, strict=True))
        )
    except (RuntimeError, TypeError, NotImplementedError):
        return  # PyTorch has no such op for these; minigrad may
    ours_in = [mg.tensor(v) if a else v for v, a in zip(values, arrays, strict=True)]
    ours = case.same(mg, *ours_in)
    assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
    np.testing.assert_allclose(numbers(ours), theirs.numpy(), rtol=1e-5)
