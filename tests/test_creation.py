"""New tensors: from data, filled, and random."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DeviceError, DtypeError, ShapeError
from tests.test_tensor import expressions, same

CALLS = """
t.tensor(3) ; t.tensor(3.5) ; t.tensor(True) ; t.tensor([1, 2]) ; t.tensor([1, 2.5])
t.tensor([True, False]) ; t.tensor([[1], [2]]) ; t.tensor([]) ; t.tensor([[]])
t.tensor([[], []]) ; t.tensor((1, 2)) ; t.tensor([(1, 2), [3, 4]]) ; t.tensor([True, 2])
t.tensor([True, 2.5]) ; t.tensor([1.5], dtype=t.int64) ; t.tensor([1, 0], dtype=t.bool)
t.tensor([1], dtype=t.float16) ; t.tensor(2**40) ; t.tensor([1e300], dtype=t.float64)
t.tensor(np.float64(3)) ; t.tensor(np.int8(3)) ; t.tensor(np.ones(2))
t.tensor(np.ones((2, 1), np.float32)) ; t.tensor(np.array([True])) ; t.tensor(range(3))
t.tensor([t.tensor(1.0), t.tensor(2.0)]) ; t.tensor(np.arange(3, dtype=np.uint8))
t.tensor(np.ones((2, 3)).T) ; t.tensor(float("inf")) ; t.tensor([float("nan")])
t.as_tensor([1, 2]) ; t.as_tensor(3.0) ; t.as_tensor(np.ones(2))
t.as_tensor([1], dtype=t.float64) ; t.asarray([1.5]) ; t.from_numpy(np.ones(2, np.int32))
t.zeros(2, 3) ; t.zeros((2, 3)) ; t.zeros([2]) ; t.zeros(()) ; t.zeros(0, 3) ; t.ones(2)
t.ones(2, dtype=t.int64) ; t.ones(2, dtype=t.bool) ; t.zeros(3).requires_grad ; t.full((2,), 3)
t.full((2, 2), 1.5) ; t.full((), True) ; t.full((2,), 1, dtype=t.float64)
t.full([1], float("nan")) ; t.empty(2, 3).shape == (2, 3) ; t.eye(3) ; t.eye(2, 3)
t.eye(2, dtype=t.int64) ; t.eye(0) ; t.arange(5) ; t.arange(2, 5) ; t.arange(0, 10, 3)
t.arange(5, 0, -2) ; t.arange(0.0, 1, 0.25) ; t.arange(3.0) ; t.arange(1, 2.5, 0.5) ; t.arange(0)
t.arange(5, dtype=t.float64) ; t.arange(0, 1, 0.1) ; t.arange(1.0, 0.0, -0.3)
t.arange(2.5, dtype=t.int64) ; t.linspace(0, 1, 5) ; t.linspace(-1, 1, 1)
t.linspace(0, 10, 3, dtype=t.float64) ; t.linspace(2, 1, 4) ; t.linspace(0, 1, 0)
t.linspace(0, 10, 3, dtype=t.int64) ; t.zeros_like(t.ones(2, dtype=t.int32))
t.ones_like(t.zeros(2, 1)) ; t.full_like(t.zeros(2), 7)
t.full_like(t.zeros(2, dtype=t.int64), 7) ; t.zeros_like(t.ones(1), dtype=t.bool)
t.empty_like(t.ones(2)).shape == (2,) ; t.ones(2, requires_grad=True).requires_grad
t.tensor([1.0], requires_grad=True).is_leaf ; t.rand(2, 3).shape == (2, 3)
t.randn(2).dtype == t.float32 ; t.randint(5, (2, 2)).dtype == t.int64 ; t.randperm(4).sort()[0]
t.rand(2, dtype=t.float64).dtype == t.float64 ; t.rand(()).shape == () ; t.randn(()).shape == ()
t.randint(0, 1, ()) ; t.randperm(0) ; t.rand_like(t.ones(2, dtype=t.float16)).dtype == t.float16
t.randn_like(t.ones(2)).shape == (2,) ; t.randint_like(t.ones(3), 2, 3) ; t.bernoulli(t.ones(2))
t.bernoulli(t.zeros(2, dtype=t.float64)) ; t.normal(0.0, 0.0, (2,)) ; t.normal(t.ones(2), 0.0)
t.normal(t.ones(2), t.zeros(2)) ; t.multinomial(t.tensor([0.0, 1.0, 0.0]), 1)
t.multinomial(t.tensor([[0.0, 1.0], [1.0, 0.0]]), 3, replacement=True) ; t.Tensor([1, 2])
t.Tensor([[1.5]]) ; t.get_default_dtype() == t.float32 ; t.is_tensor(t.ones(1))
t.tensor([1, 2]).new_tensor([1.5, 2]) ; t.bernoulli(t.zeros(3), 1.0)
t.multinomial(t.tensor([1.0, 1.0, 0.0]), 2).sort()[0] ; t.tensor(t.tensor(2)).dtype == t.int64
"""


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, about copies and NumPy integers
@pytest.mark.parametrize("expression", expressions(CALLS))
def test_same_as_pytorch(expression: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = (eval(expression, {"t": t, "np": np}) for t in (mg, torch))
    same(ours, theirs)


def test_tensor_copies() -> None:
    array = np.ones(3, dtype=np.float32)
    for x in (mg.tensor(array), mg.tensor(mg.from_numpy(array)), mg.tensor(array[::-1])):
        x[0] = 5
    assert array.tolist() == [1, 1, 1]
    assert mg.as_tensor(x) is x
    assert mg.as_tensor(x, dtype="float64").dtype == mg.float64


def test_errors() -> None:
    for data in ([[1, 2], [3]], [[1], 2]):
        for dtype in (None, "float32"):
            with pytest.raises(ShapeError, match="rows of equal length"):
                mg.tensor(data, dtype=dtype)
    for data in ("text", [None], [1j], object(), np.array(["a"]), np.ones(1, np.complex64)):
        with pytest.raises((DtypeError, TypeError)):
            mg.tensor(data)
    for array in (np.ones(1, np.uint16), np.ones(1, np.longdouble), np.ones(1, ">f4")):
        for make in (mg.tensor, mg.as_tensor, mg.from_numpy):
            with pytest.raises(DtypeError, match="not supported"):
                make(array)
    with pytest.raises(TypeError, match=r"numpy\.ndarray"):
        mg.from_numpy([1, 2])
    with pytest.raises(ValueError, match="other sign"):
        mg.arange(0, 5, -1)
    with pytest.raises(ValueError, match="step"):
        mg.arange(0, 5, 0)
    with pytest.raises(ValueError, match="low < high"):
        mg.randint(3, 3, (2,))
    with pytest.raises(TypeError, match="size"):
        mg.randint(3)
    with pytest.raises(ShapeError, match="size"):
        mg.normal(0.0, 1.0)
    with pytest.raises(ValueError, match="std"):
        mg.normal(0.0, -1.0, (2,))
    with pytest.raises(ValueError, match="probabilities"):
        mg.bernoulli(mg.tensor([1.5]))
    with pytest.raises(DtypeError, match="weights"):
        mg.multinomial(mg.tensor([-1.0, 2.0]), 1)
    with pytest.raises(DtypeError, match="only floating"):
        mg.ones(2, dtype="int64", requires_grad=True)
    with pytest.raises(DeviceError, match=r"pip install"):
        mg.ones(2, device="cuda")
    with pytest.raises(DeviceError, match="not known"):
        mg.ones(2, device="tpu")


def test_default_dtype() -> None:
    mg.set_default_dtype("float64")
    try:
        made = (mg.zeros(1), mg.tensor(1.5), mg.rand(1), mg.tensor([1]) / 2, mg.Tensor([1]))
        assert [x.dtype for x in made] == [mg.float64] * 5
        assert (mg.ones(1, dtype="float32") * 2.5).dtype == mg.float32
    finally:
        mg.set_default_dtype(mg.float32)
    with pytest.raises(DtypeError, match="floating"):
        mg.set_default_dtype(mg.int64)


# ---- random numbers -----------------------------------------------------------------------------

DRAWS = {
    "rand": lambda **g: mg.rand(20, **g),
    "randn": lambda **g: mg.randn(20, **g),
    "randint": lambda **g: mg.randint(1000, (20,), **g),
    "randperm": lambda **g: mg.randperm(20, **g),
    "bernoulli": lambda **g: mg.bernoulli(mg.full((20,), 0.5), **g),
    "normal": lambda **g: mg.normal(0.0, 1.0, (20,), **g),
    "multinomial": lambda **g: mg.multinomial(mg.ones(50), 20, **g),
    "normal_": lambda **g: mg.zeros(20).normal_(**g),
    "uniform_": lambda **g: mg.zeros(20).uniform_(**g),
    "bernoulli_": lambda **g: mg.zeros(20).bernoulli_(**g),
    "random_": lambda **g: mg.zeros(20).random_(1000, **g),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_seeds(draw: Any) -> None:
    mg.manual_seed(3)
    a, b = draw(), draw()
    mg.manual_seed(3)
    assert draw().equal(a)
    state = mg.get_rng_state()
    assert draw().equal(b)
    mg.set_rng_state(state)
    assert draw().equal(b)
    assert not a.equal(b)
    mg.manual_seed(4)
    assert not draw().equal(a)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_generators(draw: Any) -> None:
    generator = mg.Generator().manual_seed(3)
    mg.manual_seed(3)
    expected = draw()
    before = mg.get_rng_state()
    assert draw(generator=generator).equal(expected)
    assert mg.get_rng_state() == before  # the default generator was not touched
    state = generator.get_state()
    later = draw(generator=generator)
    assert draw(generator=mg.Generator().set_state(state)).equal(later)


def test_generator_seeds() -> None:
    generator = mg.Generator()
    assert generator.initial_seed() != mg.Generator().initial_seed()
    assert generator.manual_seed(-5).initial_seed() == -5
    assert mg.manual_seed(11) is mg.generator.default_generator
    assert mg.initial_seed() == 11
    assert generator.seed() == generator.initial_seed()


def test_distributions() -> None:
    """Mean and spread within 5 standard errors."""
    mg.manual_seed(0)
    n = 20_000
    for x, mean, std in (
        (mg.rand(n), 0.5, 12**-0.5),
        (mg.randn(n), 0, 1),
        (mg.randn(n, dtype="float64") * 2 + 1, 1, 2),
        (mg.normal(3.0, 0.5, (n,)), 3, 0.5),
        (mg.randint(0, 5, (n,)).double(), 2, 2**0.5),
        (mg.bernoulli(mg.full((n,), 0.25)), 0.25, 0.1875**0.5),
        (mg.zeros(n).uniform_(-1, 3), 1, 4 * 12**-0.5),
        (mg.zeros(n).bernoulli_(0.75), 0.75, 0.1875**0.5),
        (mg.multinomial(mg.tensor([1.0, 0.0, 3.0]), n, replacement=True).double(), 1.5, 0.75**0.5),
    ):
        x = x.double()
        assert abs(x.mean().item() - mean) < 5 * std / n**0.5
        assert abs(x.std().item() - std) < 0.05 * std
    for dtype in ("float16", "float32", "float64"):
        x = mg.rand(n, dtype=dtype)
        assert x.min().item() >= 0
        assert x.max().item() < 1
    assert mg.randperm(100).sort().values.tolist() == list(range(100))
    assert set(mg.randint(2, 5, (n,)).tolist()) == {2, 3, 4}
