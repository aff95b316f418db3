"""The table behind tests/test_ops.py: a row for every op, and for every argument that matters.

A row names a fresh op, its inputs, and what is known about it. Every test runs on every row; one
that a row cannot take part in is named in ``exempt``, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.ops import Op
from minigrad.shapes import Shape, prod

#: What a row can be exempt from, with a reason.
TESTS = (
    "first",  # first derivatives against finite differences
    "second",  # second derivatives against finite differences
    "third",  # third derivatives against differences of the second
    "dtypes",  # float16, float32, float64 are kept, in the gradients too
    "strided",  # non-contiguous inputs give what contiguous ones give
    "empty",  # zero-size inputs
    "scalar",  # 0-d inputs
    "parity",  # PyTorch gives the same values and gradients
)


def _distinct(rng: np.random.Generator, shape: Shape) -> Any:
    """0.2 apart, and 0.05 from any multiple of 0.1: no finite difference changes an order."""
    n = prod(shape)
    return (0.2 * (rng.permutation(n) - n // 2 + 0.25)).reshape(shape)


def _apart(rng: np.random.Generator, shape: Shape) -> Any:
    """Of either sign, and away from 0, where abs has its kink."""
    return rng.uniform(0.2, 1.5, shape) * rng.choice([-1.0, 1.0], shape)


DRAWS: dict[str, Callable[[np.random.Generator, Shape], Any]] = {
    "real": lambda rng, shape: rng.uniform(-1.4, 1.4, shape),
    "small": lambda rng, shape: rng.uniform(-0.8, 0.8, shape),
    "positive": lambda rng, shape: rng.uniform(0.5, 2.0, shape),
    "chance": lambda rng, shape: rng.uniform(0.2, 0.8, shape),
    "apart": _apart,
    "distinct": _distinct,
    "between": lambda rng, shape: _distinct(rng, shape) + 0.1,
    "zeros": lambda rng, shape: rng.uniform(0.5, 1.5, shape) * (rng.random(shape) < 0.6),
    "mask": lambda rng, shape: rng.random(shape) < 0.5,
    "class": lambda rng, shape: rng.integers(0, 3, shape),
}


#: The draws of real numbers, for which gradients are asked.
SMOOTH = ("real", "small", "positive", "chance", "apart", "distinct", "between", "zeros")


@dataclass(frozen=True)
class Given:
    """An input: drawn by name in a shape, or a fixed value (a number, None)."""

    kind: str
    shape: Shape = ()
    value: Any = None
    constant: bool = False  # no gradient is asked for

    def draw(self, rng: np.random.Generator) -> Any:
        return self.value if self.kind == "fixed" else DRAWS[self.kind](rng, self.shape)

    @property
    def drawn(self) -> bool:
        return self.kind != "fixed"

    @property
    def differentiable(self) -> bool:
        return self.kind in SMOOTH and not self.constant


@dataclass(frozen=True)
class Small:
    """Zero-size (or 0-d) inputs: their shapes, and the shape of the value or the error expected."""

    shapes: tuple[Shape | None, ...]
    gives: Shape | type[Exception]
    make: Callable[[], Op] | None = None  # where the op's arguments depend on the shape


@dataclass(frozen=True)
class Case:
    """One row."""

    name: str
    make: Callable[[], Op]
    inputs: tuple[Given, ...]
    empty: Small | None = None
    scalar: Small | None = None
    same: Callable[..., Any] | None = None  # (library, *inputs): a call alike here and in PyTorch
    oracle: Callable[..., Any] | None = None  # (torch, *inputs): PyTorch's way to the same value
    edges: str = ""  # where PyTorch agrees too: "numbers" (0, infinities), or "all" (and NaN)
    exempt: dict[str, str] = field(default_factory=dict)

    @property
    def op(self) -> type[Op]:
        return type(self.make())

    def draw(self, seed: int = 0) -> list[Any]:
        rng = np.random.default_rng(seed)
        return [g.draw(rng) for g in self.inputs]

    def shaped(self, shapes: tuple[Shape | None, ...], make: Any = None) -> Case:
        """The row with other shapes (None leaves an input as it is)."""
        given = tuple(
            g if s is None else replace(g, shape=s)
            for g, s in zip(self.inputs, shapes, strict=True)
        )
        return replace(self, inputs=given, make=make or self.make)

    def misses(self) -> list[str]:
        """Tests the row has no data for and gives no reason to miss."""
        has = {
            "empty": self.empty,
            "scalar": self.scalar,
            "parity": self.same or self.oracle,
        }
        return [t for t in TESTS if t in has and has[t] is None and not self.exempt.get(t)]


CASES: list[Case] = []


def row(name: str, make: Callable[[], Op], *inputs: Any, **known: Any) -> None:
    given = tuple(g if isinstance(g, Given) else Given("fixed", value=g) for g in inputs)
    CASES.append(Case(name, make, given, **known))


def real(*shape: int) -> Given:
    return Given("real", shape)


def positive(*shape: int) -> Given:
    return Given("positive", shape)


def chance(*shape: int) -> Given:
    return Given("chance", shape)


def apart(*shape: int) -> Given:
    return Given("apart", shape)


def small(*shape: int) -> Given:
    return Given("small", shape)


def distinct(*shape: int) -> Given:
    return Given("distinct", shape)


def between(*shape: int) -> Given:
    return Given("between", shape)


def constant(given: Given) -> Given:
    return replace(given, constant=True)


def mask(*shape: int) -> Given:
    return Given("mask", shape)


INTERNAL = {"parity": "no function of PyTorch is this op; its callers are compared"}
ARGUMENT = "another row of the op shows it; this one varies an argument"
EMPTY = {"empty": ARGUMENT}
SCALAR = {"scalar": ARGUMENT}
AXES = {"scalar": "the op needs axes, and its arguments name them"}

# ---- one variable -------------------------------------------------------------------------------

for cls, x, call in (
    (ops.Exp, real(2, 3), lambda t, x: x.exp()),
    (ops.Expm1, real(2, 3), lambda t, x: x.expm1()),
    (ops.Log, positive(2, 3), lambda t, x: x.log()),
    (ops.Log1p, positive(2, 3), lambda t, x: x.log1p()),
    (ops.Log2, positive(2, 3), lambda t, x: x.log2()),
    (ops.Log10, positive(2, 3), lambda t, x: x.log10()),
    (ops.Sqrt, positive(2, 3), lambda t, x: x.sqrt()),
    (ops.Abs, apart(2, 3), lambda t, x: x.abs()),
    (ops.Sign, apart(2, 3), lambda t, x: x.sign()),
    (ops.Sin, real(2, 3), lambda t, x: x.sin()),
    (ops.Cos, real(2, 3), lambda t, x: x.cos()),
    (ops.Tan, real(2, 3), lambda t, x: x.tan()),
    (ops.Asin, small(2, 3), lambda t, x: x.asin()),
    (ops.Acos, small(2, 3), lambda t, x: x.acos()),
    (ops.Atan, real(2, 3), lambda t, x: x.atan()),
    (ops.Sinh, real(2, 3), lambda t, x: x.sinh()),
    (ops.Cosh, real(2, 3), lambda t, x: x.cosh()),
    (ops.Tanh, real(2, 3), lambda t, x: x.tanh()),
    (ops.Erf, real(2, 3), lambda t, x: x.erf()),
    (ops.Erfc, real(2, 3), lambda t, x: x.erfc()),
    (ops.Sigmoid, real(2, 3), lambda t, x: x.sigmoid()),
    (ops.ReLU, apart(2, 3), lambda t, x: x.relu()),
    (ops.Neg, real(2, 3), lambda t, x: -x),
    (ops.Clone, real(2, 3), lambda t, x: x.clone()),
    (ops.Alias, real(2, 3), None),
):
    row(
        cls.__name__,
        cls,
        x,
        empty=Small(((0, 3),), (0, 3)),
        scalar=Small(((),), ()),
        same=call,
        # of NaN: PyTorch's sign is 0, so is the slope of its abs, and that of its relu is 1
        edges=(call and "all") if cls not in (ops.Abs, ops.Sign, ops.ReLU) else "numbers",
        exempt={} if call else INTERNAL,
    )

for low, high in ((-0.3, 0.3), (None, 0.3), (-0.3, None)):
    row(
        f"Clamp-{low}-{high}",
        lambda a=low, b=high: ops.Clamp(a, b),
        distinct(2, 3),
        empty=Small(((0, 3),), (0, 3)),
        scalar=Small(((),), ()),
        same=lambda t, x, a=low, b=high: x.clamp(a, b),
        edges="all",
    )
PIECES = ["relu6", "hardtanh", "elu", "selu", "celu", "hardswish", "hardshrink", "softshrink"]
for kind, parameters, call in (
    ("relu6", (), lambda f, x: f.relu6(x)),
    ("hardtanh", (-0.3, 0.5), lambda f, x: f.hardtanh(x, -0.3, 0.5)),
    ("threshold", (-0.3, 0.7), lambda f, x: f.threshold(x, -0.3, 0.7)),
    ("leaky_relu", (0.1,), lambda f, x: f.leaky_relu(x, 0.1)),
    ("elu", (0.7,), lambda f, x: f.elu(x, 0.7)),
    ("selu", (), lambda f, x: f.selu(x)),
    ("celu", (0.5,), lambda f, x: f.celu(x, 0.5)),
    ("gelu", (), lambda f, x: f.gelu(x)),
    ("gelu_tanh", (), lambda f, x: f.gelu(x, approximate="tanh")),
    ("silu", (), lambda f, x: f.silu(x)),
    ("mish", (), lambda f, x: f.mish(x)),
    ("softplus", (1.0, 20.0), lambda f, x: f.softplus(x)),
    ("softplus", (2.0, 1.0), lambda f, x: f.softplus(x, 2.0, 1.0)),
    ("softsign", (), lambda f, x: f.softsign(x)),
    ("hardswish", (), lambda f, x: f.hardswish(x)),
    ("hardsigmoid", (), lambda f, x: f.hardtanh(x + 3, 0.0, 6.0) / 6),
    ("hardshrink", (0.3,), lambda f, x: f.hardshrink(x, 0.3)),
    ("softshrink", (0.3,), lambda f, x: f.softshrink(x, 0.3)),
    ("tanhshrink", (), lambda f, x: f.tanhshrink(x)),
    ("logsigmoid", (), lambda f, x: f.logsigmoid(x)),
):
    row(
        f"Activation-{'-'.join(map(str, (kind, *parameters)))}",
        lambda k=kind, p=parameters: ops.Activation(k, *p),
        distinct(2, 3),
        empty=Small(((0, 3),), (0, 3)),
        scalar=Small(((),), ()),
        oracle=lambda t, x, c=call: c(t.nn.functional, x),
        # PyTorch: the slope of softsign at infinity is no number, 1/6 in hardsigmoid is a float32,
        # and so is 1/alpha in celu, which 0.5 is exact for. At NaN the slopes of pieces depend on
        # the length of the tensor and on the processor (docs/differences.md)
        edges={"softsign": "", "hardsigmoid": "", **dict.fromkeys(PIECES, "numbers")}.get(
            kind, "all"
        ),
    )
row(
    "PReLU",
    ops.PReLU,
    apart(2, 3),
    positive(3),
    empty=Small(((0, 3), (3,)), (0, 3)),
    scalar=Small(((), ()), ()),
    oracle=lambda t, x, w: t.where(x > 0, x, w * x),
)
row(
    "Cast",
    lambda: ops.Cast(np.dtype("float32")),
    real(2, 3),
    empty=Small(((0, 3),), (0, 3)),
    scalar=Small(((),), ()),
    same=lambda t, x: x.to(t.float32),
    exempt={
        "first": "rounds to float32: finite differences drown; the parity test holds its gradient",
        "second": "as the first",
        "third": "as the first",
        "dtypes": "its purpose is another dtype",
    },
)
row(
    "ToDevice",
    lambda: ops.ToDevice("cpu"),
    real(2, 3),
    empty=Small(((0, 3),), (0, 3)),
    scalar=Small(((),), ()),
    same=lambda t, x: x.cpu(),
)
row(
    "Dropout",
    lambda: ops.Dropout(0.5),
    real(2, 3),
    mask(2, 3),
    empty=Small(((0, 3), (0, 3)), (0, 3)),
    scalar=Small(((), ()), ()),
    oracle=lambda t, x, m: x * m,
)

for how in ("floor", "ceil", "trunc", "round"):
    row(
        f"Rounded-{how}",
        lambda h=how: ops.Rounded(h),
        distinct(2, 3),
        empty=Small(((0, 3),), (0, 3)),
        scalar=Small(((),), ()),
        same=lambda t, x, h=how: getattr(t, h)(x),
        edges="all",
    )
row(
    "Rounded-decimals",
    lambda: ops.Rounded("round", 1),
    real(2, 3),
    empty=Small(((0, 3),), (0, 3)),
    scalar=Small(((),), ()),
    same=lambda t, x: t.round(x, decimals=1),
)

# ---- two or three variables ---------------------------------------------------------------------

#: PyTorch's gradients at 0, at infinities and at NaN are others there.
NO_EDGES = (ops.Remainder, ops.Fmod, ops.Atan2, ops.LogAddExp)

for name, make, inputs, call in (
    ("Add", ops.Add, (real(2, 3), real(3)), lambda t, a, b: a + b),
    ("Sub", ops.Sub, (real(3), real(2, 1)), lambda t, a, b: a - b),
    ("Mul", ops.Mul, (real(2, 3), real(2, 1)), lambda t, a, b: a * b),
    ("Div", ops.Div, (real(2, 3), apart(3)), lambda t, a, b: a / b),
    ("Pow", ops.Pow, (positive(2, 1), real(3)), lambda t, a, b: a**b),
    ("Remainder", ops.Remainder, (real(2, 3), positive(3)), lambda t, a, b: a % b),
    ("Fmod", ops.Fmod, (real(2, 3), positive(3)), lambda t, a, b: t.fmod(a, b)),
    ("Atan2", ops.Atan2, (apart(2, 3), apart(3)), lambda t, a, b: t.atan2(a, b)),
    ("LogAddExp", ops.LogAddExp, (real(2, 3), real(2, 1)), lambda t, a, b: t.logaddexp(a, b)),
    (
        "Quotient-floor",
        lambda: ops.Quotient("floor"),
        (real(2, 3), apart(3)),
        lambda t, a, b: t.div(a, b, rounding_mode="floor"),
    ),
    (
        "Quotient-trunc",
        lambda: ops.Quotient("trunc"),
        (real(2, 3), apart(3)),
        lambda t, a, b: t.div(a, b, rounding_mode="trunc"),
    ),
    ("Maximum", ops.Maximum, (distinct(2, 3), between(2, 1)), lambda t, a, b: t.maximum(a, b)),
    ("Minimum", ops.Minimum, (distinct(2, 3), between(2, 1)), lambda t, a, b: t.minimum(a, b)),
):
    row(
        name,
        make,
        *inputs,
        empty=Small(((0, 3), (3,)), (0, 3)),
        scalar=Small(((), ()), ()),
        same=call,
        # to a NaN PyTorch's maximum gives the whole gradient twice, ours nothing
        edges={"Maximum": "numbers", "Minimum": "numbers"}.get(
            name, "" if make in NO_EDGES or "Quotient" in name else "all"
        ),
    )
for name, make, a, b, call in (
    ("Add-number", ops.Add, real(2, 3), 2.5, lambda t, a, b: a + b),
    ("Sub-number", ops.Sub, 2.5, real(2, 3), lambda t, a, b: a - b),
    ("Mul-number", ops.Mul, -2, real(2, 3), lambda t, a, b: a * b),
    ("Div-number", ops.Div, real(2, 3), 4, lambda t, a, b: a / b),
    ("Div-by", ops.Div, 3.0, apart(2, 3), lambda t, a, b: a / b),
    ("Pow-2", ops.Pow, real(2, 3), 2, lambda t, a, b: a**b),
    ("Pow-0", ops.Pow, real(2, 3), 0, lambda t, a, b: a**b),
    ("Pow-half", ops.Pow, positive(2, 3), 0.5, lambda t, a, b: a**b),
    ("Pow-minus", ops.Pow, apart(2, 3), -1.0, lambda t, a, b: a**b),
    ("Pow-base", ops.Pow, 2.0, real(2, 3), lambda t, a, b: a**b),
    ("Remainder-number", ops.Remainder, real(2, 3), 0.7, lambda t, a, b: a % b),
    ("Maximum-number", ops.Maximum, distinct(2, 3), 0.1, None),
):
    row(
        name,
        make,
        a,
        b,
        same=call,
        empty=Small((None, (0, 3)) if isinstance(b, Given) else ((0, 3), None), (0, 3)),
        scalar=Small((None, ()) if isinstance(b, Given) else ((), None), ()),
        # PyTorch takes a ** 0.5 for sqrt(a), which differs at -0 and -inf
        edges="all" if call and name not in ("Remainder-number", "Pow-half") else "",
        exempt={} if call else {"parity": "PyTorch's maximum takes no number; clamp is compared"},
    )
row(
    "Where",
    ops.Where,
    mask(2, 3),
    real(3),
    real(2, 1),
    empty=Small(((0, 3), (3,), (1,)), (0, 3)),
    scalar=Small(((), (), ()), ()),
    same=lambda t, c, a, b: t.where(c, a, b),
    edges="all",
)
row(
    "Where-number",
    ops.Where,
    mask(2, 3),
    real(2, 3),
    0.0,
    empty=Small(((0, 3), (0, 3), None), (0, 3)),
    scalar=Small(((), (), None), ()),
    same=lambda t, c, a, b: t.where(c, a, b),
    edges="all",
)

# ---- reductions ---------------------------------------------------------------------------------

for axes, keep in (((0, 1), False), ((1,), False), ((0,), True)):
    label = f"{axes}-keep" if keep else f"{axes}"
    gone = tuple(n if i not in axes else 1 for i, n in enumerate((0, 3)) if keep or i not in axes)
    for cls, x, call in (
        (ops.Sum, real(2, 3), lambda t, x, d, k: x.sum(d, k)),
        (ops.Mean, real(2, 3), lambda t, x, d, k: x.mean(d, k)),
        (ops.Var, real(2, 3), lambda t, x, d, k: x.var(d, True, k)),
        (ops.Std, real(2, 3), lambda t, x, d, k: x.std(d, True, k)),
        (ops.LogSumExp, real(2, 3), lambda t, x, d, k: x.logsumexp(d, k)),
        (ops.Norm, real(2, 3), lambda t, x, d, k: x.norm(2, d, k)),
        (ops.Amax, distinct(2, 3), lambda t, x, d, k: x.amax(d, k)),
        (ops.Amin, distinct(2, 3), lambda t, x, d, k: x.amin(d, k)),
    ):
        refused = cls in (ops.Amax, ops.Amin) and 0 in axes
        row(
            f"{cls.__name__}-{label}",
            lambda c=cls, a=axes, k=keep: c(a, k),
            x,
            empty=Small(((0, 3),), ValueError if refused else gone),
            scalar=Small(((),), (), lambda c=cls, k=keep: c((), k)),
            same=lambda t, x, c=call, a=axes, k=keep: c(t, x, list(a), k),
        )
    if len(axes) == 1 or axes == (0, 1):
        row(
            f"Prod-{label}",
            lambda a=axes, k=keep: ops.Prod(a, k),
            apart(2, 3),
            empty=Small(((0, 3),), gone),
            scalar=Small(((),), (), lambda k=keep: ops.Prod((), k)),
            same=(lambda t, x, a=axes, k=keep: x.prod(a[0], k))
            if len(axes) == 1
            else lambda t, x: x.prod(),
        )
for p in (0.5, 1.5, 3):
    row(
        f"Norm-{p}",
        lambda p=p: ops.Norm((1,), False, p),
        apart(2, 3),
        empty=Small(((0, 3),), (0,)),
        scalar=Small(((),), (), lambda p=p: ops.Norm((), False, p)),
        same=lambda t, x, p=p: x.norm(p, 1),
    )
row(
    "Median",
    lambda: ops.Median((0, 1)),
    distinct(2, 3),
    empty=Small(((0, 3),), IndexError),
    scalar=Small(((),), (), lambda: ops.Median(())),
    same=lambda t, x: x.median(),
)
row(
    "Var-biased",
    lambda: ops.Var((0,), False, 0),
    real(3, 2),
    empty=Small(((0, 2),), (2,)),
    scalar=Small(((),), (), lambda: ops.Var((), False, 0)),
    same=lambda t, x: x.var(0, correction=0),
)
for name, x in (("", apart(2, 3)), ("-zeros", Given("zeros", (2, 4)))):
    row(
        f"CumProd{name}",
        lambda: ops.CumProd(1),
        x,
        empty=Small(((0, 3),), (0, 3)),
        scalar=Small(((),), (), lambda: ops.CumProd(0)),
        same=lambda t, x: x.cumprod(1),
    )
row(
    "Prod-zeros",
    lambda: ops.Prod((1,), False),
    Given("zeros", (2, 4)),
    same=lambda t, x: x.prod(1),
    exempt={**EMPTY, **SCALAR},
)
row(
    "CumSum",
    lambda: ops.CumSum(1),
    real(2, 3),
    empty=Small(((0, 3),), (0, 3)),
    scalar=Small(((),), (), lambda: ops.CumSum(0)),
    same=lambda t, x: x.cumsum(1),
)

# ---- shape --------------------------------------------------------------------------------------

row(
    "Reshape",
    lambda: ops.Reshape((3, 2)),
    real(2, 3),
    empty=Small(((0, 3),), (3, 0), lambda: ops.Reshape((3, 0))),
    scalar=Small(((),), (1, 1), lambda: ops.Reshape((1, 1))),
    same=lambda t, x: x.reshape(3, 2),
)
row(
    "Transpose",
    lambda: ops.Transpose((2, 0, 1)),
    real(2, 3, 2),
    empty=Small(((0, 3, 2),), (2, 0, 3)),
    scalar=Small(((),), (), lambda: ops.Transpose(())),
    same=lambda t, x: x.permute(2, 0, 1),
)
row(
    "Expand",
    lambda: ops.Expand((2, 2, 3)),
    real(2, 1),
    empty=Small(((0, 1),), (2, 0, 3), lambda: ops.Expand((2, 0, 3))),
    scalar=Small(((),), (2, 3), lambda: ops.Expand((2, 3))),
    same=lambda t, x: x.expand(2, 2, 3),
)
row(
    "Expand-to-nothing",
    lambda: ops.Expand((0, 3)),
    real(1, 3),
    empty=Small(((1, 3),), (0, 3)),
    scalar=Small(((),), (0,), lambda: ops.Expand((0,))),
    same=lambda t, x: x.expand(0, 3),
)
row(
    "Flip",
    lambda: ops.Flip((0, 1)),
    real(2, 3),
    empty=Small(((0, 3),), (0, 3)),
    scalar=Small(((),), (), lambda: ops.Flip(())),
    same=lambda t, x: x.flip(0, 1),
)
row(
    "Pad",
    lambda: ops.Pad(((1, 0), (0, 2)), 0.5),
    real(2, 3),
    empty=Small(((0, 3),), (1, 5)),
    scalar=Small(((),), (), lambda: ops.Pad(())),
    oracle=lambda t, x: t.nn.functional.pad(x, (0, 2, 1, 0), value=0.5),
)
row(
    "Concatenate",
    lambda: ops.Concatenate(1),
    real(2, 1),
    real(2, 2),
    real(2, 3),
    empty=Small(((2, 0), (2, 2), (2, 0)), (2, 2)),
    same=lambda t, *x: t.cat(x, 1),
    exempt=AXES,
)
row(
    "Diagonal",
    ops.Diagonal,
    real(2, 3, 3),
    empty=Small(((2, 0, 0),), (2, 0)),
    oracle=lambda t, x: x.diagonal(0, 1, 2),
    exempt=AXES,
)
for upper, diagonal in ((False, 0), (True, 1), (False, -1)):
    row(
        f"Triangle-{'upper' if upper else 'lower'}{diagonal}",
        lambda u=upper, d=diagonal: ops.Triangle(u, d),
        real(2, 3, 3),
        empty=Small(((2, 0, 3),), (2, 0, 3)),
        scalar=Small(((),), ValueError),
        same=lambda t, x, u=upper, d=diagonal: (t.triu if u else t.tril)(x, d),
    )

# ---- index --------------------------------------------------------------------------------------

PLACES = np.array([[0, 2, 2], [1, 0, 2]])
for name, index in (
    ("array", (np.array([2, 0, 2]),)),
    ("mask", (np.array([[True, False], [True, True], [False, False]]),)),
    ("mixed", (np.array([1, 1]), None, slice(None, None, 2))),
    ("arrays", (np.array([[0], [2]]), np.array([1, 0]))),
):
    gives = {"array": (3, 0), "mixed": (2, 1, 0), "mask": (3,), "arrays": (2, 2)}[name]
    row(
        f"Index-{name}",
        lambda i=index: ops.Index(i),
        real(3, 2),
        empty=None if name in ("mask", "arrays") else Small(((3, 0),), gives),
        oracle=lambda t, x, i=index: x[
            tuple(t.tensor(p) if isinstance(p, np.ndarray) else p for p in i)
        ],
        exempt={**AXES, **(EMPTY if name in ("mask", "arrays") else {})},
    )
row(
    "Slice",
    lambda: ops.Slice((slice(None, None, 2), None, 1, ...)),
    real(3, 2, 2),
    empty=Small(((0, 2, 2),), (0, 1, 2)),
    scalar=Small(((),), (1,), lambda: ops.Slice((None, ...))),
    same=lambda t, x: x[::2, None, 1, ...],
)
TABLE = np.array([[0, 2, 2], [1, 1, 2]])
for name, options in (("plain", ()), ("padding", (2,)), ("shares", (0, True))):
    row(
        f"Embedding-{name}",
        lambda o=options: ops.Embedding(TABLE, *o),
        real(3, 2),
        empty=Small(((3, 0),), (2, 3, 0)),
        oracle=lambda t, w, o=options: t.nn.functional.embedding(
            t.tensor(TABLE), w, *o[:1], scale_grad_by_freq=len(o) == 2
        ),
        exempt={
            **AXES,
            **(
                {}
                if name == "plain"
                else dict.fromkeys(
                    ("first", "second", "third"),
                    "its gradient is not that of its value; the parity test holds it",
                )
            ),
        },
    )
row(
    "IndexAdd",
    lambda: ops.IndexAdd((np.array([2, 0, 2]),), (4, 2)),
    real(3, 2),
    empty=Small(((3, 0),), (4, 0), lambda: ops.IndexAdd((np.array([2, 0, 2]),), (4, 0))),
    oracle=lambda t, x: t.zeros(4, 2, dtype=x.dtype).index_add(0, t.tensor([2, 0, 2]), x),
    exempt=AXES,
)
row(
    "IndexAdd-slice",
    lambda: ops.IndexAdd((slice(1, 4),), (4, 2)),
    real(3, 2),
    oracle=lambda t, x: t.cat((t.zeros(1, 2, dtype=x.dtype), x)),
    exempt={**AXES, **EMPTY},
)
row(
    "SetItem",
    lambda: ops.SetItem((slice(None, None, 2),)),
    real(3, 2),
    real(2),
    empty=Small(((0, 2), (2,)), (0, 2)),
    scalar=Small(((), ()), (), lambda: ops.SetItem((...,))),
    oracle=lambda t, x, v: t.stack((v, x[1], v)),
)
row(
    "SetItem-number",
    lambda: ops.SetItem((np.array([1, 1]),)),
    real(3, 2),
    2.0,
    oracle=lambda t, x, v: x.index_put((t.tensor([1, 1]),), t.tensor(v, dtype=x.dtype)),
    exempt={**AXES, **EMPTY},
)
row(
    "Gather",
    lambda: ops.Gather(1, PLACES),
    real(2, 3),
    empty=Small(((0, 3),), (0, 3), lambda: ops.Gather(1, PLACES[:0])),
    scalar=Small(((),), (), lambda: ops.Gather(0, np.array(0))),
    oracle=lambda t, x: x.gather(1, t.tensor(PLACES)),
)
row(
    "Gather-part",
    lambda: ops.Gather(0, PLACES[:, :2]),
    real(3, 4),
    oracle=lambda t, x: x.gather(0, t.tensor(PLACES[:, :2])),
    exempt={**EMPTY, **SCALAR},
)
row(
    "ScatterAdd",
    lambda: ops.ScatterAdd(1, PLACES, (2, 3)),
    real(2, 3),
    empty=Small(((0, 3),), (0, 3), lambda: ops.ScatterAdd(1, PLACES[:0], (0, 3))),
    oracle=lambda t, x: t.zeros(2, 3, dtype=x.dtype).scatter_add(1, t.tensor(PLACES), x),
    exempt=AXES,
)
row(
    "ScatterAdd-part",
    lambda: ops.ScatterAdd(0, PLACES[:1], (3, 4)),
    real(2, 4),
    oracle=lambda t, x: t.zeros(3, 4, dtype=x.dtype).scatter_add(
        0, t.tensor(PLACES[:1]), x[:1, :3]
    ),
    exempt={**AXES, **EMPTY},
)

# ---- products -----------------------------------------------------------------------------------

row(
    "MatMul",
    ops.MatMul,
    real(2, 3),
    real(3, 2),
    empty=Small(((0, 3), (3, 2)), (0, 2)),
    same=lambda t, a, b: a @ b,
    exempt=AXES,
)
row(
    "MatMul-batched",
    ops.MatMul,
    real(2, 1, 2, 3),
    real(2, 3, 1),
    empty=Small(((2, 1, 2, 0), (2, 0, 1)), (2, 2, 2, 1)),
    same=lambda t, a, b: a @ b,
    exempt=AXES,
)
for equation, shapes, empties, gives in (
    ("ij,jk->ik", ((2, 3), (3, 2)), ((0, 3), (3, 2)), (0, 2)),
    ("bij,bjk->bik", ((2, 2, 3), (2, 3, 2)), ((2, 2, 0), (2, 0, 2)), (2, 2, 2)),
    ("i,j->ji", ((2,), (3,)), ((0,), (3,)), (3, 0)),
    ("ij,ij->", ((2, 3), (2, 3)), ((0, 3), (0, 3)), ()),
    ("ij->ji", ((2, 3),), ((0, 3),), (3, 0)),
    ("ij,jk,k->i", ((2, 3), (3, 2), (2,)), ((0, 3), (3, 2), (2,)), (0,)),
):
    row(
        f"Einsum-{equation}",
        lambda e=equation: ops.Einsum(e),
        *(real(*s) for s in shapes),
        empty=Small(empties, gives),
        same=lambda t, *x, e=equation: t.einsum(e, *x),
        exempt=AXES,
    )
for name, shape in (("vector", (3,)), ("matrix", (2, 3)), ("batch", (2, 2, 3))):
    for bias in (True, False):
        row(
            f"Linear-{name}{'' if bias else '-no-bias'}",
            ops.Linear,
            real(*shape),
            real(2, 3),
            real(2) if bias else None,
            empty=Small(((*shape[:-1], 0), (2, 0), (2,) if bias else None), (*shape[:-1], 2)),
            oracle=lambda t, x, w, b: t.nn.functional.linear(x, w, b),
            exempt=AXES,
        )

# ---- images -------------------------------------------------------------------------------------

NONE = ((0, 0), (0, 0))
for name, shape, kernel, options, bias in (
    ("plain", (2, 2, 3, 3), (3, 2, 2, 2), ((1, 1), NONE, (1, 1), 1), True),
    ("1x1", (2, 2, 2, 2), (3, 2, 1, 1), ((1, 1), NONE, (1, 1), 1), False),
    ("stride-padding", (1, 1, 5, 4), (2, 1, 3, 2), ((2, 1), ((1, 1), (1, 1)), (1, 1), 1), True),
    ("dilation", (1, 2, 5, 4), (1, 2, 2, 2), ((1, 1), NONE, (3, 2), 1), False),
    ("groups", (2, 4, 2, 3), (2, 2, 2, 2), ((1, 1), NONE, (1, 1), 2), True),
):
    stride, pads, dilation, groups = options
    none = (0, *shape[1:])
    row(
        f"Conv2d-{name}",
        lambda o=options: ops.Conv2d(*o),
        real(*shape),
        real(*kernel),
        real(kernel[0]) if bias else None,
        empty=Small(
            (none, None, None),
            (
                0,
                kernel[0],
                *(
                    (n + 2 * p[0] - d * (k - 1) - 1) // s + 1
                    for n, p, d, k, s in zip(
                        shape[2:], pads, dilation, kernel[2:], stride, strict=True
                    )
                ),
            ),
        ),
        oracle=lambda t, x, w, b, o=options: t.nn.functional.conv2d(
            x, w, b, o[0], tuple(p[0] for p in o[1]), o[2], o[3]
        ),
        exempt=AXES,
    )
row(
    "Conv2d-one-sided",
    lambda: ops.Conv2d((1, 1), ((0, 1), (1, 0))),
    real(1, 1, 3, 3),
    real(1, 1, 2, 2),
    None,
    oracle=lambda t, x, w, b: t.nn.functional.conv2d(t.nn.functional.pad(x, (1, 0, 0, 1)), w),
    exempt={**AXES, **EMPTY},
)
for name, shape, kernel, options, extra, bias in (
    ("plain", (2, 2, 2, 3), (2, 3, 2, 2), ((1, 1), NONE, (1, 1), 1), (0, 0), True),
    ("stride", (1, 2, 2, 2), (2, 1, 3, 2), ((2, 3), ((1, 0), (0, -1)), (1, 1), 1), (1, 1), True),
    ("dilation", (1, 1, 3, 2), (1, 2, 2, 2), ((1, 2), NONE, (3, 2), 1), (0, 0), False),
    ("beyond", (1, 1, 2, 2), (1, 1, 2, 1), ((1, 2), ((0, -2), (0, -1)), (3, 1), 1), (2, 1), True),
    ("groups", (2, 4, 2, 1), (4, 1, 2, 3), ((2, 1), ((0, 0), (1, 1)), (1, 1), 2), (0, 0), True),
):
    row(
        f"ConvTranspose2d-{name}",
        lambda o=options: ops.ConvTranspose2d(*o),
        real(*shape),
        real(*kernel),
        real(kernel[1] * options[3]) if bias else None,
        empty=Small(
            ((0, *shape[1:]), None, None),
            (
                0,
                kernel[1] * options[3],
                *(
                    s * (n - 1) + d * (k - 1) + 1 - sum(p)
                    for n, s, p, d, k in zip(
                        shape[2:], options[0], options[1], options[2], kernel[2:], strict=True
                    )
                ),
            ),
        ),
        oracle=lambda t, x, w, b, o=options, e=extra: t.nn.functional.conv_transpose2d(
            x, w, b, o[0], tuple(p[0] for p in o[1]), e, o[3], o[2]
        ),
        exempt=AXES,
    )
for name, shape, options in (
    ("plain", (2, 2, 3, 3), ((2, 2), (1, 1), NONE, (1, 1))),
    ("odd", (1, 2, 4, 3), ((2, 3), (2, 1), ((1, 1), (1, 1)), (2, 1))),
):
    h, w, L = {"plain": (3, 3, 4), "odd": (4, 3, 6)}[name]
    cells = options[0][0] * options[0][1]
    torch_options = (options[0], options[3], tuple(p[0] for p in options[2]), options[1])
    row(
        f"Unfold-{name}",
        lambda o=options: ops.Unfold(*o),
        real(*shape),
        empty=Small(((0, *shape[1:]),), (0, shape[1] * cells, L)),
        oracle=lambda t, x, o=torch_options: t.nn.functional.unfold(x, *o),
        exempt=AXES,
    )
    row(
        f"Fold-{name}",
        lambda o=options, h=h, w=w: ops.Fold((h, w), *o),
        real(shape[0], shape[1] * cells, L),
        empty=Small(((0, shape[1] * cells, L),), (0, shape[1], h, w)),
        oracle=lambda t, x, o=torch_options, h=h, w=w: t.nn.functional.fold(x, (h, w), *o),
        exempt=AXES,
    )
for name, shape, options in (
    ("plain", (2, 1, 4, 4), ((2, 2), (2, 2), NONE, (1, 1), (2, 2))),
    ("overlap", (1, 2, 4, 3), ((3, 2), (1, 1), ((1, 1), (1, 1)), (1, 1), (4, 4))),
    ("dilation", (1, 1, 5, 4), ((2, 2), (1, 2), NONE, (3, 1), (2, 2))),
):
    row(
        f"MaxPool2d-{name}",
        lambda o=options: ops.MaxPool2d(*o),
        distinct(*shape),
        empty=Small(((0, *shape[1:]),), (0, shape[1], *options[4])),
        oracle=lambda t, x, o=options: t.nn.functional.max_pool2d(
            x, o[0], o[1], tuple(p[0] for p in o[2]), o[3]
        ),
        exempt=AXES,
    )
for name, shape, options in (
    ("plain", (2, 1, 4, 4), ((2, 2), (2, 2), NONE, (2, 2), np.full((2, 2), 0.25))),
    (
        "overlap",
        (1, 2, 4, 3),
        ((3, 2), (1, 1), ((1, 1), (1, 1)), (4, 4), np.full((4, 4), 1 / 6)),
    ),
):
    row(
        f"AvgPool2d-{name}",
        lambda o=options: ops.AvgPool2d(*o),
        real(*shape),
        empty=Small(((0, *shape[1:]),), (0, shape[1], *options[3])),
        oracle=lambda t, x, o=options: t.nn.functional.avg_pool2d(
            x, o[0], o[1], tuple(p[0] for p in o[2])
        ),
        exempt=AXES,
    )

# ---- normalization, softmax, loss ---------------------------------------------------------------


def normalized(t: Any, x: Any, gamma: Any, beta: Any, axes: Any, wide: Any) -> Any:
    """From primitives: right to any order, which PyTorch's own batch_norm is not from the third."""
    centered = x - x.mean(axes, keepdim=True)
    y = centered / (centered.square().mean(axes, keepdim=True) + 1e-5).sqrt()
    y = y if gamma is None else y * gamma.reshape(wide)
    return y if beta is None else y + beta.reshape(wide)


