"""Losses and their modules against PyTorch: values, derivatives, reductions, printing, misuse."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

DRAWS = {
    "score": lambda rng, shape: rng.standard_normal(shape) * 2,
    "chance": lambda rng, shape: rng.uniform(0.02, 0.98, shape),
    "positive": lambda rng, shape: rng.uniform(0.3, 2.0, shape),
    "log": lambda rng, shape: -rng.uniform(0.1, 3.0, shape),
    "sign": lambda rng, shape: rng.choice([-1.0, 1.0], shape),
    "three": lambda rng, shape: rng.choice([-1.0, 0.0, 1.0], shape),
    "count": lambda rng, shape: rng.integers(0, 6, shape).astype(float),
    "bit": lambda rng, shape: rng.integers(0, 2, shape).astype(float),
    "some": lambda rng, shape: np.asarray(rng.random(shape) * (rng.random(shape) > 0.4)),
    "class": lambda rng, shape: rng.integers(0, 4, shape),
    "ignored": lambda rng, shape: rng.choice([0, 1, 3, -100], shape, p=[0.3, 0.3, 0.3, 0.1]),
}
DIFFERENTIABLE = ("score", "chance", "positive", "log")
Drawn = tuple[str, tuple[int, ...]]


def same(shapes: Any, *kinds: str) -> list[tuple[Drawn, ...]]:
    """Inputs of one shape each."""
    return [tuple((kind, shape) for kind in kinds) for shape in shapes]


SHAPES = ((3, 4), (2, 3, 4), (5,), (), (0, 3))
WEIGHT = {"weight": ("positive", (3, 4))}
CLASSES = [
    (("score", (5, 4)), ("ignored", (5,))),
    (("score", (4,)), ("class", ())),
    (("score", (2, 4, 3)), ("ignored", (2, 3))),
    (("score", (2, 4, 3, 2)), ("class", (2, 3, 2))),
]
KNOWN = [(scores, ("class", target[1])) for scores, target in CLASSES]

#: Function, module, inputs to draw, and options to try; a pair (kind, shape) is drawn there, too.
TABLE: list[tuple[str, str, list[Any], list[dict[str, Any]]]] = [
    ("mse_loss", "MSELoss", same(SHAPES, "score", "score"), [{}]),
    ("l1_loss", "L1Loss", same(SHAPES, "score", "score"), [{}]),
    ("smooth_l1_loss", "SmoothL1Loss", same(SHAPES, "score", "score"), [{}, {"beta": 0.3}]),
    ("smooth_l1_loss", "SmoothL1Loss", same(SHAPES, "score", "score"), [{"beta": 0}]),
    ("huber_loss", "HuberLoss", same(SHAPES, "score", "score"), [{}, {"delta": 0.3}]),
    ("mse_loss", "", same(SHAPES[:1], "score", "score"), [WEIGHT]),
    ("l1_loss", "", same(SHAPES[:1], "score", "score"), [WEIGHT]),
    ("huber_loss", "", same(SHAPES[:1], "score", "score"), [WEIGHT]),
    ("cross_entropy", "CrossEntropyLoss", CLASSES, [{}, {"weight": ("positive", (4,))}]),
    (
        "cross_entropy",
        "CrossEntropyLoss",
        CLASSES,
        [
            {"label_smoothing": 0.2},
            {"label_smoothing": 0.2, "weight": ("positive", (4,))},
        ],
    ),
    ("cross_entropy", "CrossEntropyLoss", KNOWN, [{"ignore_index": 1}]),
    ("nll_loss", "NLLLoss", KNOWN, [{"weight": ("positive", (4,)), "ignore_index": 0}]),
    (
        "cross_entropy",
        "CrossEntropyLoss",
        same(((5, 4), (2, 4, 3), (4,)), "score", "chance"),
        [{}, {"label_smoothing": 0.1, "weight": ("positive", (4,))}],
    ),
    ("nll_loss", "NLLLoss", CLASSES, [{}, {"weight": ("positive", (4,))}]),
    ("binary_cross_entropy", "BCELoss", same(SHAPES, "chance", "chance"), [{}]),
    ("binary_cross_entropy", "BCELoss", same(SHAPES[:1], "chance", "bit"), [WEIGHT]),
    (
        "binary_cross_entropy",
        "BCELoss",
        same(SHAPES[:1], "chance", "bit"),
        [{"weight": ("positive", (3, 1))}],
    ),
    ("binary_cross_entropy_with_logits", "BCEWithLogitsLoss", same(SHAPES, "score", "bit"), [{}]),
    (
        "binary_cross_entropy_with_logits",
        "BCEWithLogitsLoss",
        same(SHAPES[:1], "score", "chance"),
        [WEIGHT, {"pos_weight": ("positive", (4,))}, {**WEIGHT, "pos_weight": ("positive", (4,))}],
    ),
    ("kl_div", "KLDivLoss", same(SHAPES, "log", "some"), [{}]),
    ("kl_div", "KLDivLoss", same(SHAPES, "log", "log"), [{"log_target": True}]),
    ("kl_div", "KLDivLoss", [(("log", (3, 4)), ("chance", (4,)))], [{}]),
    ("hinge_embedding_loss", "HingeEmbeddingLoss", same(SHAPES, "score", "three"), [{}]),
    (
        "hinge_embedding_loss",
        "HingeEmbeddingLoss",
        same(SHAPES, "score", "sign"),
        [{"margin": 2.5}],
    ),
    ("margin_ranking_loss", "MarginRankingLoss", same(SHAPES, "score", "score", "sign"), [{}]),
    (
        "margin_ranking_loss",
        "MarginRankingLoss",
        [(("score", (3, 4)), ("score", (3, 1)), ("sign", (1, 4)))],
        [{"margin": 0.7}],
    ),
    ("soft_margin_loss", "SoftMarginLoss", same(SHAPES, "score", "sign"), [{}]),
    (
        "triplet_margin_loss",
        "TripletMarginLoss",
        same(((3, 4), (4,), (2, 3, 4), (0, 3)), "score", "score", "score"),
        [{}, {"margin": 2.0, "p": 1, "swap": True}, {"p": 3, "eps": 1e-3}, {"p": float("inf")}],
    ),
    (
        "cosine_embedding_loss",
        "CosineEmbeddingLoss",
        [
            (("score", (5, 4)), ("score", (5, 4)), ("three", (5,))),
            (("score", (4,)), ("score", (4,)), ("sign", ())),
        ],
        [{}, {"margin": 0.3}],
    ),
    (
        "multilabel_soft_margin_loss",
        "MultiLabelSoftMarginLoss",
        same(((3, 4), (4,), (2, 3, 4)), "score", "bit"),
        [{}, {"weight": ("positive", (4,))}],
    ),
    ("poisson_nll_loss", "PoissonNLLLoss", same(SHAPES, "score", "count"), [{}, {"full": True}]),
    (
        "poisson_nll_loss",
        "PoissonNLLLoss",
        same(SHAPES, "positive", "count"),
        [{"log_input": False}, {"log_input": False, "full": True, "eps": 1e-2}],
    ),
    (
        "gaussian_nll_loss",
        "GaussianNLLLoss",
        [
            *same(SHAPES, "score", "score", "positive"),
            (("score", (3, 4)), ("score", (3, 4)), ("positive", (3,))),
            (("score", (3, 4)), ("score", (3, 4)), ("positive", (3, 1))),
        ],
        [{}, {"full": True, "eps": 1.0}],
    ),
]
NAMES = (
    *("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"),
    *("binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"),
    *("hinge_embedding_loss", "margin_ranking_loss", "soft_margin_loss", "triplet_margin_loss"),
    *("cosine_embedding_loss", "multilabel_soft_margin_loss", "poisson_nll_loss"),
    "gaussian_nll_loss",
)
SAMPLES = [
    pytest.param(function, module, inputs, options, id=f"{function}-{i}-{j}-{k}")
    for i, (function, module, choices, settings) in enumerate(TABLE)
    for j, inputs in enumerate(choices)
    for k, options in enumerate(settings)
]


def drawn(inputs: Any, options: Any, dtype: str) -> tuple[list[Any], dict[str, Any]]:
    rng = np.random.default_rng(0)

    def draw(kind: str, shape: Any) -> Any:
        array = np.asarray(DRAWS[kind](rng, shape))
        if array.dtype.kind == "f":
            array = array.astype(dtype)
        return np.repeat(array, 2, -1)[..., ::2] if array.ndim else array  # not contiguous

    known = {k: draw(*v) if isinstance(v, tuple) else v for k, v in options.items()}
    return [draw(*i) for i in inputs], known


def results(lib: Any, call: Any, inputs: Any, arrays: Any, options: Any, order: int) -> list[Any]:
    """The loss, its gradients, and the gradients of these, in every floating input."""
    make = (lambda a: mg.tensor(a)) if lib is mg else (lambda a: torch.tensor(a.copy()))
    tensors = [make(a) for a in arrays]
    known = {k: make(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    leaves = [t for t, (kind, _) in zip(tensors, inputs, strict=True) if kind in DIFFERENTIABLE]
    for t in leaves:
        t.requires_grad = True
    grad = mg.grad if lib is mg else torch.autograd.grad
    y = call(*tensors, **known)
    rng = np.random.default_rng(1)
    found = [y]
    outputs = [y]
    for _ in range(order):
        outputs = [o for o in outputs if o is not None and o.requires_grad]
        if not outputs:
            break
        seeds = [rng.standard_normal(tuple(o.shape)) for o in outputs]
        seeds = [make(np.asarray(s).astype(arrays[0].dtype)) for s in seeds]
        outputs = grad(outputs, leaves, seeds, create_graph=True, allow_unused=True)
        shapes = [np.zeros(tuple(t.shape), arrays[0].dtype) for t in leaves]
        found += [make(z) if o is None else o for o, z in zip(outputs, shapes, strict=True)]
    zeros_too = {} if lib is mg else {"force": True}
    return [np.asarray(f.detach().numpy(**zeros_too)) for f in found]


def quiet(function: Any, *args: Any) -> Any:
    """Without the warnings: kl_div's about "mean"."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args)


