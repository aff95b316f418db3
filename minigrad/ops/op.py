"""Op: one differentiable operation, and, as an instance, one node of one graph.

    class Mul(Op):
        formula = "y = a · b"
        vjp = "da = dy · b,  db = dy · a"

        def forward(self, xp, a, b):
            return a * b

        def backward(self, xp, grad, a, b):
            return grad * b, grad * a

``forward`` computes with raw arrays and an array namespace ``xp``. The parameters of ``backward``
after ``grad`` name what must be kept for it: inputs of ``forward``, or ``y``, its output; nothing
else stays alive. ``backward`` returns one gradient an input, ``None`` where there is none: a fresh
array, ``grad`` itself, or a view; never a kept array. It is also run with Tensors in place of
arrays, which is how derivatives of derivatives come about, so it must not change arrays in place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from inspect import unwrap
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar

from minigrad.backends import backend_of
from minigrad.errors import DeviceError, DtypeError, ShapeError

Array = Any


class Op:
    """A node. Its constructor's arguments are attributes (``eps``, ``axis``) and label it."""

    formula: str = ""
    vjp: str = ""
    name: str = "op"  #: the class name in snake_case, for labels and messages
    broadcasts: bool = False  #: inputs broadcast; the engine sums gradients back
    floating: bool = False  #: integer inputs are first made floating, as in exp(3)
    noisy: ClassVar[bool] = False  #: NumPy may warn from code of its own, as in mean; see backends
    view: ClassVar[bool] = False  #: the output shares the input's memory
    repeatable: ClassVar[bool] = True  #: forward does nothing but compute: viz runs it again
    differentiable: bool = True  #: False: the output never carries a gradient
    reads_for: ClassVar[dict[str, int]] = {}  #: {"a": 1}: input a is read by gradient 1 alone
    reads: tuple[str, ...] = ()  #: the names backward reads, from its signature
    positions: tuple[int, ...] = ()  #: which of (*inputs, y) they are
    keep: Any = None  #: picks them from the list [*inputs, y]
    droppable: ClassVar[tuple[tuple[int, int], ...]] = ()  #: reads_for, by position
    fused: ClassVar[bool] = False
    plain_rule: ClassVar[bool] = (
        False  #: a fused op whose backward is plain array code all the same
    )

    # Set when the node joins a graph (tensor.apply).
    __slots__ = (
        "__dict__",  # an op's own attributes
        "dtype",  # of the output
        "inputs",  # one an input: the Op that made it, the leaf Tensor, or None (no gradient)
        "saved",  # what backward reads; None once freed
        "scope",  # the module call the node was made in, or None
        "seq",  # place in the order of recording: every input has a smaller one
        "shape",  # of the output
        "xp",  # the backend it ran on
    )
    if TYPE_CHECKING:
        composed: Callable[..., Any]  # of Fused ops
        given: list[tuple[Any, Any] | None]  # of Fused ops
        dtype: Any
        inputs: tuple[Any, ...]
        saved: Sequence[Any] | None
        scope: Any
        seq: int
        shape: tuple[int, ...]
        xp: Any

    #: forward(xp, *inputs): the value. Each op has its own signature.
    forward: Callable[..., Any]
    #: backward(xp, grad, *kept): the gradients of the inputs, one vector-Jacobian product.
    backward: Callable[..., Any]

    #: None, or one an input: a weak reference, or a number, where no gradient is wanted.
    constants: tuple[Any, ...] | None = None
    hooks: list[Any] | None = None  #: functions on the gradient of the output
    source: str = ""  #: the user's file:line that recorded it; see viz.recording
    viewed: bool = False  #: whether a view of the output was recorded
    retains: bool = False  #: whether the last hook keeps the gradient (Tensor.retain_grad)

    def __init_subclass__(cls) -> None:
        if not hasattr(cls, "forward"):
            return  # a base class of ops
        if "name" not in vars(cls):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        rule, forward = unwrap(cls.backward).__code__, unwrap(cls.forward).__code__
        if rule.co_flags & 0x04:  # backward(self, xp, grad, *arrays): keeps every input
            cls.reads, cls.positions, cls.keep = ("*",), (), itemgetter(slice(None, -1))
            return
        cls.reads = rule.co_varnames[3 : rule.co_argcount]
        names = (*forward.co_varnames[2 : forward.co_argcount], "y")
        cls.positions = at = tuple(names.index(r) for r in cls.reads)
        cls.droppable = tuple((names.index(r), i) for r, i in cls.reads_for.items())
        if len(at) == 1:
            cls.keep = itemgetter(slice(at[0], at[0] + 1 or None))
        else:
            cls.keep = itemgetter(*at) if at else None

    def needs(self, i: int) -> bool:
        """Whether anybody wants the gradient of input ``i``; a costly rule asks."""
        return self.inputs[i] is not None

    def free(self) -> None:
        """Drop what was kept for backward; the structure stays."""
        if self.saved:
            self.saved = None

    def check(self, *arrays: Any) -> None:
        """Raise a clear error for inputs that do not fit. Called when ``forward`` failed."""

    def attributes(self) -> dict[str, Any]:
        """The constructor's arguments by name, for labels."""
        code = type(self).__init__.__code__ if "__init__" in vars(type(self)) else None
        names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount] if code else ()
        return {n: getattr(self, n) for n in names if hasattr(self, n)}

    def explain(self, error: Exception, arrays: list[Any]) -> Exception:
        """The error to raise when ``forward`` failed with ``error``."""
        check_devices(self, arrays)
        self.check(*arrays)
        name = type(self).__name__
        if type(error) in (ValueError, RuntimeError):
            shapes = " and ".join(str(getattr(a, "shape", a)) for a in arrays)
            return ShapeError(f"{name} does not accept {shapes}: {error}.")
        if isinstance(error, TypeError) and not isinstance(error, DtypeError):
            dtypes = " and ".join(str(getattr(a, "dtype", a)) for a in arrays)
            return DtypeError(f"{name} does not accept {dtypes}: {error}.")
        return error

    @property
    def next_functions(self) -> tuple[tuple[Op | None, int], ...]:
        """The ops the gradient goes to next, as PyTorch spells it."""
        return tuple((e if isinstance(e, Op) else None, 0) for e in self.inputs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Fused(Op):
    """An op with kernels of its own *and* its definition in primitives.

    ``composed`` is the graph a learner opens, the route to second derivatives (there is no
    hand-derived double backward), and the oracle the kernels are tested against.

    ``residuals`` names attributes that ``forward`` sets for ``backward`` (statistics, masks); they
    are freed together with the kept arrays.
    """

    fused = noisy = True
    residuals: ClassVar[tuple[str, ...]] = ()
    given: list[tuple[Any, Any] | None]  #: (shape, dtype) of each input, None for an absent one
    #: composed(xp, *inputs): the value from primitives; xp a backend, or the namespace of Tensors.
    composed: Callable[..., Any]

    def free(self) -> None:
        super().free()
        for name in self.residuals:
            setattr(self, name, None)


def check_devices(op: Op | str, arrays: Sequence[Any]) -> None:
    """Raise DeviceError where the inputs of an op, or of what is named, are on several devices."""
    found = {backend_of(a).device_of(a): None for a in arrays if hasattr(a, "dtype")}
    if len(found) > 1:
        devices, name = list(found), op if isinstance(op, str) else type(op).__name__
        raise DeviceError(
            f'{name} got {" and ".join(devices)} tensors; move one with .to("{devices[-1]}").'
        )