for name, shape, affine in (
    ("rows", (4, 2), True),
    ("images", (2, 2, 1, 3), True),
    ("sequence", (2, 2, 2), True),
    ("plain", (4, 2), False),
):
    wide = (1, -1) + (1,) * (len(shape) - 2)
    axes = (0, *range(2, len(shape)))
    vectors = (real(2), real(2)) if affine else (None, None)
    none = (0, *shape[1:])
    row(
        f"BatchNorm-{name}",
        ops.BatchNorm,
        real(*shape),
        *vectors,
        empty=Small((none, None, None), ValueError),
        oracle=lambda t, x, g, b, a=axes, w=wide: normalized(t, x, g, b, a, w),
        exempt=AXES,
    )
    row(
        f"BatchNormInference-{name}",
        ops.BatchNormInference,
        real(*shape),
        *vectors,
        constant(real(2)),
        constant(positive(2)),
        empty=Small((none, None, None, None, None), none),
        oracle=lambda t, x, g, b, m, v: t.nn.functional.batch_norm(x, m, v, g, b),
        exempt=AXES,
    )
for name, shape, features, affine in (
    ("rows", (2, 3), (3,), True),
    ("tokens", (2, 2, 3), (3,), True),
    ("images", (2, 2, 3), (2, 3), True),
    ("plain", (2, 3), (3,), False),
):
    vectors = (real(*features), real(*features)) if affine else (None, None)
    none = (0, *shape[1:])
    row(
        f"LayerNorm-{name}",
        lambda f=features: ops.LayerNorm(f),
        real(*shape),
        *vectors,
        empty=Small((none, None, None), none),
        oracle=lambda t, x, g, b, f=features: t.nn.functional.layer_norm(x, f, g, b),
        exempt=AXES,
    )