def compare(ours: list[Any], theirs: list[Any], tolerance: float) -> None:
    least = min(len(ours), len(theirs))  # what is linear may end early, or with zeros
    assert all(not a.any() for a in (*ours[least:], *theirs[least:]))
    for i, (a, b) in enumerate(zip(ours[:least], theirs[:least], strict=True)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), f"result {i}"
        np.testing.assert_allclose(
            a, b, rtol=tolerance, atol=tolerance, err_msg=f"result {i}", equal_nan=True
        )


def reductions(function: str) -> list[str]:
    return ["mean", "sum", "none", *(["batchmean"] if function == "kl_div" else [])]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("function", "module", "inputs", "options"), SAMPLES)
def test_values_and_gradients(
    function: str, module: str, inputs: Any, options: Any, dtype: str
) -> None:
    arrays, known = drawn(inputs, options, dtype)
    for reduction in reductions(function):
        option = {**known, "reduction": reduction}
        calls = [(lib, getattr(f, function)) for lib, f in ((torch, torch.nn.functional), (mg, F))]
        theirs, ours = (quiet(results, lib, f, inputs, arrays, option, 1) for lib, f in calls)
        compare(ours, theirs, 1e-7 if dtype == "float64" else 2e-5)
        if module:
            made = {k: mg.tensor(v) if isinstance(v, np.ndarray) else v for k, v in option.items()}
            loss = getattr(nn, module)(**made)
            value = quiet(lambda m=loss: m(*(mg.tensor(a) for a in arrays)))
            np.testing.assert_array_equal(value.numpy(), ours[0])


