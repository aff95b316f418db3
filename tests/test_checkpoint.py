"""checkpoint: the same numbers, with less in memory."""

import gc
import tracemalloc

import numpy as np
import pytest

import minigrad as mg
from minigrad import checkpoint, nn


def net(*more):
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), *more, nn.Linear(16, 3)).double()


def gradients(model, run):
    x = mg.arange(20, dtype=mg.float64).reshape(5, 4).div(10).requires_grad_()
    model.zero_grad()
    mg.manual_seed(1)
    y = run(x * 1)
    (y * y).sum().backward()
    return [y.array, x.grad.array, *(p.grad.array for p in model.parameters()), mg.rand(2).array]


@pytest.mark.parametrize("more", [(), (nn.Dropout(0.5),), (nn.BatchNorm1d(16),)])
def test_the_numbers_are_the_same(more):
    model = net(*more)
    plain = gradients(model, model)
    for a, b in zip(gradients(model, lambda x: checkpoint(model, x)), plain, strict=True):
        np.testing.assert_array_equal(a, b)


def test_random_numbers_are_drawn_anew_where_that_is_asked_for():
    model = nn.Dropout(0.5)
    x = mg.ones(1000, requires_grad=True)
    y = checkpoint(model, x, preserve_rng_state=False)
    y.sum().backward()
    assert not np.array_equal(y.array, x.grad.array)


def test_second_derivatives():
    model = net()
    x = mg.rand(3, 4, dtype=mg.float64, requires_grad=True)
    assert mg.gradgradcheck(lambda x: checkpoint(model, x), x)
    (slope,) = mg.grad(checkpoint(model, x).sum(), x, create_graph=True)
    (slope**2).sum().backward()
    expected = [p.grad for p in model.parameters()]
    model.zero_grad()
    (slope,) = mg.grad(model(x).sum(), x, create_graph=True)
    (slope**2).sum().backward()
    for p, g in zip(model.parameters(), expected, strict=True):
        if g is not None or p.grad is not None:
            np.testing.assert_allclose(g.array, p.grad.array, rtol=1e-12)


def test_several_results_and_arguments():
    w = mg.tensor([2.0, 3.0], requires_grad=True)

    def function(x, factor, *, shift):
        return x * w * factor, (x + shift).sum()

    x = mg.tensor([1.0, 4.0], requires_grad=True)
    a, b = checkpoint(function, x, 2, shift=1)
    assert a.tolist() == [4, 24] and b.item() == 7
    (a.sum() + 3 * b).backward()
    assert x.grad.tolist() == [7, 9] and w.grad.tolist() == [2, 8]


def test_a_chain_of_checkpoints_holds_less():
    layers = [nn.Sequential(nn.Linear(256, 256), nn.Tanh(), nn.GELU()) for _ in range(16)]
    x = mg.rand(512, 256)

    def held(run):
        gc.collect()
        tracemalloc.start()
        y = x
        for part in range(0, 16, 4):
            y = run(nn.Sequential(*layers[part : part + 4]), y)
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        y.sum().backward()
        return kept

    plain = [held(lambda f, y: f(y)) for _ in range(2)][1]  # the first time, code is loaded
    assert held(checkpoint) < plain / 3


def test_without_recording_it_is_the_function():
    with mg.no_grad():
        assert checkpoint(net(), mg.rand(2, 4, dtype=mg.float64)).grad_fn is None


def test_it_is_part_of_a_captured_step():
    model = net()

    @mg.compile
    def step(x):
        model.zero_grad()
        checkpoint(model, x).sum().backward()

    for _ in range(3):
        step(mg.rand(5, 4, dtype=mg.float64))
    assert step.plain is None and model[0].weight.grad is not None


def test_what_it_refuses():
    w = mg.tensor([1.0], requires_grad=True) * 2
    x = mg.tensor([1.0], requires_grad=True)
    with pytest.raises(mg.GraphError, match=r"uses the result of Mul.*pass it as an argument"):
        checkpoint(lambda x: x * w, x)
    with pytest.raises(TypeError, match="returns a tensor, or a tuple or list of them; got dict"):
        checkpoint(lambda x: {"y": x}, x)
    with pytest.raises(mg.DtypeError, match="results of one dtype"):
        checkpoint(lambda x: (x, x.double()), x)
    with pytest.raises(ValueError, match="no reentrant form"):
        checkpoint(lambda x: x, x, use_reentrant=True)
