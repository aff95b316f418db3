"""How tensors print: up to the name of the gradient function, the text of PyTorch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.formatting import set_printoptions


def arrays() -> Iterator[Any]:
    """A few hundred arrays of every kind that prints in its own way."""
    rng = np.random.default_rng(0)
    shapes = [(), (1,), (3,), (2, 3), (1, 1), (2, 1, 3), (2, 2, 2, 2), (30,), (4, 25), (17,)]
    for shape in shapes:
        values = rng.standard_normal(shape)
        yield values.astype(np.float32)
        yield values
        yield values.astype(np.float16)
        for scale in (1e-3, 1e-6, 1e3, 1e5, 1e7, 1e9, 1e30):
            yield np.asarray(values * scale).astype(np.float32)
        yield np.round(values * 5).astype(np.float32)
        yield np.round(values * 1e5).astype(np.float32)
        yield np.round(values * 1e12).astype(np.float32)
        for dtype in (np.int64, np.int32, np.uint8):
            yield np.asarray(abs(values) * 90).astype(dtype)
        yield np.asarray(values * 1e10).astype(np.int64)
        yield np.asarray(values > 0)
    f = np.float32
    inf, nan = np.inf, np.nan
    for numbers in (
        [inf], [-inf, 1.0], [nan], [nan, 2.0], [inf, 0.5], [nan, inf, -inf], [1e-8, nan],
        [0.0], [-0.0], [0.0, -0.0, 1.0], [1e10, nan], [1.0, 1e9], [1.0, 1e8], [0.1, 99.0],
        [0.1, 101.0], [0.001, 1.0], [0.0009, 1.0], [1e-4, 0.05], [9e-5, 0.05], [123456.7, 0.1],
        [12345.0, 1.0], [1e8, 2e8], [1.5e8], [99999.0, 0.5], [1e-45], [3.4e38], [1.00004, 2.0],
        [0.00004], [1e4, 1e-1], [1e3, 1.0001], [2.0, inf], [1e9, inf], [1000.5, 0.75],
    ):  # fmt: skip
        yield np.array(numbers, f)
        yield np.array([numbers, numbers], np.float64)
    for shape in ((0,), (0, 3), (2, 0), (1, 0, 2)):
        for dtype in (np.float32, np.float64, np.int64, np.int32, np.bool_):
            yield np.zeros(shape, dtype)
    for shape in ((1001,), (2000,), (40, 40), (7, 200), (200, 7), (11, 11, 11), (2, 3, 400)):
        yield rng.standard_normal(shape).astype(f)
        yield np.arange(np.prod(shape)).reshape(shape)
        yield (rng.standard_normal(shape) * 1e-7).astype(f)
        yield rng.standard_normal(shape) > 0
    yield np.arange(1000.0).astype(f)
    yield rng.standard_normal((3, 50)).astype(f)


ARRAYS = list(arrays())


@pytest.mark.parity
@pytest.mark.parametrize("k", range(len(ARRAYS)))
def test_repr_is_that_of_pytorch(k: int) -> None:
    torch = pytest.importorskip("torch")
    array = ARRAYS[k]
    ours, theirs = mg.tensor(array), torch.tensor(array)
    exactly = array.dtype in (np.float32, np.int64, np.bool_)  # the others' names differ in length
    check(repr(ours), repr(theirs), exactly)
    if array.dtype.kind == "f":
        check(repr(ours.requires_grad_()), repr(theirs.requires_grad_()), exactly)
        check(repr(ours * 1), repr(theirs * 1), False)


def check(ours: str, theirs: str, exactly: bool) -> None:
    """The same text; but for line breaks before a note whose name is longer there."""
    theirs = theirs.replace("dtype=torch.", "dtype=").replace("<MulBackward0>", "<Mul>")
    if not exactly:
        ours, theirs = (re.sub(r",\n +(?=[a-z_]+=)", ", ", text) for text in (ours, theirs))
    assert ours == theirs


def test_enough_are_compared() -> None:
    assert len(ARRAYS) > 200


def test_notes_after_the_values() -> None:
    x = mg.tensor([1.0, 2.5], requires_grad=True)
    assert repr(x) == "tensor([1.0000, 2.5000], requires_grad=True)"
    assert repr(x * 2) == "tensor([2., 5.], grad_fn=<Mul>)"
    assert repr(x.detach()) == "tensor([1.0000, 2.5000])"
    assert repr(mg.zeros(0, 2)) == "tensor([], size=(0, 2))"
    assert repr(mg.tensor([1], dtype="int32")) == "tensor([1], dtype=int32)"
    assert str(mg.tensor(3)) == "tensor(3)"
    assert repr(nn.Parameter(mg.ones(2))) == (
        "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
    )


@pytest.mark.parity
@pytest.mark.parametrize(
    "options",
    [
        {"precision": 2},
        {"precision": 7},
        {"threshold": 5},
        {"threshold": 5, "edgeitems": 1},
        {"linewidth": 40},
        {"linewidth": 120},
        {"sci_mode": True},
        {"sci_mode": False},
    ],
    ids=str,
)
def test_printoptions(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    defaults = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80}
    set_printoptions(**options)
    torch.set_printoptions(**options)
    try:
        for array in ARRAYS[::7]:
            check(repr(mg.tensor(array)), repr(torch.tensor(array)), False)
    finally:
        set_printoptions(**defaults, sci_mode=None)
        torch.set_printoptions(**defaults, sci_mode=None)