@pytest.mark.parametrize(("function", "module", "inputs", "options"), SAMPLES)
def test_second_derivatives(function: str, module: str, inputs: Any, options: Any) -> None:
    arrays, known = drawn(inputs, options, "float64")
    if not arrays[0].size:
        return
    for reduction in ("none", "sum"):
        option = {**known, "reduction": reduction}
        calls = [(lib, getattr(f, function)) for lib, f in ((torch, torch.nn.functional), (mg, F))]
        theirs, ours = (quiet(results, lib, f, inputs, arrays, option, 2) for lib, f in calls)
        compare(ours, theirs, 1e-7)


@pytest.mark.parametrize(("function", "module", "inputs", "options"), SAMPLES)
def test_gradgradcheck(function: str, module: str, inputs: Any, options: Any) -> None:
    arrays, known = drawn(inputs, options, "float64")
    if not arrays[0].size:
        return
    option = {k: mg.tensor(v) if isinstance(v, np.ndarray) else v for k, v in known.items()}
    tensors = [mg.tensor(a) for a in arrays]
    tensors[0].requires_grad = True
    call = getattr(F, function)
    assert quiet(mg.gradgradcheck, lambda *x: call(*x, **option, reduction="sum"), tensors)


@pytest.mark.parametrize(
    ("module", "options"), [(m, o) for _, m, _, settings in TABLE if m for o in settings]
)
def test_modules_print_and_save_as_in_pytorch(module: str, options: Any) -> None:
    _, known = drawn((), options, "float32")
    ours, theirs = (
        getattr(lib.nn, module)(
            **{k: lib.tensor(v) if isinstance(v, np.ndarray) else v for k, v in known.items()}
        )
        for lib in (mg, torch)
    )
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_every_name_is_covered() -> None:
    assert {row[0] for row in TABLE} == set(NAMES) <= set(F.__all__)
    own = {n for n, m in vars(nn).items() if getattr(m, "__module__", "") == nn.loss.__name__}
    assert {row[1] for row in TABLE if row[1]} == own <= set(nn.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_pytorchs(name: str) -> None:
    """Its names and defaults; but for size_average and reduce, which it gave up in 2018."""
    ours = inspect.signature(getattr(F, name)).parameters
    theirs = inspect.signature(getattr(torch.nn.functional, name)).parameters
    kept = [n for n in theirs if n not in ("size_average", "reduce")]
    assert [n for n, p in ours.items() if n != "fused"] == kept
    assert all(ours[n].default == theirs[n].default for n in kept)


# ---- edges --------------------------------------------------------------------------------------


def test_binary_cross_entropy_at_0_and_1() -> None:
    """Value, first and second derivative at certainty, right and wrong, and next to it."""
    points = np.array([[p, t] for p in (0, 1, 1e-13, 1e-9, 0.5) for t in (0, 1, 0.5, 0.3)])
    found = []
    for lib, f in ((torch, torch.nn.functional), (mg, F)):
        p = lib.tensor(points[:, 0].copy(), requires_grad=True)
        t = lib.tensor(points[:, 1].copy(), requires_grad=True)
        grad = mg.grad if lib is mg else torch.autograd.grad
        y = f.binary_cross_entropy(p, t, reduction="none")
        dp, dt = grad(y.sum(), [p, t], create_graph=True)
        second = [*grad(dp.sum(), [p, t], retain_graph=True), *grad(dt.sum(), [p])]
        found.append([v.detach().numpy() for v in (y, dp, dt, *second)])
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8)  # PyTorch's 1e-12 is a float32


