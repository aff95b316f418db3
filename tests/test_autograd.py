"""Gradients on request: backward, grad, modes of recording, hooks, changes in place, checks."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import ops
from minigrad.errors import DtypeError, GraphError, ShapeError
from minigrad.tensor import apply


def leaf(*values: float) -> mg.Tensor:
    return mg.tensor(list(values), dtype="float64", requires_grad=True)


# ---- backward -----------------------------------------------------------------------------------


def test_gradients_add_up_over_uses_and_calls() -> None:
    x = leaf(3.0)
    (x * x + x).sum().backward()
    assert x.grad.tolist() == [7]
    first = x.grad
    (2 * x).sum().backward()
    assert x.grad.tolist() == [9]
    assert x.grad is first
    x.grad = None
    x.sum().backward()
    assert x.grad.tolist() == [1]


def test_backward_of_a_leaf() -> None:
    x = leaf(3.0)
    x.backward()
    x.backward(mg.tensor([2.0], dtype="float64"))
    assert x.grad.tolist() == [3]


def test_leaves_do_not_share_a_gradient() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    seed = mg.ones(2, dtype="float64")
    (x + y).backward(seed)
    x.grad.add_(1)
    assert y.grad.tolist() == [1, 1]
    assert seed.tolist() == [1, 1]
    z = leaf(1.0, 2.0)
    z.reshape(2, 1).sum().backward()
    z.grad[0] = 5  # a view of nothing else, and writable
    assert z.grad.tolist() == [5, 1]


def test_backward_needs_a_scalar_or_a_gradient() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(
        GraphError,
        match=r"^backward\(\) on a tensor of shape \(2,\) needs a gradient; call \.sum\(\) or "
        r"\.mean\(\) first, or pass gradient=\.$",
    ):
        (x * 2).backward()
    with pytest.raises(ShapeError, match=r"gradient= must have shape \(2,\), got \(3,\)"):
        (x * 2).backward(mg.ones(3))
    (x * 2).backward(mg.ones(2))  # float32 for float64: converted
    assert x.grad.dtype == mg.float64


def test_second_backward() -> None:
    x = leaf(2.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(
        GraphError,
        match=r"^this graph was freed by an earlier backward\(\); "
        r"pass retain_graph=True to the first call\.$",
    ):
        y.backward()
    assert x.grad.tolist() == [4]
    z = (x * x).sum()
    for _ in range(3):
        z.backward(retain_graph=True)
    z.backward()
    with pytest.raises(GraphError):
        z.backward()
    assert x.grad.tolist() == [20]


def test_what_saved_nothing_can_be_swept_again() -> None:
    x = leaf(2.0)
    y = (x + 1).sum()
    y.backward()
    y.backward()
    assert x.grad.tolist() == [2]


def test_backward_frees_what_was_kept() -> None:
    x = leaf(*range(10))
    y = x.exp()
    kept = weakref.ref(y.array)
    z = (y * y).sum()
    del y
    assert kept() is not None
    z.backward()
    assert kept() is None


def test_nothing_is_kept_that_no_rule_reads() -> None:
    x = leaf(*range(10))
    middle = x * 2
    kept = weakref.ref(middle.array)
    y = (middle + 1).sum()
    del middle
    assert kept() is None
    y.backward()
    constant = mg.ones(10, dtype="float64")
    y = x * constant  # reads the constant for x; x itself for nobody
    assert y.grad_fn.saved[0] is None
    assert y.grad_fn.saved[1] is constant.array


def test_a_graph_dies_by_reference_count() -> None:
    gc.disable()
    try:
        x = leaf(1.0)
        y = (x.exp() * x).sum()
        op = weakref.ref(y._op.inputs[0].saved[0])
        del y
        assert op() is None
    finally:
        gc.enable()


def test_a_failed_sweep_leaves_gradients_alone() -> None:
    class Broken(ops.Op):
        """Fails on the way back."""

        formula, vjp = "y = x", "dx raises"

        def forward(self, xp: Any, x: Any) -> Any:
            return x * 1

        def backward(self, xp: Any, grad: Any) -> Any:
            raise ArithmeticError("on purpose")

    x, w = leaf(1.0), leaf(2.0)
    x.grad = mg.tensor([5.0], dtype="float64")
    with pytest.raises(ArithmeticError):
        (w * 3 + apply(Broken(), x)).sum().backward()
    assert x.grad.tolist() == [5]
    assert w.grad is None


def test_backward_with_inputs() -> None:
    x, w = leaf(2.0), leaf(3.0)
    h = x * w
    y = (h * h).sum()
    y.backward(inputs=[w, h])
    assert x.grad is None
    assert w.grad.tolist() == [24]
    assert h.grad.tolist() == [12]
    with pytest.raises(GraphError, match="reach nothing"):
        (x * x).sum().backward(inputs=[])
    with pytest.raises(GraphError, match="requires no gradient"):
        (x * x).sum().backward(inputs=[mg.ones(1)])
    (x * x).sum().backward(inputs=x)
    assert x.grad.tolist() == [4]


def test_several_roots() -> None:
    x = leaf(2.0)
    a, b = x * x, x * 3
    mg.autograd.backward([a, b, a], [mg.ones(1), None, mg.ones(1)])
    assert x.grad.tolist() == [11]


# ---- grad ---------------------------------------------------------------------------------------


def test_grad_leaves_grad_alone() -> None:
    x = leaf(3.0)
    (g,) = mg.grad(x**2, x)
    assert g.tolist() == [6]
    assert not g.requires_grad
    assert x.grad is None


def test_grad_of_inner_nodes() -> None:
    x = leaf(2.0)
    a = x * x
    b = a.exp()
    y = (a * b).sum()
    gx, ga, gb, gy = mg.grad(y, [x, a, b, y], retain_graph=True)
    assert gb.item() == 4
    assert ga.item() == pytest.approx(np.exp(4) * 5)
    assert gx.item() == pytest.approx(np.exp(4) * 20)
    assert gy.item() == 1
    (ga,) = mg.grad(y, a)  # stops at a: x's part of the graph stays usable
    (gx,) = mg.grad(a, x)
    assert gx.item() == 4


def test_unused_inputs() -> None:
    x, w = leaf(2.0), leaf(1.0, 1.0)
    with pytest.raises(GraphError, match=r"input 1, of shape \(2,\).*allow_unused=True"):
        mg.grad(x * 2, [x, w])
    assert mg.grad(x * 2, [x, w], allow_unused=True)[1] is None
    zeros = mg.grad(x * 2, [x, w], materialize_grads=True)[1]
    assert zeros.tolist() == [0, 0]
    assert zeros.dtype == mg.float64
    with pytest.raises(GraphError, match="does not require"):
        mg.grad(x * 2, mg.ones(1))
    with pytest.raises(GraphError, match="no_grad"):
        mg.grad(mg.ones(1), x)


def test_grad_outputs() -> None:
    x = leaf(1.0, 2.0)
    (g,) = mg.grad(x * x, x, grad_outputs=mg.tensor([1.0, 10.0]))
    assert g.tolist() == [2, 40]
    (g,) = mg.grad([x * x, x.sum()], [x], grad_outputs=[mg.ones(2), None])
    assert g.tolist() == [3, 5]


def test_create_graph() -> None:
    x = leaf(3.0)
    (first,) = mg.grad(x**3, x, create_graph=True)
    (second,) = mg.grad(first, x, create_graph=True)
    (third,) = mg.grad(second, x)
    assert (first.item(), second.item(), third.item()) == (27, 18, 6)
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    (x.grad * x).sum().backward()  # d(3 x**3 + ...) on top of the first gradient
    assert x.grad.item() == 27 + 81


def test_gradient_penalty_reaches_weights() -> None:
    w, x = leaf(1.0, -2.0), leaf(0.5, 0.25)
    y = (w * x).tanh().sum()
    (gx,) = mg.grad(y, x, create_graph=True)
    (gx * gx).sum().backward()
    assert mg.gradcheck(
        lambda w, x: (mg.grad((w * x).tanh().sum(), x, create_graph=True)[0] ** 2).sum(), (w, x)
    )


# ---- modes --------------------------------------------------------------------------------------


def test_no_grad_in_all_its_forms() -> None:
    x = leaf(1.0)

    @mg.no_grad()
    def called() -> mg.Tensor:
        return x * 2

    @mg.no_grad
    def bare() -> mg.Tensor:
        return x * 2

    @mg.enable_grad()
    def enabled() -> mg.Tensor:
        return x * 2

    @mg.inference_mode
    def inference() -> mg.Tensor:
        return x * 2

    @mg.inference_mode(False)
    def recorded() -> mg.Tensor:
        return x * 2

    @mg.set_grad_enabled(False)
    def switched() -> mg.Tensor:
        return x * 2

    assert mg.is_grad_enabled()
    for function in (called, bare, inference, switched):
        assert not function().requires_grad
        assert not function().requires_grad  # usable again
    assert recorded().requires_grad
    with mg.no_grad():
        assert not mg.is_grad_enabled()
        assert not (x * 2).requires_grad
        assert enabled().requires_grad
        with mg.enable_grad():
            assert (x * 2).requires_grad
            with mg.inference_mode():
                assert not (x * 2).requires_grad
            with mg.inference_mode(mode=False):
                assert (x * 2).requires_grad
            with mg.set_grad_enabled(mode=False):
                assert not (x * 2).requires_grad
            assert mg.is_grad_enabled()
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()
    assert called.__name__ == "called"


def test_one_no_grad_used_again_and_within_itself() -> None:
    off = mg.no_grad()
    with off, off:
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()
    with off:
        assert not mg.is_grad_enabled()
    with pytest.raises(ZeroDivisionError), off:
        _ = 1 / 0
    assert mg.is_grad_enabled()


def test_set_grad_enabled_as_a_function() -> None:
    mg.set_grad_enabled(False)
    try:
        assert not mg.is_grad_enabled()
        with mg.set_grad_enabled(True):
            assert mg.is_grad_enabled()
        assert not mg.is_grad_enabled()
    finally:
        mg.set_grad_enabled(True)
    assert mg.is_grad_enabled()


def test_generators() -> None:
    x = leaf(1.0)

    @mg.no_grad()
    def steps() -> Iterator[Any]:
        sent = yield (x * 2).requires_grad
        yield sent, mg.is_grad_enabled()
        return "end"

    made = steps()
    assert next(made) is False
    assert mg.is_grad_enabled()  # between its steps the caller records
    assert made.send("hello") == ("hello", False)
    with pytest.raises(StopIteration, match="end"):
        next(made)


def test_each_thread_has_its_own_mode() -> None:
    seen: dict[str, bool] = {}
    inside, outside = threading.Event(), threading.Event()

    def other() -> None:
        seen["new thread"] = mg.is_grad_enabled()
        with mg.no_grad():
            inside.set()
            outside.wait()
        seen["after"] = mg.is_grad_enabled()

    with mg.no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        inside.wait()
    seen["main"] = mg.is_grad_enabled()
    outside.set()
    thread.join()
    assert seen == {"new thread": True, "main": True, "after": True}


def test_threads_train_side_by_side() -> None:
    results = {}

    def work(k: int) -> None:
        x = leaf(*np.arange(50.0) + k)
        for _ in range(20):
            x.grad = None
            (x.tanh() * x).sum().backward()
        results[k] = x.grad.numpy()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k, found in results.items():
        v = np.arange(50.0) + k
        np.testing.assert_allclose(found, np.tanh(v) + v / np.cosh(v) ** 2)


# ---- hooks --------------------------------------------------------------------------------------


def test_hooks_on_leaves_and_inner_nodes() -> None:
    x = leaf(1.0, 2.0)
    h = x * 3
    seen = []
    h.register_hook(lambda g: seen.append(("h", g.tolist())))
    h.register_hook(lambda g: g * 2)
    h.register_hook(lambda g: seen.append(("h again", g.tolist())))
    x.register_hook(lambda g: seen.append(("x", g.tolist())))
    x.register_hook(lambda g: g + 1)
    (h * h).sum().backward()
    assert seen == [("h", [6, 12]), ("h again", [12, 24]), ("x", [36, 72])]
    assert x.grad.tolist() == [37, 73]


def test_a_hook_sees_the_whole_gradient_once() -> None:
    x = leaf(1.0)
    h = x * 2
    calls = []
    h.register_hook(lambda g: calls.append(g.item()))
    (h + h * h + h.exp() * 0).sum().backward()
    assert calls == [5]


def test_removing_hooks() -> None:
    x = leaf(1.0)
    h = x * 2
    calls = []
    one = h.register_hook(lambda g: calls.append(1))
    two = h.register_hook(lambda g: (calls.append(2), two.remove())[1])
    h.register_hook(lambda g: calls.append(3))
    leaf_hook = x.register_hook(lambda g: g * 100)
    one.remove()
    one.remove()
    leaf_hook()
    y = h.sum()
    y.backward(retain_graph=True)
    y.backward()
    assert calls == [2, 3, 3]
    assert x.grad.item() == 4


def test_hooks_on_0d_tensors_get_arrays() -> None:
    x = mg.tensor(2.0, requires_grad=True)
    kinds = []
    h = x * x
    h.register_hook(lambda g: kinds.append((type(g.array), g.shape, str(g))))
    (h * 3.0 * x).backward()
    assert kinds == [(np.ndarray, (), "tensor(6.)")]


def test_hooks_with_create_graph() -> None:
    x = leaf(2.0)
    h = x * x
    h.register_hook(lambda g: g * x)
    (g,) = mg.grad((h * h).sum(), x, create_graph=True)
    assert g.item() == 2 * 4 * 2 * 4  # 2 h · x · 2 x
    (gg,) = mg.grad(g, x)
    # g = 4 h x²: 8 h x straight to x, and 4 x² to h, where the hook meets it again
    assert gg.item() == 8 * 4 * 2 + 4 * 4 * 2 * 4


def test_hooks_need_a_gradient() -> None:
    with pytest.raises(GraphError):
        mg.ones(1).register_hook(print)
    with pytest.raises(GraphError):
        mg.ones(1).retain_grad()


def test_retain_grad() -> None:
    x = leaf(1.0, 2.0)
    h = x * 3
    h.retain_grad()
    h.retain_grad()
    h.register_hook(lambda g: g * 2)  # seen by retain_grad though registered after it
    x.retain_grad()
    y = (h * h).sum()
    y.backward(retain_graph=True)
    assert h.grad.tolist() == [12, 24]
    y.backward()
    assert h.grad.tolist() == [24, 48]
    assert x.grad.tolist() == [72, 144]
    assert (x * 2).grad is None


def test_retain_grad_owns_its_gradient() -> None:
    x = leaf(1.0)
    h = x + 0
    h.retain_grad()
    h.sum().backward()
    h.grad.add_(10)
    assert x.grad.tolist() == [1]


# ---- changes in place ---------------------------------------------------------------------------


def test_leaves_are_not_changed_in_a_graph() -> None:
    x = leaf(1.0, 2.0)
    for change in (
        lambda: x.add_(1),
        lambda: x.zero_(),
        lambda: x.__setitem__(0, 5.0),
        lambda: x.copy_(mg.zeros(2)),
        lambda: x.normal_(),
        lambda: x.__imul__(2),
    ):
        with pytest.raises(GraphError, match=r"in place on a leaf.*no_grad"):
            change()
    assert x.tolist() == [1, 2]
    with mg.no_grad():
        x -= 0.5
        x[0] = 7
        x.clamp_(0, 5)
    assert x.tolist() == [5, 1.5]
    assert x.requires_grad
    assert x.is_leaf


def changed_five_times(x: mg.Tensor) -> mg.Tensor:
    y = x * 2
    y += 1
    y *= x
    y[0] = x[1] * 3
    y.sub_(x).div_(4).tanh_()
    return y


def test_in_place_on_inner_nodes_is_recorded() -> None:
    assert mg.gradcheck(changed_five_times, leaf(1.0, 2.0))
    assert mg.gradgradcheck(changed_five_times, leaf(1.0, 2.0))


def test_a_constant_joins_the_graph_in_place() -> None:
    w = leaf(3.0, 4.0)
    x = mg.zeros(2, dtype="float64")
    x += w
    x[0] = 5
    assert x.requires_grad
    (x * x).sum().backward()
    assert w.grad.tolist() == [0, 8]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda x, w: (w.exp(), w), None),
        (lambda x, w: (x * w, w), "Mul needs b"),
        (lambda x, w: (w * x, w), "Mul needs a"),
        (lambda x, w: (x / w, w), "Div needs b"),
        (lambda x, w: (x.matmul(w), w), "MatMul needs b"),
        (lambda x, w: (x.log(), x.detach()), "Log needs x"),
        (lambda x, w: ((y := x.exp()), y.detach()), "Exp needs y"),
        (lambda x, w: ((y := x.sigmoid()), y.detach()), "Sigmoid needs y"),
        (lambda x, w: (mg.einsum("i,i->", x, w), w), "Einsum needs operand 1"),
        (lambda x, w: (mg.where(w > 0, x, 0.0), w), None),
        (lambda x, w: (x + w, w), None),
    ],
)
def test_changes_of_saved_arrays_are_noticed(make: Any, name: str | None) -> None:
    x, w = leaf(1.0, 2.0), mg.tensor([3.0, 4.0], dtype="float64")
    y, victim = make(x, w)
    if not y.requires_grad:
        y = y * x
    y = y.sum()
    victim.add_(1)
    if name is None:
        y.backward()
        return
    with pytest.raises(GraphError, match=rf"{name}, of shape .*changed in place"):
        y.backward()


def test_changes_through_views_are_noticed() -> None:
    base = mg.ones(4, dtype="float64")
    x = leaf(1.0, 2.0)
    y = (x * base[:2]).sum()
    base[3] = 5  # the same memory: no finer than PyTorch
    with pytest.raises(GraphError, match="Mul needs b"):
        y.backward()
    y = (x * base[:2]).sum()
    y.backward()  # changed before, not since
    view = base.reshape(2, 2)
    y = (x * base[:2]).sum()
    view.zero_()
    with pytest.raises(GraphError):
        y.backward()


def test_in_place_on_an_output_that_its_rule_reads() -> None:
    x = leaf(1.0, 2.0)
    y = x.exp()
    y += 1
    with pytest.raises(GraphError, match="Exp needs y"):
        y.sum().backward()
    z = x * 2
    z += 1
    z.sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_views_in_a_graph_are_not_changed() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    view = y[:1]
    with pytest.raises(GraphError, match="view"):
        view += 1
    with pytest.raises(GraphError, match="view"):
        y += 1
    assert y.tolist() == [2, 4]
    with mg.no_grad():
        y[0] = 9
    assert view.tolist() == [9]


def test_an_optimizer_between_forward_and_backward() -> None:
    w, x = leaf(2.0), leaf(3.0)
    y = (w * x).sum()
    with mg.no_grad():
        w -= 0.1
    with pytest.raises(GraphError, match="Mul needs a"):
        y.backward()


def test_training_by_hand() -> None:
    w = leaf(0.0)
    for _ in range(50):
        loss = ((w - 3) ** 2).sum()
        loss.backward()
        with mg.no_grad():
            w -= 0.2 * w.grad
        w.grad = None
    assert w.item() == pytest.approx(3)


def test_data_and_requires_grad() -> None:
    x = leaf(1.0, 2.0)
    x.data = mg.tensor([5.0, 6.0], dtype="float64")
    assert x.tolist() == [5, 6]
    x.data[0] = 1
    assert x.tolist() == [1, 6]
    y = x * 2
    y.requires_grad_()
    with pytest.raises(GraphError, match="detach"):
        y.requires_grad_(False)
    x.requires_grad = False
    assert not (x * 2).requires_grad
    with pytest.raises(DtypeError):
        mg.tensor([1]).requires_grad = True


def test_a_leaf_given_another_array_since() -> None:
    """Second derivatives read what the op saw, not what the leaf holds now."""
    x = leaf(2.0)
    y = x**3
    (g,) = mg.grad(y, x, create_graph=True)
    x.data = mg.tensor([100.0], dtype="float64")
    (gg,) = mg.grad(g, x)
    assert gg.item() == 12


# ---- the checks check ---------------------------------------------------------------------------


class Wrong(ops.Op):
    """A square whose rule is off by a factor."""

    formula, vjp = "y = x²", "dx = 2.1 dy · x"

    def forward(self, xp: Any, x: Any) -> Any:
        return x * x

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        return (2.1 * grad * x,)


class WrongSecond(ops.Op):
    """A square whose rule is right, and right only once."""

    formula, vjp = "y = x²", "dx = 2 dy · x"

    def forward(self, xp: Any, x: Any) -> Any:
        self.cached = x
        return x * x

    def backward(self, xp: Any, grad: Any) -> Any:
        return (grad * 2.0 * (mg.tensor(self.cached) if hasattr(grad, "grad_fn") else self.cached),)


def test_gradcheck_finds_wrong_rules() -> None:
    x = leaf(0.5, -1.0)
    with pytest.raises(GraphError, match=r"input 0 of shape \(2,\) differs at"):
        mg.gradcheck(lambda x: apply(Wrong(), x), x)
    assert not mg.gradcheck(lambda x: apply(Wrong(), x), x, raise_exception=False)
    assert mg.gradcheck(lambda x: apply(WrongSecond(), x), x)
    assert not mg.gradgradcheck(lambda x: apply(WrongSecond(), x), x, raise_exception=False)


def test_gradcheck_on_strided_inputs_and_its_errors() -> None:
    x = mg.tensor(np.arange(6.0).reshape(2, 3).T, requires_grad=True)
    x.array = np.arange(6.0).reshape(2, 3).T
    assert mg.gradcheck(lambda x: x * x, x)
    assert x.array.strides == (8, 24)
    with pytest.raises(DtypeError, match="float64"):
        mg.gradcheck(lambda x: x, mg.ones(1, requires_grad=True))
    with pytest.raises(GraphError, match="requires_grad"):
        mg.gradcheck(lambda x: x, mg.ones(1))
    with pytest.raises(GraphError, match="no output"):
        mg.gradcheck(lambda x: x.detach(), x)


def test_gradcheck_of_several_outputs() -> None:
    x, y = leaf(0.5, 1.5), leaf(2.0, 3.0)
    assert mg.gradcheck(lambda x, y, n: (x * y, (x / y) ** n, x.argmax()), (x, y, 3))
    assert mg.gradgradcheck(lambda x, y: (x * y, x / y), (x, y))


# ---- the graph can be read ----------------------------------------------------------------------


def test_grad_fn() -> None:
    x = leaf(1.0)
    y = (x * 2).exp()
    assert repr(y.grad_fn) == "<Exp>"
    assert y.grad_fn.name == "exp"
    ((inner, _),) = y.grad_fn.next_functions
    assert repr(inner) == "<Mul>"
    assert inner.next_functions[0] == (None, 0)
    assert x.grad_fn is None
    assert ops.Activation("leaky_relu", 0.1).attributes() == {"slope": 0.1}
    assert (x.sum(0)).grad_fn.attributes() == {"axes": (0,), "keepdim": False}


def test_a_recorded_change_of_a_plain_view_is_refused_while_its_base_is_there():
    w = mg.ones(2, requires_grad=True)
    a = mg.zeros(3, 2)
    with pytest.raises(mg.GraphError, match="would not notice"):
        a[0].add_(w)
    assert a.tolist() == [[0, 0]] * 3
    a[0] = w  # by index it is the tensor itself that changes
    (a * 2).sum().backward()
    assert w.grad.tolist() == [2, 2]
    alone = mg.zeros(4).reshape(2, 2)  # nobody holds what it looks into
    alone[1] = w
    alone.sum().backward()
    assert w.grad.tolist() == [3, 3]
    b = mg.zeros(3, 2)
    b[0].add_(1)
    assert b[0].tolist() == [1, 1], "unrecorded changes go through views"


def test_tensors_on_two_devices_are_refused_by_name():
    from minigrad import backends
    from minigrad.tensor import wrap

    class Elsewhere:  # an array that, like CuPy's, does not mix with NumPy's
        __array_ufunc__ = None
        shape, ndim, dtype = (2, 2), 2, mg.float32

    class Gpu(backends.NumpyBackend):
        array_type = Elsewhere

        def device_of(self, x):
            return "cuda:0"

    backends.register(Gpu())
    try:
        with pytest.raises(mg.DeviceError) as caught:
            mg.ones(2, 2) @ wrap(Elsewhere())
        assert str(caught.value) == (
            'MatMul got cpu and cuda:0 tensors; move one with .to("cuda:0").'
        )
        with pytest.raises(mg.DeviceError, match="Add got cpu and cuda:0 tensors"):
            mg.ones(2, 2, requires_grad=True) + wrap(Elsewhere())
    finally:
        del backends.backends[Elsewhere]


def test_gradients_of_a_leaf_without_axes_add_up_to_a_tensor():
    x = mg.tensor(2.0, requires_grad=True)
    for _ in range(3):
        (x * x).backward()
    assert x.grad.device == "cpu"
    assert x.grad.item() == 12