for name, shape, groups, affine in (
    ("images", (2, 4, 2, 1), 2, True),
    ("instances", (2, 2, 3), 2, True),
    ("rows", (2, 6), 2, False),
    ("whole", (1, 2, 2, 2), 1, True),
):
    vectors = (real(shape[1]), real(shape[1])) if affine else (None, None)
    none = (0, *shape[1:])
    row(
        f"GroupNorm-{name}",
        lambda g=groups: ops.GroupNorm(g),
        real(*shape),
        *vectors,
        empty=Small((none, None, None), none),
        oracle=lambda t, x, g, b, n=groups: t.nn.functional.group_norm(x, n, g, b),
        exempt=AXES,
    )
for name, shape, features, affine in (
    ("rows", (2, 3), (3,), True),
    ("images", (2, 2, 3), (2, 3), True),
    ("plain", (3,), (3,), False),
):
    none = (0, *shape[1:])
    row(
        f"RMSNorm-{name}",
        lambda f=features: ops.RMSNorm(f, 1e-3),
        real(*shape),
        real(*features) if affine else None,
        empty=Small((none, None), none) if affine else None,
        oracle=lambda t, x, g, f=features: t.nn.functional.rms_norm(x, f, g, 1e-3),
        exempt={**AXES, **({} if affine else EMPTY)},
    )