@pytest.mark.parametrize("name", ["smooth_l1_loss", "huber_loss", "l1_loss", "mse_loss"])
def test_differences_of_0_and_infinity(name: str) -> None:
    points = np.array([0, 0.5, -0.5, 1, -1, 2, -3, np.inf, -np.inf])
    found = []
    for lib, f in ((torch, torch.nn.functional), (mg, F)):
        x = lib.tensor(points, requires_grad=True)
        y = getattr(f, name)(x, lib.tensor(np.zeros(9)), reduction="none")
        y.sum().backward()
        found.append((y.detach().numpy(), x.grad.numpy()))
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_kl_div_of_mean_warns_and_of_batchmean_does_not() -> None:
    x = mg.zeros(2, 3)
    with pytest.warns(UserWarning, match="batchmean"):
        F.kl_div(x, x + 0.5)
    F.kl_div(x, x + 0.5, reduction="batchmean")


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_broadcasting_works_and_warns(name: str) -> None:
    x, t = np.arange(6.0).reshape(2, 3), np.array([[1.0], [0.5]])
    with pytest.warns(UserWarning, match="broadcasts"):
        ours = getattr(F, name)(mg.tensor(x), mg.tensor(t))
    theirs = quiet(getattr(torch.nn.functional, name), torch.tensor(x), torch.tensor(t))
    assert ours.item() == pytest.approx(theirs.item())


def test_gaussian_nll_of_small_and_numeric_var() -> None:
    x, t, v = np.ones(3), np.zeros(3), np.array([0.0, 1e-9, 2.0])
    results = []
    for lib, f in ((torch, torch.nn.functional), (mg, F)):
        var = lib.tensor(v, requires_grad=True)
        loss = f.gaussian_nll_loss(lib.tensor(x), lib.tensor(t), var)
        loss.backward()
        number = f.gaussian_nll_loss(lib.tensor(x), lib.tensor(t), 0.5)
        results.append([loss.item(), number.item(), *var.grad.tolist()])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-9)


# ---- misuse -------------------------------------------------------------------------------------

