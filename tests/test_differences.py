"""Every line of docs/differences.md, shown on both sides where PyTorch is at hand."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import CheckpointError, DtypeError, GraphError, RangeError, ShapeError
from tests.test_norms import along, slope_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "differences.md"
SHOWN: dict[str, Callable[..., None]] = {}


def line(where: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def enter(show: Callable[..., None]) -> Callable[..., None]:
        SHOWN[where] = show
        return show

    return enter


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def lines() -> list[str]:
    rows = re.findall(r"^\| (.+?) \|", PAGE.read_text(), re.M)
    return [r for r in rows if r != "where"]


def test_every_line_is_shown() -> None:
    assert sorted(lines()) == sorted(SHOWN)


@pytest.mark.parity
@pytest.mark.parametrize("where", lines())
def test_line(where: str, torch: Any, tmp_path: Path) -> None:
    show = SHOWN[where]
    show(torch, tmp_path) if show.__code__.co_argcount > 1 else show(torch)


@line("dtypes")
def dtypes(torch: Any) -> None:
    assert mg.float64 is np.dtype("float64") and str(mg.float64) == "float64"
    assert mg.ones(2, dtype="float64").dtype == mg.float64
    assert str(torch.float64) == "torch.float64"


@line("devices")
def devices(torch: Any) -> None:
    assert mg.ones(2).device == "cpu" and isinstance(torch.ones(2).device, torch.device)


@line("shapes")
def shapes(torch: Any) -> None:
    assert type(mg.ones(2).shape) is tuple and type(torch.ones(2).shape) is torch.Size


@line("nodes")
def nodes(torch: Any) -> None:
    for t, name in ((mg, "<Mul>"), (torch, "<MulBackward0")):
        x = t.ones(2, requires_grad=True)
        assert repr((x * x).grad_fn).startswith(name)


@line("`repr` of BatchNorm")
def words(torch: Any) -> None:
    ours, theirs = mg.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    assert ours.extra_repr() == theirs.extra_repr()
    assert repr(ours) == f"{theirs!r}  # running = 0.9 running + 0.1 batch"


@line("first arguments")
def first_arguments(torch: Any) -> None:
    for t in (mg, torch):
        assert t.sum(input=t.ones(2)).item() == 2
    with pytest.raises(TypeError):
        mg.Tensor.sum(input=mg.ones(2))


@line("`out=`")
def out(torch: Any) -> None:
    y = torch.zeros(2)
    torch.add(torch.ones(2), 1, out=y)
    assert y.tolist() == [2, 2]
    with pytest.raises(TypeError, match="out"):
        mg.add(mg.ones(2), 1, out=mg.zeros(2))


@line("random numbers")
def random_numbers(torch: Any) -> None:
    a, b = (t.rand(3, generator=t.Generator().manual_seed(0)).tolist() for t in (mg, torch))
    assert a != pytest.approx(b)


@line("`inference_mode`")
def inference_mode(torch: Any) -> None:
    for t in (mg, torch):
        with t.inference_mode():
            c = t.ones(2) * 2
        x = t.ones(2, requires_grad=True)
        if t is torch:
            with pytest.raises(RuntimeError, match=r"[Ii]nference"):
                x * c
        else:
            (x * c).sum().backward()
            assert x.grad.tolist() == [2, 2]


@line("`view()`")
def view(torch: Any) -> None:
    assert mg.arange(6).reshape(2, 3).T.view(6).tolist() == [0, 3, 1, 4, 2, 5]
    with pytest.raises(RuntimeError):
        torch.arange(6).reshape(2, 3).T.view(6)


@line("views changed in place")
def views_changed_in_place(torch: Any) -> None:
    for t in (mg, torch):
        x = t.ones(2, 3, requires_grad=True)
        y = x * 1
        row = y[0]
        if t is torch:
            row.mul_(2)
            y.sum().backward()
            assert x.grad.tolist() == [[2, 2, 2], [1, 1, 1]]
        else:
            with pytest.raises(GraphError, match="view"):
                row.mul_(2)


@line("errors")
def errors(torch: Any) -> None:
    assert issubclass(ShapeError, ValueError) and issubclass(ShapeError, RuntimeError)
    assert issubclass(DtypeError, TypeError) and issubclass(DtypeError, RuntimeError)
    for kind in (ValueError, IndexError, RuntimeError):
        assert issubclass(RangeError, kind)
    with pytest.raises(RuntimeError) as found:
        torch.ones(2) + torch.ones(3)
    assert not isinstance(found.value, ValueError)


@line("NaN under `sign`, `abs`")
def nan_under_sign(torch: Any) -> None:
    for t in (mg, torch):
        x = t.tensor([float("nan")], requires_grad=True)
        x.abs().sum().backward()
        for value in (x.sign(), x.grad):
            assert value.isnan().item() is (t is mg)


@line("NaN under `max`, `min`, `median`")
def nan_under_max(torch: Any) -> None:
    for t in (mg, torch):
        for name in ("max", "min", "median"):
            x = t.tensor([1.0, float("nan")], requires_grad=True)
            getattr(x, name)().backward()
            assert x.grad.isnan().tolist() == [t is mg] * 2
            assert t is mg or x.grad.tolist() == [0, 1]


@line("a number % a tensor")
def a_number_modulo_a_tensor(torch: Any) -> None:
    x, y = (t.tensor([2.0], requires_grad=True) for t in (mg, torch))
    (5.0 % x).sum().backward()
    assert x.grad.tolist() == [-2]
    with pytest.raises(RuntimeError, match="not implemented"):
        (5.0 % y).sum().backward()


@line("`scatter` of a larger source")
def scatter_of_a_larger_source(torch: Any) -> None:
    for t in (mg, torch):
        source = t.ones(3, requires_grad=True)
        y = t.zeros(2).scatter(0, t.tensor([1]), source).sum()
        if t is mg:
            y.backward()
            assert source.grad.tolist() == [1, 0, 0]
        else:
            with pytest.raises(RuntimeError, match="invalid gradient"):
                y.backward()


@line("`unique`")
def unique(torch: Any) -> None:
    a, b = (t.tensor([1.0, 1.0], requires_grad=True).unique() for t in (mg, torch))
    assert not a.requires_grad and b.requires_grad
    with pytest.raises(RuntimeError, match="not implemented"):
        b.sum().backward()


@line("order of equals")
def order_of_equals(torch: Any) -> None:
    x = mg.tensor([1.0, 0.0] * 50)
    places = [*range(1, 100, 2), *range(0, 100, 2)]
    assert x.argsort().tolist() == x.sort().indices.tolist() == places
    assert x.topk(100, largest=False).indices.tolist() == places
    assert mg.unique(mg.tensor([2, 1, 2]), sorted=False).tolist() == [1, 2]
    assert torch.tensor([1.0, 0.0] * 50).argsort(stable=True).tolist() == places


@line("bool in arithmetic")
def bool_in_arithmetic(torch: Any) -> None:
    calls: list[tuple[Callable[[Any], Any], Any]] = [
        (lambda x: x.abs(), [True, False]),
        (lambda x: x.relu(), [True, False]),
        (lambda x: x.argmax(), 0),
        (lambda x: x.median(), False),
        (lambda x: x - 1, [0, -1]),
        (lambda x: x // ~(x & ~x), [1, 0]),
        (lambda x: x % ~(x & ~x), [0, 0]),
        (lambda x: x**x, [1, 1]),
    ]
    for call, expected in calls:
        assert call(mg.tensor([True, False])).tolist() == expected
        with pytest.raises(RuntimeError):
            call(torch.tensor([True, False]))
    for t in (mg, torch):
        with pytest.raises(RuntimeError):
            t.tensor([True]) - t.tensor([True])


@line("dtypes that are missing")
def dtypes_that_are_missing(torch: Any) -> None:
    for name in ("bfloat16", "complex64"):
        assert hasattr(torch, name) and not hasattr(mg, name)
        with pytest.raises(DtypeError):
            mg.ones(2).to(dtype=name)


@line("`size_average`, `reduce` of losses")
def old_reductions(torch: Any) -> None:
    with pytest.raises(TypeError):
        mg.nn.functional.mse_loss(mg.ones(2), mg.ones(2), size_average=False)


@line("errors of arguments that PyTorch asserts")
def assertions(torch: Any) -> None:
    with pytest.raises(AssertionError):
        torch.utils.data.TensorDataset(torch.ones(2), torch.ones(3))
    with pytest.raises(ShapeError):
        mg.data.TensorDataset(mg.ones(2), mg.ones(3))


@line("`Embedding(sparse=True)`")
def sparse(torch: Any) -> None:
    with pytest.raises(NotImplementedError):
        mg.nn.Embedding(3, 2, sparse=True)(mg.tensor([1]))


@line("a missing name in `ParameterDict`")
def parameter_dict(torch: Any) -> None:
    with pytest.raises(AttributeError):
        torch.nn.ParameterDict()["z"]
    with pytest.raises(KeyError):
        mg.nn.ParameterDict()["z"]


@line("`avg_pool2d` of integers")
def integer_means(torch: Any) -> None:
    with pytest.raises(DtypeError):
        mg.nn.functional.avg_pool2d(mg.ones(1, 1, 2, 2, dtype=mg.int64), 2)


@line("padded places in `TransformerEncoder`, eval mode")
def padded(torch: Any) -> None:
    x, mask = np.ones((1, 3, 4), np.float32), np.array([[False, False, True]])
    outs = []
    for t, make in ((torch, torch.tensor), (mg, mg.tensor)):
        layer = t.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        net = t.nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
        with t.no_grad():
            outs.append(net(make(x), src_key_padding_mask=make(mask)).numpy())
    assert (outs[1][0, 2] != 0).any(), "computed like the others"


@line("float16 parameters in optimizers")
def half_averages(torch: Any) -> None:
    p = mg.nn.Parameter(mg.ones(2, dtype=mg.float16))
    p.grad = mg.ones(2, dtype=mg.float16)
    optimizer = mg.optim.Adam([p])
    optimizer.step()
    assert optimizer.state[p]["exp_avg"].dtype == mg.float32
    q = torch.nn.Parameter(torch.ones(2, dtype=torch.float16))
    q.grad = torch.ones(2, dtype=torch.float16)
    theirs = torch.optim.Adam([q])
    theirs.step()
    assert theirs.state[q]["exp_avg"].dtype == torch.float16


@line("NaN under activations made of pieces (`elu`, `selu`, `celu`, `hardswish`, `relu6`, ...)")
def nan_under_pieces(torch: Any) -> None:
    for name, slope in {"elu": 1, "celu": 1, "hardswish": 1, "relu6": 0, "hardtanh": 0}.items():
        for length in (1, 16):
            x = mg.full((length,), float("nan"), requires_grad=True)
            y = getattr(mg.nn.functional, name)(x)
            y.sum().backward()
            assert y.isnan().all() and x.grad.tolist() == [slope] * length
            x = torch.full((length,), float("nan"), requires_grad=True)
            y = getattr(torch.nn.functional, name)(x)
            y.sum().backward()
            assert y.isnan().all(), "of the slope nothing can be said"


@line("second derivatives where two formulas meet")
def second_derivatives_at_kinks(torch: Any) -> None:
    def second(t: Any, f: Callable[..., Any], at: float) -> float:
        x = t.tensor([at], dtype=t.float64, requires_grad=True)
        (dx,) = t.autograd.grad(f(t.nn.functional, x).sum(), x, create_graph=True)
        return float(t.autograd.grad(dx.sum(), x)[0])

    for f, at, theirs, ours in (
        (lambda f, x: f.huber_loss(x, x.detach() * 0), 1.0, 0, 1),
        (lambda f, x: f.smooth_l1_loss(x, x.detach() * 0), -1.0, 0, 1),
        (lambda f, x: f.softplus(x), 20.0, 0, np.exp(-20.0)),
        (lambda f, x: x.norm(), 0.0, np.nan, 0),
    ):
        assert second(torch, f, at) == pytest.approx(theirs, nan_ok=True)
        assert second(mg, f, at) == pytest.approx(ours)
    for t, expected in ((torch, 0), (mg, 1)):
        x, w = (t.tensor([v], requires_grad=True) for v in (0.0, 0.25))
        (dw,) = t.autograd.grad(t.nn.functional.prelu(x, w).sum(), w, create_graph=True)
        assert t.autograd.grad(dw.sum(), x)[0].tolist() == [expected]


@line("nonsense settings of optimizers and schedules")
def nonsense_settings(torch: Any) -> None:
    def make(t: Any, **settings: Any) -> Any:
        return t.optim.SGD([t.nn.Parameter(t.ones(2))], **{"lr": 0.1, **settings})

    for call in (
        lambda t: make(t, momentum=0.9, dampening=-1.0),
        lambda t: make(t, lr=float("inf")),
        lambda t: t.optim.lr_scheduler.StepLR(make(t), step_size=0),
    ):
        call(torch)
        with pytest.raises(ValueError, match="finite"):
            call(mg)


@line("another optimizer's state")
def another_optimizers_state(torch: Any) -> None:
    for t in (torch, mg):
        p = t.nn.Parameter(t.ones(2))
        p.grad = t.ones(2)
        sgd, adam = t.optim.SGD([p], lr=0.1, momentum=0.9), t.optim.Adam([p])
        sgd.step()
        if t is mg:
            with pytest.raises(ValueError, match="another optimizer"):
                adam.load_state_dict(sgd.state_dict())
        else:
            with pytest.raises(KeyError):
                adam.load_state_dict(sgd.state_dict())
                adam.step()


@line("`load_state_dict` with faults")
def load_with_faults(torch: Any) -> None:
    for t in (torch, mg):
        model = t.nn.Linear(2, 1)
        before = model.weight.tolist()
        with pytest.raises(RuntimeError):
            model.load_state_dict({"weight": t.full((1, 2), 7.0)})
        assert (model.weight.tolist() == before) is (t is mg)


@line("files of `save` and `load`")
def files(torch: Any, tmp_path: Path) -> None:
    mg.save({"a": mg.ones(2)}, tmp_path / "ours")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "ours")
    torch.save({"a": torch.ones(2)}, tmp_path / "theirs")
    with pytest.raises(CheckpointError, match="safetensors"):
        mg.load(tmp_path / "theirs")


@line("old hooks `nn.utils.weight_norm`, `spectral_norm`")
def old_hooks(torch: Any) -> None:
    for name in ("weight_norm", "spectral_norm"):
        assert hasattr(torch.nn.utils, name) and not hasattr(mg.nn.utils, name)
        assert hasattr(mg.nn.utils.parametrizations, name)


@line("third derivatives of `batch_norm`, `layer_norm`, `instance_norm`")
def third_derivatives(torch: Any) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    for name, norm in (
        ("batch", lambda f, x: f.batch_norm(x, None, None, training=True)),
        ("layer", lambda f, x: f.layer_norm(x, (5,))),
        ("instance", lambda f, x: f.instance_norm(x)),
    ):
        truth = slope_of(mg, norm, x, 3)
        assert along(mg, norm, x, 3) == pytest.approx(truth, rel=1e-7)
        if torch.__version__.startswith("2.13"):
            assert abs(along(torch, norm, x, 3) - truth) > 0.1 * abs(truth), name


@line("what is left out")
def left_out(torch: Any) -> None:
    for path in (
        "nn.Conv3d",
        "nn.MaxPool3d",
        "nn.utils.rnn.PackedSequence",
        "nn.TransformerDecoder",
        "nn.LazyLinear",
        "optim.LBFGS",
        "nn.functional.multi_head_attention_forward",
    ):
        attrgetter(path)(torch)
        with pytest.raises(AttributeError):
            attrgetter(path)(mg)


@line("the same parameter twice in an optimizer")
def twice(torch: Any) -> None:
    p = mg.nn.Parameter(mg.ones(2))
    with pytest.raises(ValueError):
        mg.optim.SGD([p, p], lr=0.1)


@line("`num_workers` of DataLoader")
def workers(torch: Any) -> None:
    with pytest.raises(ValueError):
        mg.data.DataLoader([1, 2], num_workers=2)
    assert len(list(mg.data.DataLoader([1, 2], num_workers=1))) == 2
