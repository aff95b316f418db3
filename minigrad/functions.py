"""The functions at minigrad's top level: a tensor's methods by name, and the rest."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from functools import wraps
from string import ascii_letters
from typing import Any, TypeVar

from minigrad.backends import backend_of
from minigrad.dtypes import promote
from minigrad.errors import DtypeError, RangeError, ShapeError
from minigrad.ops import Cast, Concatenate, Einsum, Pow, Remainder, Where
from minigrad.shapes import as_axes, as_axis, broadcast_shapes
from minigrad.shapes import prod as prod_of
from minigrad.tensor import Tensor, apply, binary, promoted, wrap

F = TypeVar("F", bound=Callable[..., Any])


def _function(method: F) -> F:
    """A method of Tensor as a function, whose first argument is ``input`` as in PyTorch."""
    name = method.__name__

    @wraps(method)
    def call(input: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(input, Tensor):
            raise TypeError(
                f"{name} expects a tensor, got {type(input).__name__}; "
                "make one with minigrad.tensor()."
            )
        return method(input, *args, **options)

    return call  # type: ignore[return-value]


abs = _function(Tensor.abs)
acos = _function(Tensor.acos)
add = _function(Tensor.add)
addcdiv = _function(Tensor.addcdiv)
addcmul = _function(Tensor.addcmul)
addmm = _function(Tensor.addmm)
all = _function(Tensor.all)
allclose = _function(Tensor.allclose)
amax = _function(Tensor.amax)
amin = _function(Tensor.amin)
any = _function(Tensor.any)
argmax = _function(Tensor.argmax)
argmin = _function(Tensor.argmin)
argsort = _function(Tensor.argsort)
asin = _function(Tensor.asin)
atan = _function(Tensor.atan)
atan2 = _function(Tensor.atan2)
baddbmm = _function(Tensor.baddbmm)
bincount = _function(Tensor.bincount)
bmm = _function(Tensor.bmm)
broadcast_to = _function(Tensor.broadcast_to)
ceil = _function(Tensor.ceil)
chunk = _function(Tensor.chunk)
clamp = _function(Tensor.clamp)
clamp_max = _function(Tensor.clamp_max)
clamp_min = _function(Tensor.clamp_min)
clip = _function(Tensor.clip)
clone = _function(Tensor.clone)
cos = _function(Tensor.cos)
cosh = _function(Tensor.cosh)
count_nonzero = _function(Tensor.count_nonzero)
cumprod = _function(Tensor.cumprod)
cumsum = _function(Tensor.cumsum)
diag = _function(Tensor.diag)
diagonal = _function(Tensor.diagonal)
diff = _function(Tensor.diff)
div = _function(Tensor.div)
dot = _function(Tensor.dot)
eq = _function(Tensor.eq)
equal = _function(Tensor.equal)
erf = _function(Tensor.erf)
erfc = _function(Tensor.erfc)
exp = _function(Tensor.exp)
exp2 = _function(Tensor.exp2)
expm1 = _function(Tensor.expm1)
fix = _function(Tensor.fix)
flatten = _function(Tensor.flatten)
fliplr = _function(Tensor.fliplr)
flipud = _function(Tensor.flipud)
floor = _function(Tensor.floor)
floor_divide = _function(Tensor.floor_divide)
fmod = _function(Tensor.fmod)
frac = _function(Tensor.frac)
gather = _function(Tensor.gather)
ge = _function(Tensor.ge)
gt = _function(Tensor.gt)
index_add = _function(Tensor.index_add)
index_copy = _function(Tensor.index_copy)
index_fill = _function(Tensor.index_fill)
index_select = _function(Tensor.index_select)
is_floating_point = _function(Tensor.is_floating_point)
isclose = _function(Tensor.isclose)
isfinite = _function(Tensor.isfinite)
isinf = _function(Tensor.isinf)
isnan = _function(Tensor.isnan)
le = _function(Tensor.le)
lerp = _function(Tensor.lerp)
log = _function(Tensor.log)
log10 = _function(Tensor.log10)
log1p = _function(Tensor.log1p)
log2 = _function(Tensor.log2)
log_softmax = _function(Tensor.log_softmax)
logaddexp = _function(Tensor.logaddexp)
logical_and = _function(Tensor.logical_and)
logical_not = _function(Tensor.logical_not)
logical_or = _function(Tensor.logical_or)
logical_xor = _function(Tensor.logical_xor)
logsumexp = _function(Tensor.logsumexp)
lt = _function(Tensor.lt)
masked_fill = _function(Tensor.masked_fill)
masked_select = _function(Tensor.masked_select)
matmul = _function(Tensor.matmul)
max = _function(Tensor.max)
maximum = _function(Tensor.maximum)
mean = _function(Tensor.mean)
median = _function(Tensor.median)
min = _function(Tensor.min)
minimum = _function(Tensor.minimum)
mm = _function(Tensor.mm)
moveaxis = _function(Tensor.moveaxis)
movedim = _function(Tensor.movedim)
mul = _function(Tensor.mul)
mv = _function(Tensor.mv)
nan_to_num = _function(Tensor.nan_to_num)
narrow = _function(Tensor.narrow)
ne = _function(Tensor.ne)
neg = _function(Tensor.neg)
nonzero = _function(Tensor.nonzero)
norm = _function(Tensor.norm)
numel = _function(Tensor.numel)
outer = _function(Tensor.outer)
permute = _function(Tensor.permute)
prod = _function(Tensor.prod)
ravel = _function(Tensor.ravel)
reciprocal = _function(Tensor.reciprocal)
relu = _function(Tensor.relu)
repeat_interleave = _function(Tensor.repeat_interleave)
reshape = _function(Tensor.reshape)
roll = _function(Tensor.roll)
round = _function(Tensor.round)
rsqrt = _function(Tensor.rsqrt)
scatter = _function(Tensor.scatter)
scatter_add = _function(Tensor.scatter_add)
select = _function(Tensor.select)
sigmoid = _function(Tensor.sigmoid)
sign = _function(Tensor.sign)
sin = _function(Tensor.sin)
sinh = _function(Tensor.sinh)
softmax = _function(Tensor.softmax)
sort = _function(Tensor.sort)
split = _function(Tensor.split)
split_with_sizes = _function(Tensor.split_with_sizes)
sqrt = _function(Tensor.sqrt)
square = _function(Tensor.square)
squeeze = _function(Tensor.squeeze)
std = _function(Tensor.std)
sub = _function(Tensor.sub)
sum = _function(Tensor.sum)
swapaxes = _function(Tensor.swapaxes)
swapdims = _function(Tensor.swapdims)
t = _function(Tensor.t)
take_along_dim = _function(Tensor.take_along_dim)
tan = _function(Tensor.tan)
tanh = _function(Tensor.tanh)
tile = _function(Tensor.tile)
topk = _function(Tensor.topk)
trace = _function(Tensor.trace)
transpose = _function(Tensor.transpose)
tril = _function(Tensor.tril)
triu = _function(Tensor.triu)
trunc = _function(Tensor.trunc)
unbind = _function(Tensor.unbind)
unflatten = _function(Tensor.unflatten)
unique = _function(Tensor.unique)
unsqueeze = _function(Tensor.unsqueeze)
var = _function(Tensor.var)


def pow(input: Any, exponent: Any) -> Tensor:
    """``input`` to the power ``exponent``; either may be a number."""
    return binary(Pow(), *_one_tensor("pow", input, exponent))


def remainder(input: Any, other: Any) -> Tensor:
    """input - other · floor(input / other); either may be a number."""
    return binary(Remainder(), *_one_tensor("remainder", input, other))


def _one_tensor(what: str, a: Any, b: Any) -> tuple[Any, Any]:
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        raise TypeError(
            f"{what} expects at least one tensor, got {type(a).__name__} and {type(b).__name__}."
        )
    return a, b


def flip(input: Tensor, dims: Sequence[int]) -> Tensor:
    """The order along ``dims`` reversed."""
    return input.flip(dims)


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """``input`` where ``condition`` holds, else ``other``; of a condition alone, where it holds."""
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    if condition.dtype.kind != "b":
        raise DtypeError(f"where needs a bool condition, got {condition.dtype}; compare first.")
    if not isinstance(input, Tensor) and not isinstance(other, Tensor):
        xp = backend_of(condition.array)
        input = wrap(xp.asarray(input, dtype=promote([input, other])))
    return apply(Where(), condition, *promoted(input, other))


def _alike(tensors: Sequence[Tensor], what: str) -> list[Tensor]:
    if not isinstance(tensors, list | tuple):
        raise TypeError(f"{what} needs a list or tuple of tensors, got {type(tensors).__name__}.")
    if not tensors:
        raise ShapeError(f"{what} needs at least one tensor, got none.")
    for t in tensors:
        if not isinstance(t, Tensor):
            raise TypeError(f"{what} needs tensors, got {type(t).__name__} among them.")
    dtype = promote([t.array for t in tensors])
    return [t if t.dtype == dtype else apply(Cast(dtype), t) for t in tensors]


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors one after another along ``dim``; every other axis is equal."""
    parts = _alike(tensors, "cat")
    parts = [p for p in parts if p.shape != (0,)] or parts  # PyTorch lets empty 1-d tensors pass
    return apply(Concatenate(as_axis(dim, parts[0].ndim)), *parts)