MISUSE: list[tuple[str, Any]] = [
    ("reduction", lambda o, f, n: f.mse_loss(o(3), o(3), reduction="avg")),
    ("reduction of kl_div", lambda o, f, n: f.kl_div(o(3), o(3), reduction="avg")),
    ("reduction of poisson", lambda o, f, n: f.poisson_nll_loss(o(3), o(3), reduction="avg")),
    ("shapes of mse", lambda o, f, n: quiet(f.mse_loss, o(3), o(4))),
    ("weight of mse", lambda o, f, n: f.mse_loss(o(3), o(3), weight=o(2))),
    ("weight of huber", lambda o, f, n: f.huber_loss(o(3), o(3), weight=o(2))),
    ("beta", lambda o, f, n: f.smooth_l1_loss(o(3), o(3), beta=-1.0)),
    ("delta", lambda o, f, n: f.huber_loss(o(3), o(3), delta=0.0)),
    ("chance above 1", lambda o, f, n: f.binary_cross_entropy(o(3) * 2, o(3))),
    ("target above 1", lambda o, f, n: f.binary_cross_entropy(o(3), o(3) * 2)),
    ("shapes of bce", lambda o, f, n: f.binary_cross_entropy(o(3), o(4))),
    ("dtypes of bce", lambda o, f, n: f.binary_cross_entropy(o(3), o(3).double())),
    ("bce of integers", lambda o, f, n: f.binary_cross_entropy(o(3).long(), o(3).long())),
    ("shapes of logits", lambda o, f, n: f.binary_cross_entropy_with_logits(o(3), o(4))),
    ("class too large", lambda o, f, n: f.nll_loss(o(3, 2), o(3).long() * 2)),
    ("class too large, again", lambda o, f, n: f.cross_entropy(o(3, 2), o(3).long() * 2)),
    ("batches", lambda o, f, n: f.cross_entropy(o(3, 2), o(2).long())),
    ("batches of nll", lambda o, f, n: f.nll_loss(o(3, 2), o(2).long())),
    ("classes that are floats", lambda o, f, n: f.nll_loss(o(3, 2), o(3))),
    ("nll of 0-d", lambda o, f, n: f.nll_loss(o(()), o(()).long())),
    ("class weights", lambda o, f, n: f.cross_entropy(o(3, 2), o(3).long(), o(3))),
    ("class weights of nll", lambda o, f, n: f.nll_loss(o(3, 2), o(3).long(), o(3))),
    (
        "smoothing",
        lambda o, f, n: f.cross_entropy(o(3, 2), o(3).long(), label_smoothing=1.5),
    ),
    ("shapes of kl_div", lambda o, f, n: f.kl_div(o(3), o(4), reduction="sum")),
    ("shapes of hinge", lambda o, f, n: f.hinge_embedding_loss(o(3), o(4))),
    ("axes of ranking", lambda o, f, n: f.margin_ranking_loss(o(3), o(3, 1), o(3))),
    ("shapes of soft margin", lambda o, f, n: f.soft_margin_loss(o(3), o(4))),
    ("axes of triplet", lambda o, f, n: f.triplet_margin_loss(o(3, 2), o(3, 2), o(2))),
    ("margin", lambda o, f, n: f.triplet_margin_loss(o(3, 2), o(3, 2), o(3, 2), margin=0.0)),
    ("margin of the module", lambda o, f, n: n.TripletMarginLoss(0)),
    ("target of cosine", lambda o, f, n: f.cosine_embedding_loss(o(3, 2), o(3, 2), o(()))),
    ("axes of cosine", lambda o, f, n: f.cosine_embedding_loss(o(2), o(2), o(1))),
    ("multilabel of 0-d", lambda o, f, n: f.multilabel_soft_margin_loss(o(()), o(()))),
    ("shapes of poisson", lambda o, f, n: f.poisson_nll_loss(o(3), o(4))),
    ("negative var", lambda o, f, n: f.gaussian_nll_loss(o(3), o(3), -o(3))),
    ("negative number", lambda o, f, n: f.gaussian_nll_loss(o(3), o(3), -1.0)),
    ("shape of var", lambda o, f, n: f.gaussian_nll_loss(o(3), o(3), o(2))),
]


@pytest.mark.parametrize(("name", "call"), MISUSE, ids=[m[0] for m in MISUSE])
def test_misuse(name: str, call: Any) -> None:
    with pytest.raises(Exception) as theirs:
        call(torch.ones, torch.nn.functional, torch.nn)
    with pytest.raises(Exception) as ours:
        call(mg.ones, F, nn)
    kind = RuntimeError if theirs.type is NotImplementedError else theirs.type
    assert issubclass(ours.type, kind), f"{ours.type.__name__} is no {kind.__name__}"
    assert len(str(ours.value)) > 25
