"""Tensor: an array that remembers how it was made; and ``apply``, by which the graph grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from importlib import import_module
from operator import attrgetter
from typing import Any, NamedTuple
from weakref import ref

from minigrad import devices, engine
from minigrad.backends import backend_of, backends, capture, device_of, for_device, quiet
from minigrad.backends.numpy_backend import error_state, silent
from minigrad.dtypes import Dtype, as_dtype, category, get_default_dtype, promote
from minigrad.engine import clock, recording, scope, set_recording
from minigrad.errors import DtypeError, GraphError, ShapeError
from minigrad.formatting import format_tensor
from minigrad.gradients import backward
from minigrad.methods import Methods
from minigrad.ops import (
    Cast,
    Clone,
    Op,
    SetItem,
    ToDevice,
)
from minigrad.ops.op import check_devices
from minigrad.shapes import Shape

Array = Any


def _of_array(name: str, doc: str) -> Any:
    """A property that is the array's."""
    return property(attrgetter(f"array.{name}"), doc=doc)


class Tensor(Methods):
    """An array with, where asked for, the graph of the operations that made it.

    ``array`` is the raw NumPy or CuPy array; ``grad`` the gradient that backward() left. Its
    operators and methods are PyTorch's (``methods/``); NumPy's ``axis``/``keepdims`` are
    accepted beside ``dim``/``keepdim``.

    Example:
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        tensor([2., 4.])
    """

    # _op made this tensor, None for a leaf. Seldom set: _hooks of a leaf, by register_hook; _base,
    # a weak reference to the tensor whose memory an unrecorded view looks into.
    __slots__ = ("__weakref__", "_base", "_grad", "_hooks", "_op", "_requires_grad", "array")
    array: Array
    _grad: Tensor | None
    _base: Any

    seq = 0  # a leaf comes before every op; see engine.sweep
    __hash__ = object.__hash__
    __array_priority__ = 1000  # array + tensor goes to Tensor.__radd__

    def __init__(self, data: Any = (), dtype: Any = None, requires_grad: bool = False) -> None:
        self.array = as_array(data, dtype if dtype is not None else get_default_dtype())
        self._op = self._grad = None
        self._requires_grad = False
        if requires_grad:
            self.requires_grad = True
        if capture.active is not None:
            capture.active.note(self)

    # ---- what it is ---------------------------------------------------------------------------

    # Read several times in every call of a function: without a frame of Python's, 0.12 us instead
    # of 0.17 in a loop of its own.
    shape: Shape = _of_array("shape", "The length of each axis.")
    ndim: int = _of_array("ndim", "The number of axes.")
    dtype: Dtype = _of_array("dtype", "The type of the elements, such as ``minigrad.float32``.")

    @property
    def device(self) -> devices.device:
        """``"cpu"`` or ``"cuda:0"``: a string, with ``type`` and ``index``."""
        return devices.device(backend_of(self.array).device_of(self.array))

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it are recorded and backward() reaches it."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self._op is not None:
            if value:
                return
            raise GraphError(
                "requires_grad of a tensor made by an operation cannot be switched off; "
                "use .detach() for one that no gradient flows through."
            )
        if value and self.array.dtype.kind != "f":
            raise DtypeError(
                f"only floating tensors can require gradients, got {self.array.dtype}; "
                "convert it first, as in x.float()."
            )
        self._requires_grad = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set ``requires_grad`` in place."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no operation made it (or none that is recorded)."""
        return self._op is None

    @property
    def grad_fn(self) -> Op | None:
        """The op that made it: a node of the graph; None for a leaf."""
        return self._op

    @property
    def grad(self) -> Tensor | None:
        """What backward() left: the gradient of this leaf, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if capture.active is None or capture.active.made(self):
            self._grad = value
        else:
            capture.active.effect(set_grad, (self, None if value is None else value.array))

    @property
    def data(self) -> Tensor:
        """The same memory outside any graph."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        self.array = value.array

    @property
    def _version(self) -> int:
        return engine.version(self.array)

    def __repr__(self) -> str:
        return format_tensor(self)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if not self.ndim and spec else str(self)

    # ---- gradients ------------------------------------------------------------------------------

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Sequence[Tensor] | None = None,
    ) -> None:
        """Add the gradient of this tensor with respect to every leaf to the leaf's ``grad``.

        Args:
            gradient: dL/d(self), as this tensor in shape; 1 for a tensor of one element.
            retain_graph: keep what the ops saved, for another sweep (default: ``create_graph``).
            create_graph: record the sweep itself, so that the gradients can be differentiated.
            inputs: the leaves to reach; all by default.
        """
        backward([self], [gradient], retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same memory outside the graph: no gradient flows through it."""
        return wrap(self.array)

    def detach_(self) -> Tensor:
        """Cut this tensor off from the graph that made it."""
        self._op, self._requires_grad = None, False
        return self

    def clone(self) -> Tensor:
        """A copy with memory of its own; gradients flow back to the original."""
        return apply(Clone(), self)

    def graph(self, model: Any = None, **options: Any) -> Any:
        """The picture of the operations that made it: ``viz.graph(self, model, ...)``."""
        return import_module("minigrad.viz").graph(self, model, **options)

    def retain_grad(self) -> None:
        """Have backward() leave a ``grad`` here too, though this is no leaf."""
        if not self._requires_grad:
            raise GraphError("retain_grad() on a tensor that does not require a gradient.")
        if self._op is not None:
            me = ref(self)

            def keep(grad: Any) -> Any:
                if (tensor := me()) is not None:
                    own = grad if isinstance(grad, Tensor) else wrap(as_array(grad).copy())
                    tensor.grad = own if tensor.grad is None else tensor.grad + own
                return grad

            if not self._op.retains:  # stays the last hook: it sees what the others made of grad
                self._op.hooks = [*(self._op.hooks or ()), keep]
                self._op.retains = True

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call ``hook(grad)`` in every backward pass, when this tensor's gradient is complete.

        What it returns, unless None, replaces the gradient. The result removes the hook when
        called; it has a ``remove`` method of the same effect, as in PyTorch.
        """
        if not self._requires_grad:
            raise GraphError("register_hook() on a tensor that does not require a gradient.")

        def run(grad: Any) -> Any:
            raw = not isinstance(grad, Tensor)
            new = hook(wrap(as_array(grad)) if raw else grad)
            if new is None:
                return grad
            return new.array if raw else new

        if self._op is not None:
            hooks = self._op.hooks = self._op.hooks or []
            hooks.insert(len(hooks) - self._op.retains, run)
        else:
            hooks = self._hooks = getattr(self, "_hooks", [])
            hooks.append(run)
        return RemovableHandle(hooks, run)

    # ---- conversion -----------------------------------------------------------------------------

    def numpy(self) -> Any:
        """The values as a NumPy array that shares this tensor's memory (on the CPU)."""
        if self._requires_grad:
            raise GraphError(
                "numpy() on a tensor that requires a gradient would leave the graph unnoticed; "
                "use x.detach().numpy()."
            )
        if self.device != "cpu":
            raise TypeError(f"numpy() needs a CPU tensor, got {self.device}; use x.cpu().numpy().")
        return capture.read(self.array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return backend_of(self.array).module.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        if self._requires_grad:
            raise GraphError("a tensor that requires a gradient has no DLPack form; use .detach().")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()

    def item(self) -> Any:
        """The value of a tensor of one element, as a Python number."""
        if self.numel() != 1:
            raise ShapeError(f"item() needs a tensor of one element, got shape {self.shape}.")
        return capture.read(self.array).item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return capture.read(self.array).tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.array.dtype.kind not in "iub":
            raise TypeError(
                f"only integer tensors of one element can be an index, got {self.dtype}."
            )
        return int(self.item())

    def __bool__(self) -> bool:
        if self.numel() != 1:
            raise ShapeError(
                f"the truth of a tensor of shape {self.shape} is not clear; "
                "use .any(), .all() or .item()."
            )
        return bool(self.item())

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor; use .numel().")
        return int(self.array.shape[0])

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d tensor; use .item().")
        return iter([self[i] for i in range(len(self))])

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """This tensor in another dtype, on another device, or both; itself where nothing changes.

        ``x.to("cuda")``, ``x.to(minigrad.float64)``, ``x.to("cpu", minigrad.float32)``,
        ``x.to(other)``; ``x.to("cuda", non_blocking=True)`` goes on before the copy is done, where
        ``x`` is in pinned memory.
        """
        place, dtype = parse_to(args, kwargs)
        out = self
        if dtype is not None and dtype != self.array.dtype:
            out = apply(Cast(dtype), out)
        if place is not None:
            name = for_device(place)[1]
            if name != out.device:
                out = apply(ToDevice(name, bool(kwargs.get("non_blocking"))), out)
        return out.clone() if kwargs.get("copy") and out is self else out

    # ---- copies and pickles ---------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self._op is not None:
            raise GraphError(
                "only leaf tensors can be deep-copied; this one belongs to a graph: use .detach() "
                "or .clone()."
            )
        state = {name: deepcopy(value, memo) for name, value in self._added().items()}
        new = rebuild(type(self), self.array.copy(), self.device, self._requires_grad, state)
        memo[id(self)] = new
        new.grad = None if self.grad is None else self.grad.detach().clone()
        return new

    def __reduce__(self) -> Any:
        if self._op is not None:
            raise GraphError("only leaf tensors can be pickled; use .detach().")
        host = backend_of(self.array).to_host(self.array)
        return rebuild, (type(self), host, self.device, self._requires_grad, self._added())

    def _added(self) -> dict[str, Any]:
        """What a subclass added to a Tensor, as Buffer its ``persistent``."""
        kinds = [kind for kind in type(self).__mro__ if issubclass(kind, Tensor)]
        slots = [s for kind in kinds[:-1] for s in kind.__dict__.get("__slots__", ())]
        state = {name: getattr(self, name) for name in slots if hasattr(self, name)}
        return {**state, **getattr(self, "__dict__", {})}

    # ---- changes in place -----------------------------------------------------------------------

    def _change(self, op: Op, *others: Any) -> Tensor:
        """``self <- op(self, *others)`` in place, recorded where a gradient flows."""
        tracked = recording.get() and (
            self._requires_grad or any(isinstance(o, Tensor) and o._requires_grad for o in others)
        )
        if not tracked:
            with set_recording(False):
                out = binary(op, self, *others) if len(others) == 1 else apply(op, self, *others)
                self._store(out.array)
            return self
        self._check_changeable(op.name)
        before = self._before()
        out = binary(op, before, *others) if len(others) == 1 else apply(op, before, *others)
        self._store(out.array)
        self._op, self._requires_grad = out._op, True
        return self

    def _become(self, name: str, *args: Any, **options: Any) -> Tensor:
        """``self <- self.name(...)`` in place, for what is several ops."""
        before = self._before() if recording.get() else self
        out: Tensor = getattr(before, name)(*args, **options)
        if out._requires_grad:
            self._check_changeable(name)
            if out.dtype.kind == "f":
                out = out.to(self.dtype)
        self._store(out.array)
        if out._requires_grad:
            self._op, self._requires_grad = out._op, True
        return self

    def _before(self) -> Tensor:
        """What a recorded change starts from: an op may keep its input, which must not change."""
        before = wrap(self.array.copy())
        before._op, before._requires_grad = self._op, self._requires_grad
        return before

    def _check_changeable(self, name: str) -> None:
        if self._op is None and self._requires_grad:
            raise GraphError(
                f"{name} in place on a leaf that requires a gradient: its value before would be "
                "lost; do it under minigrad.no_grad(), or out of place."
            )
        base = getattr(self, "_base", None)
        if base is not None and base() is not None:
            raise GraphError(
                f"{name} in place on a view, with a gradient to flow: the tensor of shape "
                f"{base().shape} it looks into would not notice; change that by index, x[i] = v."
            )
        if self._op is not None and (self._op.view or self._op.viewed):
            raise GraphError(
                f"{name} in place on a tensor that is, or has, a view in the graph: the other "
                "would not notice; do it out of place (x = x + 1 instead of x += 1)."
            )

    def _store(self, array: Array) -> None:
        """Write ``array`` into this tensor's memory."""
        if tuple(array.shape) != self.shape:
            raise ShapeError(
                f"an in-place result of shape {tuple(array.shape)} does not fit {self.shape}."
            )
        if category(array.dtype) > category(self.array.dtype):
            raise DtypeError(
                f"a {array.dtype} result cannot be stored in place in a {self.array.dtype} tensor; "
                "convert it first, as in x.float()."
            )
        self._check_writable()
        assign(self, (...,), array)

    def _check_writable(self) -> None:
        if not backend_of(self.array).writable(self.array):
            raise ShapeError(
                f"this tensor of shape {self.shape} cannot be changed in place: its memory is "
                "read-only, or stretched by expand(), where elements share it; use x.clone()."
            )

    def _set(self, index: Any, value: Any) -> None:
        """``self[index] = value``, recorded where a gradient flows."""
        grad_flows = self._requires_grad or (isinstance(value, Tensor) and value._requires_grad)
        if grad_flows and recording.get():
            self._change(SetItem(index), value)
            return
        raw = value.array if isinstance(value, Tensor) else value
        self._check_writable()
        try:
            with quiet():
                assign(self, index, raw)
        except ValueError as error:
            raise SetItem(index).explain(error, [self.array, raw]) from None

    def _draw(self, values: Any) -> Tensor:
        """Host values, as random methods draw them, into this tensor."""
        drawn = as_array(values, self.array.dtype)
        self._set((...,), wrap(backend_of(self.array).from_host(drawn, self.device)))
        return self


def assign(tensor: Tensor, index: Any, value: Any) -> None:
    """``tensor.array[index] = value``, noted as a change."""
    array = capture.entered(tensor)
    if value.__class__ is not array.__class__ and value.__class__ in backends:
        check_devices("an assignment", [array, value])
    with device_of(array):
        array[index] = value
    engine.changed(array)


_slot: Any = Tensor.__dict__["array"]


class _Captured:
    """In place of the slot ``array`` while a step is captured: whoever looks at an array sees the
    captured one, be it an operation, a comparison or an index.
    """

    def __get__(self, tensor: Any, kind: Any) -> Any:
        array = _slot.__get__(tensor, kind)
        watch = capture.active
        return array if watch is None else watch.seen(tensor, array)

    __set__ = _slot.__set__


@contextmanager
def captured_arrays() -> Iterator[None]:
    """``with captured_arrays():`` tensors have what ``capture.active`` makes of their arrays."""
    kind: Any = Tensor
    kind.array = _Captured()
    try:
        yield
    finally:
        kind.array = _slot


class RemovableHandle:
    """What ``register_hook`` returns; ``remove()`` takes the hook away."""

    def __init__(self, hooks: list[Any], hook: Any) -> None:
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        """Take the hook away; a second time does nothing."""
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)

    __call__ = remove


@capture.in_graph
def set_grad(tensor: Tensor, array: Any) -> None:
    """Make ``array`` the gradient of a tensor."""
    tensor._grad = None if array is None else wrap(array)


new_tensor = object.__new__


def wrap(array: Array) -> Tensor:
    """A Tensor around ``array``, outside any graph."""
    tensor = new_tensor(Tensor)
    tensor.array = array
    tensor._op = tensor._grad = None
    tensor._requires_grad = False
    if capture.active is not None:
        capture.active.note(tensor)
    return tensor


def rebuild(
    kind: type[Tensor], array: Any, device: str, requires_grad: bool, added: dict[str, Any]
) -> Tensor:
    """A tensor from its pickled parts."""
    tensor = new_tensor(kind)
    backend, name = for_device(device)
    tensor.array = backend.from_host(array, name)
    tensor._op = tensor._grad = None
    tensor._requires_grad = requires_grad
    for name, value in added.items():
        setattr(tensor, name, value)
    return tensor


def as_array(data: Any, dtype: Any = None) -> Array:
    """An array from numbers, nested sequences, arrays or Tensors; Python floats take the default
    dtype.
    """
    if isinstance(data, Tensor):
        data = data.array
    elif isinstance(data, list | tuple) and any(isinstance(d, Tensor) for d in data):
        data = [d.tolist() if isinstance(d, Tensor) else d for d in data]
    backend = backends.get(type(data)) or for_device("cpu")[0]
    given = getattr(data, "dtype", None)
    dtype = None if dtype is None else as_dtype(dtype)
    try:
        with quiet():
            array = backend.asarray(data, dtype=dtype)
    except ValueError as error:
        raise ShapeError(
            "a tensor needs numbers in rows of equal length; pad the shorter rows, or make a list "
            f"of tensors ({str(error).partition('.')[0]})."
        ) from None
    if dtype is not None:
        return array
    if array.dtype.kind not in "fiub":
        raise DtypeError(f"a tensor holds numbers or booleans, got {array.dtype} data.")
    as_dtype(array.dtype)
    if given is None and (array.dtype.kind == "f" or not array.size):
        with quiet():
            array = array.astype(get_default_dtype())
    return array


def parse_to(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, Dtype | None]:
    """(device, dtype) out of the arguments of ``Tensor.to`` and ``Module.to``."""
    place, dtype = kwargs.get("device"), kwargs.get("dtype")
    for arg in args:
        if isinstance(arg, Tensor):
            place, dtype = arg.device, arg.dtype
        elif isinstance(arg, bool) or arg is None:
            continue  # non_blocking
        elif isinstance(arg, int):
            place = f"cuda:{arg}"
        elif isinstance(arg, str) and arg.split(":")[0] in ("cpu", "cuda"):
            place = arg
        else:
            dtype = arg
    return place, None if dtype is None else as_dtype(dtype)


#: Called with every op that joins a graph; set by viz.recording().
noted: Callable[[Op], None] | None = None


#: What casts the inputs of an op under autocast (amp.py), or None.
casting: ContextVar[Any] = ContextVar("minigrad_casting", default=None)


def apply(op: Op, *inputs: Any) -> Tensor:
    """The value of ``op``; and, where an input requires a gradient, one more node in the graph.

    Inputs are Tensors, Python numbers, or None for an absent one (a Linear without bias).
    """
    if (cast := casting.get()) is not None:
        inputs = cast(op, inputs)
    arrays: list[Any] = []
    edges: list[Any] = []
    xp: Any = None
    kind: Any = None
    wanted = constant = False
    program = capture.active
    for x in inputs:
        edge = None
        if isinstance(x, Tensor):
            array = x.array if program is None else program.enter(x)
            if xp is None:
                kind = array.__class__
                xp = backends[kind]
            elif array.__class__ is not kind:
                check_devices(op, [*arrays, array])
            if x._requires_grad:
                wanted = True
                edge = x._op or x
            elif op.floating and array.dtype.kind != "f":
                array = xp.astype(array, get_default_dtype())
            arrays.append(array)
        else:
            arrays.append(x)
        if edge is None:
            constant = True
        edges.append(edge)
    before = None
    if xp.several:
        check_devices(op, arrays)
        before = xp.use(next(a for a in arrays if a.__class__ is kind))
    try:
        y = quietly(op, xp, *arrays) if op.noisy else op.forward(xp, *arrays)
    except RuntimeWarning:  # warnings are errors here
        y = quietly(op, xp, *arrays)
    except Exception as error:
        raise failed(op, error, arrays, inputs) from None
    finally:
        if before is not None:
            xp.use_again(before)
    if not wanted or not op.differentiable or not recording.get():
        tensor = wrap(y if y.__class__ in backends else xp.asarray(y))
        if op.view:
            tensor._base = getattr(inputs[0], "_base", None) or ref(inputs[0])
        return tensor
    if op.view and inputs[0]._op is not None:
        inputs[0]._op.viewed = True
    constants = None
    if constant:
        constants = tuple(
            None if e is not None else ref(x) if isinstance(x, Tensor) else x
            for e, x in zip(edges, inputs, strict=True)
        )
    return grow(op, xp, tuple(edges), constants, arrays, y)


class Failure(NamedTuple):
    """What was under way when an error arose, for a picture of it: a name, a formula, the inputs
    (tensors weakly), the module call around it.
    """

    name: str
    formula: str
    inputs: tuple[Any, ...]
    scope: Any


def failed(op: Op, error: Exception, arrays: list[Any], inputs: Sequence[Any]) -> Exception:
    """The error to raise where ``op`` failed; it carries what ``viz.graph(error)`` draws."""
    try:
        error = op.explain(error, arrays)
    except Exception as explained:
        error = explained
    note_failure(error, op.name, op.formula, inputs)
    return error


def note_failure(error: Exception, name: str, formula: str, inputs: Sequence[Any]) -> None:
    """Note on an error what was under way, unless it is known already."""
    if not hasattr(error, "_failure"):
        held = tuple(ref(x) if isinstance(x, Tensor) else x for x in inputs)
        error._failure = Failure(name, formula, held, scope.get())  # type: ignore[attr-defined]


def grow(
    op: Op,
    xp: Any,
    edges: tuple[Any, ...],
    constants: tuple[Any, ...] | None,
    arrays: list[Any],
    y: Array,
) -> Tensor:
    """Make ``op`` a node of the graph, and the Tensor whose value it is."""
    if y.__class__ not in backends:  # NumPy gives a scalar where the result has no axes
        y = xp.asarray(y)
    op.xp = xp
    op.inputs = edges
    op.shape = y.shape
    op.dtype = y.dtype
    op.scope = scope.get()
    op.seq = clock()
    if noted is not None:
        noted(op)
    if op.fused:
        op.given = [(a.shape, a.dtype) if a is not None else None for a in arrays]
    if constants is not None:
        op.constants = constants
        for position, i in op.droppable:  # read only for a gradient that nobody wants
            if edges[i] is None and position < len(arrays):
                arrays[position] = None
    if op.keep is None:
        op.saved = ()
    else:
        arrays.append(y)
        op.saved = op.keep(arrays)

    tensor: Any = new_tensor(Tensor)
    tensor.array = y
    tensor._op = op
    tensor._requires_grad = True
    tensor._grad = None
    if capture.active is not None:
        capture.active.note(tensor)
    return tensor  # type: ignore[no-any-return]


def quietly(op: Op, xp: Any, *arrays: Any) -> Array:
    """``op.forward`` without NumPy's floating-point warnings: in PyTorch 1 / 0 is just inf."""
    token = error_state.set(silent)  # ``quiet``, written out
    try:
        return op.forward(xp, *arrays)
    finally:
        error_state.reset(token)


def promoted(a: Any, b: Any) -> tuple[Any, Any]:
    """Two operands with the dtypes they need to be combined, as PyTorch promotes them."""
    a, b = operand(a), operand(b)
    dtype = promote([getattr(x, "array", x) for x in (a, b)])
    bits = 8 * dtype.itemsize
    if dtype.kind in "iu" and bits < 64:  # a number too large for int8 wraps, as in PyTorch
        low = -(2 ** (bits - 1)) if dtype.kind == "i" else 0
        a, b = (x if isinstance(x, Tensor) else (x - low) % 2**bits + low for x in (a, b))
    return tuple(  # type: ignore[return-value]
        apply(Cast(dtype), x) if isinstance(x, Tensor) and x.array.dtype != dtype else x
        for x in (a, b)
    )


def operand(x: Any) -> Any:
    """A Tensor or a Python number."""
    if isinstance(x, Tensor):
        return x
    if hasattr(x, "dtype"):  # a NumPy number (some are Python floats, too), or an array
        return wrap(as_array(x)) if x.ndim else x.item()
    if isinstance(x, int | float):
        return x
    raise TypeError(f"an operand must be a tensor or a number, got {type(x).__name__}.")


def binary(op: Op, a: Any, b: Any) -> Tensor:
    """``apply`` for two operands that may differ in dtype, or be Python numbers."""
    # Operands of one dtype, the way of almost every operator, spelt out: 3.9 us an op forward and
    # backward against 4.7 through apply (16 x 16, NumPy's share 1.0; tests/benchmarks).
    if (cast := casting.get()) is not None:
        a, b = cast(op, (a, b))
    if isinstance(a, Tensor):
        program = capture.active
        x = a.array if program is None else program.enter(a)
        left = right = None
        constants: Any = None
        if isinstance(b, Tensor):
            z = b.array if program is None else program.enter(b)
            if z.__class__ is not x.__class__:
                return binary(op, *on_one_device(op, a, b))
            alike = x.dtype is z.dtype
            if b._requires_grad:
                right = b._op or b
        else:
            z = b
            alike = (b.__class__ is float or b.__class__ is int) and x.dtype.kind == "f"
        if a._requires_grad:
            left = a._op or a
        if alike and (left is not None or right is not None) and recording.get():
            xp = backends[x.__class__]
            if xp.several:
                return apply(op, a, b)
            try:
                y = op.forward(xp, x, z)
            except RuntimeWarning:
                y = quietly(op, xp, x, z)
            except Exception as error:
                raise failed(op, error, [x, z], (a, b)) from None
            if right is None:
                constants = None, b if z is b else ref(b)
                if z is b or x.shape == z.shape:
                    op.broadcasts = False
            else:
                if left is None:
                    constants = ref(a), None
                if x.shape == z.shape:
                    op.broadcasts = False
            return grow(op, xp, (left, right), constants, [x, z], y)
        if alike:
            return apply(op, a, b)
    if isinstance(b, Tensor) and a.__class__ is not Tensor:
        a = operand(a)
        if isinstance(a, Tensor) and a.array.__class__ is not b.array.__class__:
            a, b = on_one_device(op, a, b)
    a, b = promoted(a, b)
    return apply(op, a, b)


def on_one_device(op: Op | str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two operands on different devices: one without axes, on the CPU, follows the other, as in
    PyTorch; anything else is an error.
    """
    if capture.active is None or not capture.active.host:
        if not b.ndim and b.device == "cpu":
            return a, b.to(a.device)
        if not a.ndim and a.device == "cpu":
            return a.to(b.device), b
    check_devices(op, [a.array, b.array])
    return a, b


Tensor._apply = staticmethod(apply)
Tensor._binary = staticmethod(binary)
Tensor._promoted = staticmethod(promoted)
Tensor._on_one_device = staticmethod(on_one_device)
Tensor._wrap = staticmethod(wrap)
