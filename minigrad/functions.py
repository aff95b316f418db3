"""The functions at minigrad's top level: a tensor's methods by name, and the rest."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters
from typing import Any

from minigrad.backends import backend_of
from minigrad.dtypes import promote
from minigrad.errors import DtypeError, ShapeError
from minigrad.ops import Cast, Concatenate, Einsum, Where
from minigrad.shapes import as_axis, broadcast_shapes
from minigrad.tensor import Tensor, apply, promoted, wrap

abs = Tensor.abs
add = Tensor.add
all = Tensor.all
allclose = Tensor.allclose
amax = Tensor.amax
amin = Tensor.amin
any = Tensor.any
argmax = Tensor.argmax
argmin = Tensor.argmin
argsort = Tensor.argsort
bmm = Tensor.bmm
broadcast_to = Tensor.broadcast_to
ceil = Tensor.ceil
chunk = Tensor.chunk
clamp = Tensor.clamp
clip = Tensor.clip
clone = Tensor.clone
cos = Tensor.cos
cosh = Tensor.cosh
cumsum = Tensor.cumsum
diagonal = Tensor.diagonal
div = Tensor.div
dot = Tensor.dot
eq = Tensor.eq
equal = Tensor.equal
erf = Tensor.erf
exp = Tensor.exp
expm1 = Tensor.expm1
flatten = Tensor.flatten
floor = Tensor.floor
floor_divide = Tensor.floor_divide
gather = Tensor.gather
ge = Tensor.ge
gt = Tensor.gt
index_select = Tensor.index_select
is_floating_point = Tensor.is_floating_point
isfinite = Tensor.isfinite
isinf = Tensor.isinf
isnan = Tensor.isnan
le = Tensor.le
log = Tensor.log
log10 = Tensor.log10
log1p = Tensor.log1p
log2 = Tensor.log2
log_softmax = Tensor.log_softmax
logical_and = Tensor.logical_and
logical_not = Tensor.logical_not
logical_or = Tensor.logical_or
logical_xor = Tensor.logical_xor
logsumexp = Tensor.logsumexp
lt = Tensor.lt
masked_fill = Tensor.masked_fill
masked_select = Tensor.masked_select
matmul = Tensor.matmul
max = Tensor.max
maximum = Tensor.maximum
mean = Tensor.mean
min = Tensor.min
minimum = Tensor.minimum
mm = Tensor.mm
moveaxis = Tensor.moveaxis
movedim = Tensor.movedim
mul = Tensor.mul
mv = Tensor.mv
narrow = Tensor.narrow
ne = Tensor.ne
neg = Tensor.neg
nonzero = Tensor.nonzero
norm = Tensor.norm
numel = Tensor.numel
outer = Tensor.outer
permute = Tensor.permute
prod = Tensor.prod
reciprocal = Tensor.reciprocal
relu = Tensor.relu
remainder = Tensor.remainder
reshape = Tensor.reshape
roll = Tensor.roll
round = Tensor.round
rsqrt = Tensor.rsqrt
scatter = Tensor.scatter
scatter_add = Tensor.scatter_add
select = Tensor.select
sigmoid = Tensor.sigmoid
sign = Tensor.sign
sin = Tensor.sin
sinh = Tensor.sinh
softmax = Tensor.softmax
sort = Tensor.sort
split = Tensor.split
sqrt = Tensor.sqrt
square = Tensor.square
squeeze = Tensor.squeeze
std = Tensor.std
sub = Tensor.sub
sum = Tensor.sum
swapaxes = Tensor.swapaxes
t = Tensor.t
take_along_dim = Tensor.take_along_dim
tan = Tensor.tan
tanh = Tensor.tanh
tile = Tensor.tile
topk = Tensor.topk
trace = Tensor.trace
transpose = Tensor.transpose
tril = Tensor.tril
triu = Tensor.triu
trunc = Tensor.trunc
unbind = Tensor.unbind
unflatten = Tensor.unflatten
unsqueeze = Tensor.unsqueeze
var = Tensor.var


def pow(input: Any, exponent: Any) -> Tensor:
    """``input`` to the power ``exponent``; either may be a number."""
    return input**exponent  # type: ignore[no-any-return]


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
    if isinstance(tensors, Tensor) or not len(tensors):
        raise TypeError(f"{what} needs a list or tuple of at least one tensor.")
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


def std_mean(
    input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, **options: Any
) -> tuple[Tensor, Tensor]:
    """(standard deviation, mean) over ``dim``."""
    return input.std(dim, unbiased, keepdim, **options), input.mean(dim, keepdim)


def var_mean(
    input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, **options: Any
) -> tuple[Tensor, Tensor]:
    """(variance, mean) over ``dim``."""
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


def addmm(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """beta · input + alpha · mat1 mat2."""
    product = mat1.mm(mat2)
    return (input if beta == 1 else input * beta) + (product if alpha == 1 else product * alpha)


def baddbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """beta · input + alpha · batch1 batch2, for batches of matrices."""
    product = batch1.bmm(batch2)
    return (input if beta == 1 else input * beta) + (product if alpha == 1 else product * alpha)


def meshgrid(*tensors: Tensor, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinates of a grid: result i varies along axis i (``"ij"``) or as images do (``"xy"``)."""
    shape = tuple(t.numel() for t in tensors)
    grids = [
        t.reshape([-1 if i == j else 1 for j in range(len(shape))]).expand(shape)
        for i, t in enumerate(tensors)
    ]
    if indexing == "xy" and len(grids) > 1:
        grids = [g.swapaxes(0, 1) for g in grids]
    return tuple(grids)


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors stretched to their common shape."""
    shape = broadcast_shapes(*(t.shape for t in tensors))
    return tuple(t.expand(shape) for t in tensors)


def is_tensor(obj: Any) -> bool:
    """Whether ``obj`` is a Tensor."""
    return isinstance(obj, Tensor)