concat = concatenate = cat


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis ``dim``."""
    parts = _alike(tensors, "stack")
    shapes = {p.shape for p in parts}
    if len(shapes) > 1:
        raise ShapeError(f"stack needs tensors of one shape, got {' and '.join(map(str, shapes))}.")
    axis = as_axis(dim, parts[0].ndim + 1)
    return apply(Concatenate(axis), *(p.unsqueeze(axis) for p in parts))


def _at_least(tensors: Sequence[Tensor], ndim: int) -> list[Tensor]:
    """Tensors with axes of size 1 in front, or, for a third axis, behind."""
    out = []
    for x in tensors:
        if x.ndim < builtins.min(ndim, 2):
            x = x.reshape((1,) * (builtins.min(ndim, 2) - x.ndim) + x.shape)
        out.append(x.unsqueeze(-1) if x.ndim < ndim else x)
    return out


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors side by side: along axis 1, vectors along their only axis."""
    parts = _at_least(_alike(tensors, "hstack"), 1)
    return cat(parts, 0 if parts[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors below each other: along axis 0; a vector is a row."""
    return cat(_at_least(_alike(tensors, "vstack"), 2), 0)


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors behind each other: along axis 2; a matrix is a layer."""
    return cat(_at_least(_alike(tensors, "dstack"), 3), 2)


row_stack = vstack


def std_mean(
    input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, **options: Any
) -> tuple[Tensor, Tensor]:
    """(standard deviation, mean) over ``dim``."""
    if isinstance(dim, bool):  # PyTorch's old form: std_mean(x, False)
        dim, unbiased = None, dim
    return input.std(dim, unbiased, keepdim, **options), input.mean(dim, keepdim)


def var_mean(
    input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, **options: Any
) -> tuple[Tensor, Tensor]:
    """(variance, mean) over ``dim``."""
    if isinstance(dim, bool):  # PyTorch's old form: var_mean(x, False)
        dim, unbiased = None, dim
    return input.var(dim, unbiased, keepdim, **options), input.mean(dim, keepdim)


def einsum(equation: str, *operands: Any) -> Tensor:
    """A sum of products by Einstein's convention.

    ``"ij,jk->ik"`` is the matrix product: every letter names an axis, letters missing in the result
    are summed. ``...`` stands for any number of broadcast axes; a letter repeated in one operand
    takes its diagonal; without ``->`` the result has the letters that occur once, in alphabetical
    order.

    Example:
        >>> from minigrad import ones
        >>> einsum("bij,bjk->bik", ones(2, 3, 4), ones(2, 4, 5)).shape
        (2, 3, 5)
    """
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    tensors = _alike(operands, "einsum")
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise ShapeError(f"einsum {equation!r} names {len(terms)} operands, got {len(tensors)}.")
    # ... becomes letters of its own, aligned at the right.
    free = [c for c in ascii_letters if c not in equation]
    dots = 0
    for i, (term, x) in enumerate(zip(terms, tensors, strict=True)):
        named = len(term.replace("...", ""))
        extra = x.ndim - named
        if ("..." in term and extra < 0) or ("..." not in term and extra != 0):
            raise ShapeError(
                f"einsum {equation!r}: operand {i} has shape {x.shape}, not {named} axes."
            )
        dots = extra if extra > dots else dots
    spread = "".join(free[:dots])
    for i, (term, x) in enumerate(zip(terms, tensors, strict=True)):
        extra = x.ndim - len(term.replace("...", ""))
        terms[i] = term.replace("...", spread[dots - extra :])
    if arrow:
        result = result.replace("...", spread)
    else:
        joined = "".join(terms)
        result = spread + "".join(
            c for c in sorted(set(joined)) if joined.count(c) == 1 and c not in spread
        )
    unknown = set(result) - set("".join(terms))
    if unknown or len(set(result)) < len(result):
        raise ShapeError(f"einsum {equation!r}: the result has letters unknown or repeated.")

    sizes: dict[str, int] = {}
    for i, (term, x) in enumerate(zip(terms, tensors, strict=True)):
        for c in dict.fromkeys(term):  # a repeated letter: its diagonal
            while term.count(c) > 1:
                first = term.index(c)
                second = term.index(c, first + 1)
                x = x.diagonal(0, first, second)
                term = term[:first] + term[first + 1 : second] + term[second + 1 :] + c
        for c, n in zip(term, x.shape, strict=True):
            if sizes.setdefault(c, n) != n:
                if 1 not in (sizes[c], n):
                    raise ShapeError(
                        f"einsum {equation!r}: axis {c!r} has sizes {sizes[c]} and {n}."
                    )
                sizes[c] = sizes[c] if n == 1 else n
        terms[i], tensors[i] = term, x
    for i, (term, x) in enumerate(zip(terms, tensors, strict=True)):
        x = x.expand([sizes[c] for c in term])
        others = set(result).union(*(terms[:i] + terms[i + 1 :]))
        alone = [j for j, c in enumerate(term) if c not in others]  # summed here and nowhere else
        if alone:
            x = x.sum(alone)
            term = "".join(c for c in term if c in others)
        terms[i], tensors[i] = term, x
    return apply(Einsum(",".join(terms) + "->" + result), *tensors)


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """The sum of products over axes of ``a`` and of ``b``.

    ``dims`` is their number (the last of a, the first of b), or a pair of lists that name them.
    """
    if isinstance(dims, int):
        if not 0 <= dims <= builtins.min(a.ndim, b.ndim):
            raise ShapeError(f"tensordot over {dims} axes needs as many: {a.shape}, {b.shape}.")
        dims = range(a.ndim - dims, a.ndim), range(dims)
    left, right = (as_axes(list(d), x.ndim) for d, x in zip(dims, (a, b), strict=True))
    sizes = [a.shape[i] for i in left], [b.shape[i] for i in right]
    if len(left) != len(right) or builtins.any(
        1 not in p and p[0] != p[1] for p in zip(*sizes, strict=True)
    ):
        raise ShapeError(f"tensordot needs axes of equal sizes, got {sizes[0]} and {sizes[1]}.")
    for i, j in zip(left, right, strict=True):  # an axis of size 1 stretches, as in PyTorch
        if a.shape[i] != b.shape[j]:
            a, b = (a, b.sum(j, keepdim=True)) if a.shape[i] == 1 else (a.sum(i, keepdim=True), b)
    rows = [i for i in range(a.ndim) if i not in left]
    columns = [i for i in range(b.ndim) if i not in right]
    n = prod_of(a.shape[i] for i in left)
    x = a.permute([*rows, *left]).reshape(prod_of(a.shape[i] for i in rows), n)
    y = b.permute([*right, *columns]).reshape(n, prod_of(b.shape[i] for i in columns))
    return x.matmul(y).reshape([a.shape[i] for i in rows] + [b.shape[i] for i in columns])


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinates of a grid: result i varies along axis i (``"ij"``) or as images do (``"xy"``)."""
    if len(tensors) == 1 and not isinstance(tensors[0], Tensor):
        tensors = tuple(tensors[0])
    if indexing not in ("ij", "xy"):
        raise RangeError(f'meshgrid needs indexing "ij" or "xy", got {indexing!r}.')
    if not tensors or builtins.any(t.ndim > 1 for t in tensors):
        raise ShapeError(f"meshgrid needs vectors, got shapes {[t.shape for t in tensors]}.")
    shape = tuple(t.numel() for t in tensors)
    if indexing == "xy":
        shape = shape[1::-1] + shape[2:]
    grids = []
    for i, t in enumerate(tensors):
        axis = 1 - i if indexing == "xy" and len(tensors) > 1 and i < 2 else i
        wide = [-1 if j == axis else 1 for j in range(len(shape))]
        grids.append(t.reshape(wide).expand(shape))
    return tuple(grids)


def isin(
    elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    """Where an element is among ``test_elements`` (with ``invert``: where it is not)."""
    a, b = _one_tensor("isin", elements, test_elements)
    xp = backend_of((a if isinstance(a, Tensor) else b).array)
    a, b = (x.array if isinstance(x, Tensor) else xp.asarray(x) for x in (a, b))
    return wrap(xp.asarray(xp.module.isin(a, b, assume_unique=assume_unique, invert=invert)))


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors stretched to their common shape."""
    shape = broadcast_shapes(*(t.shape for t in tensors))
    return tuple(t.expand(shape) for t in tensors)


def is_tensor(obj: Any) -> bool:
    """Whether ``obj`` is a Tensor."""
    return isinstance(obj, Tensor)