for name, shape, options in (
    ("odd", (2, 4, 2), (3, 0.5, 0.75, 1.0)),
    ("even", (1, 3, 2, 2), (2, 1.5, 0.5, 2.0)),
    ("wide", (2, 3, 1), (9, 2.0, 1.0, 0.5)),
):
    row(
        f"LocalResponseNorm-{name}",
        lambda o=options: ops.LocalResponseNorm(*o),
        real(*shape),
        empty=Small(((0, *shape[1:]),), (0, *shape[1:])),
        oracle=lambda t, x, o=options: t.nn.functional.local_response_norm(x, *o),
        exempt=AXES,
    )
for axis in (0, 1):
    for cls, call in (
        (ops.Softmax, lambda t, x, a: x.softmax(a)),
        (ops.LogSoftmax, lambda t, x, a: x.log_softmax(a)),
    ):
        row(
            f"{cls.__name__}-{axis}",
            lambda c=cls, a=axis: c(a),
            real(2, 3),
            empty=Small(((0, 3),), (0, 3)),
            scalar=Small(((),), (), lambda c=cls: c(0)),
            same=lambda t, x, c=call, a=axis: c(t, x, a),
        )
for reduction in ("mean", "sum", "none"):
    for ignored in (-100, 1):
        row(
            f"CrossEntropy-{reduction}-{ignored}",
            lambda r=reduction, i=ignored: ops.CrossEntropy(r, i),
            real(4, 3),
            Given("class", (4,)),
            empty=Small(((0, 3), (0,)), (0,) if reduction == "none" else ()),
            oracle=lambda t, z, target, r=reduction, i=ignored: t.nn.functional.cross_entropy(
                z, target, reduction=r, ignore_index=i
            ),
            exempt=AXES,
        )
row(
    "BinaryCrossEntropy",
    ops.BinaryCrossEntropy,
    chance(2, 3),
    chance(2, 3),
    empty=Small(((0, 3), (0, 3)), (0, 3)),
    scalar=Small(((), ()), ()),
    oracle=lambda t, p, y: t.nn.functional.binary_cross_entropy(p, y, reduction="none"),
)
row(
    "BinaryCrossEntropySlope",
    ops.BinaryCrossEntropySlope,
    chance(2, 3),
    chance(2, 3),
    empty=Small(((0, 3), (0, 3)), (0, 3)),
    scalar=Small(((), ()), ()),
    oracle=lambda t, p, y: (p - y) / (p * (1 - p)),
)
