"""Capture: what a piece of code does with arrays, noted call by call: a program without a graph.

While a ``Program`` is being captured, arrays are of a type that notes what NumPy is asked to do
with them (``Captured``), and their backend notes the kernels (``CaptureBackend``): both by NumPy's
own protocols, so that nobody else has to know. What changes the world beside arrays (a counter, an
optimizer's step, the random state) says so: it is called through ``effect``.

The notes are a straight line of calls, in which every array has a number. As Python source they
are what is run from then on (minigrad/compilation.py).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import numpy as np

from minigrad.shapes import prod

Array = Any
F = TypeVar("F", bound=Callable[..., Any])

#: What notes the code that runs, in the one thread that does so.
active: Watch | None = None
lock = threading.RLock()


class Call:
    """One call: a function, its arguments with arrays as ``Ref``, and the arrays it gave."""

    __slots__ = ("args", "function", "kwargs", "pure", "results")

    def __init__(
        self, function: Callable[..., Any], args: Any, kwargs: Any, results: Any, pure: bool
    ) -> None:
        self.function, self.args, self.kwargs = function, args, kwargs
        self.results = results  #: Ref, None, or a tuple of them
        self.pure = pure  #: whether it may be left out where nobody uses a result

    @property
    def reads(self) -> list[Ref]:
        """The arrays among its arguments."""
        return refs((self.args, self.kwargs))

    @property
    def writes(self) -> list[Ref]:
        """The arrays it gave."""
        return refs(self.results)


class Ref:
    """A place for an array: an argument, a constant, what a call gave; or an argument's tensor."""

    __slots__ = ("dtype", "flat", "kind", "number", "shape")

    def __init__(self, kind: str, number: int, array: Array = None) -> None:
        self.kind, self.number = kind, number
        self.shape: tuple[int, ...] = ()
        self.dtype: Any = None
        self.flat = False  #: whether its memory is in the order of its axes
        if array is not None:
            self.shape, self.dtype = array.shape, array.dtype
            self.flat = array.flags.c_contiguous

    @property
    def size(self) -> int:
        """How many numbers the array has."""
        return prod(self.shape)

    @property
    def name(self) -> str:
        """Its name in the source: ``x0``, ``c0``, ``v0``, ``t0``."""
        return f"{self.kind}{self.number}"

    def __repr__(self) -> str:
        return self.name


ON_GPU = "it computes on a GPU as well as on the CPU"


class Watch:
    """Notes what a piece of code does while it is entered. Subclasses say what becomes of it."""

    host = False  #: arrays of the CPU are captured, so code that makes some is to ask for those

    def __init__(self) -> None:
        self.owners: list[Any] = []  #: whose methods were called as effects
        self.modules: dict[int, Any] = {}  #: weak references to the modules that were called
        self.tensors: dict[int, Any] = {}  #: weak references to the tensors made meanwhile
        self.given: list[Any] = []  #: the tensors behind the arguments
        self.swept: set[Any] = set()  #: the nodes whose gradient was computed
        self.broken: str | None = None  #: why what was noted does not tell the whole story
        self.thread = threading.get_ident()

    def __enter__(self) -> Self:
        global active
        lock.acquire()
        active = self
        return self

    def __exit__(self, *error: Any) -> None:
        global active
        active = None
        lock.release()

    def made(self, tensor: Any) -> bool:
        """Whether a tensor was made meanwhile."""
        reference = self.tensors.get(id(tensor))
        return reference is not None and reference() is tensor

    def note(self, tensor: Any) -> None:
        """Note a tensor as it is made."""
        self.tensors[id(tensor)] = weakref.ref(tensor)

    def own(self, owner: Any) -> None:
        """Note an object whose state the code changes."""
        if owner is not None and all(owner is not o for o in self.owners):
            self.owners.append(owner)

    def give_up(self, why: str) -> None:
        """The code asked for something that what is noted cannot tell."""
        if self.broken is None:
            self.broken = why

    @contextmanager
    def aside(self) -> Iterator[None]:
        """``with watch.aside():`` what is done is not watched."""
        global active
        active = None
        try:
            yield
        finally:
            active = self

    def enter(self, tensor: Any) -> Array:
        """The array of a tensor that is computed with."""
        return tensor.array

    def seen(self, tensor: Any, array: Array) -> Array:
        """The array of a tensor as code sees it that looks at it."""
        return array

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any, pure: bool = True) -> Any:
        """Call ``function`` on arrays of the CPU."""
        raise NotImplementedError

    def effect(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Call what changes more than arrays."""
        raise NotImplementedError

    def changed(self, function: Callable[[Array], None], array: Array) -> bool:
        """Note a change in place; whether ``function``, which tells others, is taken care of."""
        raise NotImplementedError

    def sends(self, values: Any, device: str) -> Array:
        """Values of the host are about to be sent to a GPU; those of the call before, if known."""

    def sent(self, values: Any, device: str, array: Array) -> None:
        """They are there."""

    def keep(self, array: Array) -> None:
        """An array that others hold for the code is part of it."""


class Program(Watch):
    """The calls noted so far. ``with program:`` captures."""

    host = True

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.arguments: list[Ref] = []
        self.constants: list[Array] = []  #: arrays from outside, by the number of their Ref
        self.leaves: list[tuple[Any, Array]] = []  #: (weak reference to a tensor, its array)
        self.gpu: Array = None  #: an array of a GPU, where one was met
        self._places: dict[Any, Captured] = {}  # where an array lies -> the array
        self._numbers = 0

    def __exit__(self, *error: Any) -> None:
        for reference in self.tensors.values():
            tensor = reference()
            if tensor is not None:
                tensor.array = plain(tensor.array)
        self._places = {}
        super().__exit__(*error)

    # ---- arrays ---------------------------------------------------------------------------------

    def argument(self, tensor: Any, array: Array) -> None:
        """The next argument of the program: the array of ``tensor``."""
        ref = Ref("x", len(self.arguments), array)
        self.arguments.append(ref)
        self.given.append(tensor)
        self._captured(array, ref)

    def seen(self, tensor: Any, array: Array) -> Array:
        """The array of a tensor, captured."""
        if array.__class__ is Captured or threading.get_ident() != self.thread:
            return array
        if not isinstance(array, np.ndarray):
            self.on_gpu(array)
            return array
        found = self._places.get(_place(array))
        if found is None:
            self.leaves.append((weakref.ref(tensor), array))
            found = self._constant(array)
        return found

    def _constant(self, array: Array) -> Captured:
        for known in self._places.values():
            if known.ref.kind in "xv" and np.may_share_memory(known.plain, array):
                self.give_up(
                    "it sees the memory of a captured array in a way that NumPy does not tell of "
                    "(ascontiguousarray and other functions that take no subclasses)"
                )
        self.constants.append(array)
        return self._captured(array, Ref("c", len(self.constants) - 1, array))

    def _captured(self, array: Array, ref: Ref) -> Captured:
        made: Captured = array.view(Captured)
        made.plain, made.ref = array, ref
        self._places[_place(array)] = made
        return made

    def ref(self, array: Array) -> Ref:
        """The place of an array, which may come from outside."""
        if not isinstance(array, np.ndarray):
            self.on_gpu(array)
            return Ref("c", -1)
        found = self._places.get(_place(plain(array)))
        return (self._constant(plain(array)) if found is None else found).ref

    def owns(self, array: Array) -> bool:
        """Whether a call gave this very array, or one view of all of it and nothing else."""
        array = plain(array)
        found = self._places.get(_place(array))
        if found is not None:
            return found.ref.kind == "v"
        views = [a for a in self._places.values() if a.base is array]
        return len(views) == 1 and views[0].ref.kind == "v" and views[0].size == array.size

    def noted(self, x: Any) -> Any:
        """An argument as it is noted: arrays as Refs."""
        if isinstance(x, np.ndarray):
            return self.ref(x)
        if type(x) in (tuple, list):
            return type(x)(self.noted(e) for e in x)
        if type(x) is dict:
            return {k: self.noted(v) for k, v in x.items()}
        if type(x) is slice:
            return slice(self.noted(x.start), self.noted(x.stop), self.noted(x.step))
        for i, tensor in enumerate(self.given):
            if x is tensor:
                return Ref("t", i)
        return x

    # ---- calls ----------------------------------------------------------------------------------

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any, pure: bool = True) -> Any:
        """Call ``function`` on plain arrays, and note it."""
        global active
        noted, noted_kwargs = self.noted(tuple(args)), self.noted(dict(kwargs))
        given = _arrays((args, kwargs))
        active = None  # what the function does inside is its own affair
        try:
            result = function(*plain(tuple(args)), **plain(dict(kwargs)))
        finally:
            active = self
        arrays = _arrays_for_numbers(result)
        if arrays is not result:  # in the program, too: an array can be changed in place
            function, result = _as_array(function), arrays
        places = {_place(plain(a)): a for a in given}
        before = self._numbers
        out = self._results(result, places)
        if function in _VIEWS and self._numbers == before:
            return out  # seen so already
        if isinstance(out, Captured) and out.ref.kind == "c" and _place(plain(out)) not in places:
            return out  # a view of a constant: found once and for all
        changes = "out" in kwargs or function in _IN_PLACE
        self.calls.append(
            Call(function, noted, noted_kwargs, _result_refs(out), pure and not changes)
        )
        return out

    def _results(self, result: Any, given: dict[Any, Any]) -> Any:
        if isinstance(result, tuple | list):
            parts = [self._results(r, given) for r in result]
            named = hasattr(result, "_fields")
            return type(result)(*parts) if named else type(result)(parts)
        if not isinstance(result, np.ndarray):
            if isinstance(result, int | float) and given:
                self.give_up("it computes a Python number from the values of a tensor")
            return result
        known = self._places.get(_place(result))
        if known is not None:
            return known  # changed in place, or the argument itself
        base = result.base
        while base is not None and base.base is not None:
            base = base.base
        if base is not None and given:  # a view of constants only lies where it lies
            refs = [self.ref(a) for a in given.values()]
            if all(r.kind == "c" for r in refs) and any(
                np.may_share_memory(result, plain(a)) for a in given.values()
            ):
                return self._constant(result)
        return self._captured(result, self.new_ref(result))

    def new_ref(self, array: Array = None) -> Ref:
        """A place for what a call gives."""
        self._numbers += 1
        return Ref("v", self._numbers - 1, array)

    def effect(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run what changes more than arrays, and note that it is to be run each time."""
        global active
        if threading.get_ident() != self.thread:  # another thread's business
            return function(*args)
        self.own(getattr(function, "__self__", None))
        noted = self.noted(args)
        active = None
        try:
            result = function(*plain(args))
        finally:
            active = self
        self.calls.append(Call(function, noted, {}, None, pure=False))
        return result

    def changed(self, function: Callable[[Array], None], array: Array) -> bool:
        """Note a change in place (of an array made by the program itself nobody else can know);
        False in another thread.
        """
        if threading.get_ident() != self.thread:
            return False
        if not isinstance(array, np.ndarray):
            self.on_gpu(array)
            return False
        if self.ref(array).kind != "v":
            self.effect(function, (array,))
        return True

    def on_gpu(self, array: Array) -> None:
        """Give up: the code computes on a GPU."""
        self.gpu = array
        self.give_up(ON_GPU)


def in_graph(function: F) -> F:
    """Mark what is called through ``effect``: on a GPU it changes arrays and gradients only, so
    that its kernels are a part of a recorded graph and it is not called again.
    """
    function.in_graph = True  # type: ignore[attr-defined]
    return function


def on_host(function: F) -> F:
    """Mark what is called through ``effect``: it computes nothing on a GPU, so that it may be
    called before the kernels around it are done.
    """
    function.on_host = True  # type: ignore[attr-defined]
    return function


class Captured(np.ndarray):
    """An array that notes what is done with it in the active program."""

    plain: Array
    ref: Ref

    def __array_finalize__(self, other: Any) -> None:
        self.plain = None  # set by Program; a view that NumPy makes behind its back has none

    @property
    def base(self) -> Any:
        return plain(self).base

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        return run(function, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return run(function, args, kwargs)

    # What does not go through either protocol.

    def __getitem__(self, index: Any) -> Any:
        return run(_getitem, (self, index), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        run(np.ndarray.__setitem__, (self, index, value), {})

    def __float__(self) -> float:
        return float(read(self))

    def __int__(self) -> int:
        return int(read(self))

    def __bool__(self) -> bool:
        return bool(read(self))

    def __index__(self) -> int:
        return int(read(self))

    def item(self, *args: Any) -> Any:
        return read(self).item(*args)

    def tolist(self) -> Any:
        return read(self).tolist()

    @property
    def T(self) -> Any:  # noqa: N802
        return run(np.ndarray.transpose, (self,), {})


def _method(name: str) -> Any:
    function = getattr(np.ndarray, name)

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        return run(function, (self, *args), kwargs)

    return noted


def _reduction(reduce: Any) -> Any:
    def noted(self: Any, axis: Any = None, *args: Any, **kwargs: Any) -> Any:
        return run(reduce, (self, axis, *args), kwargs)

    return noted


_METHODS = """argmax argmin argpartition argsort astype choose clip compress copy cumprod cumsum
diagonal dot fill flatten mean nonzero partition ravel repeat reshape round searchsorted sort
squeeze std swapaxes take trace transpose var"""
for _name in _METHODS.split():
    setattr(Captured, _name, _method(_name))

#: What NumPy's methods call, by way of Python: 2 us.
REDUCTIONS = {
    "sum": np.add.reduce,
    "prod": np.multiply.reduce,
    "max": np.maximum.reduce,
    "min": np.minimum.reduce,
}
for _name in REDUCTIONS:
    setattr(Captured, _name, _reduction(REDUCTIONS[_name]))

_NONE: dict[str, Any] = {}
_VIEWS = {np.ndarray.transpose, np.ndarray.reshape, np.ndarray.swapaxes, np.transpose, np.reshape}
_IN_PLACE = {np.ndarray.__setitem__, np.ndarray.fill, np.ndarray.sort, np.copyto, np.add.at}


def _getitem(x: Array, index: Any) -> Any:
    return x[index]


def anew(x: Array) -> Array:
    """A copy of an array that is the same in every run of a program."""
    return x.copy()


def _arrays_for_numbers(x: Any) -> Any:
    """``x``, with every NumPy number in it as an array without axes; itself where it has none."""
    if isinstance(x, np.generic):
        return np.asarray(x)
    if type(x) is tuple and any(isinstance(e, np.generic) for e in x):
        return tuple(map(_arrays_for_numbers, x))
    return x


def _as_array(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, whose NumPy numbers are arrays without axes."""

    def array(*args: Any, **kwargs: Any) -> Any:
        return _arrays_for_numbers(function(*args, **kwargs))

    array.__name__ = getattr(function, "__name__", "function")
    array.__wrapped__ = function  # type: ignore[attr-defined]
    return array


def plain(x: Any) -> Any:
    """``x`` with every captured array, also in tuples, lists, dicts and slices, as NumPy's own."""
    if isinstance(x, Captured):
        return x.view(np.ndarray) if x.plain is None else x.plain
    if type(x) in (tuple, list):
        return type(x)(plain(e) for e in x)
    if type(x) is dict:
        return {k: plain(v) for k, v in x.items()}
    if type(x) is slice:
        return slice(plain(x.start), plain(x.stop), plain(x.step))
    return x


def run(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Any = _NONE, pure: bool = True
) -> Any:
    """Call ``function``, noted where a program is being captured."""
    if active is None or threading.get_ident() != active.thread:
        return function(*plain(tuple(args)), **plain(dict(kwargs)))
    return active.call(function, args, kwargs, pure)


def empty(shape: Any, dtype: Any) -> Array:
    """``np.empty``, noted."""
    return np.empty(shape, dtype) if active is None else run(np.empty, (shape, dtype))


def given(x: Any) -> Any:
    """An array of given values, as of ``zeros()``: in a program it is made anew in each run, for it
    may be changed."""
    return x if active is None or type(x) is not np.ndarray else run(anew, (x,))


def effect(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)``, which changes more than arrays: in a program it is called each time."""
    if active is None or threading.get_ident() != active.thread:
        return function(*args)
    return active.effect(function, args)


def noting() -> bool:
    """Whether calls on arrays are noted one by one, so that a kernel is not to take several."""
    return active is not None and active.host


def entered(tensor: Any) -> Array:
    """The array of a tensor that is computed with."""
    return tensor.array if active is None else active.enter(tensor)


def sending(make: Callable[[], Array], values: Any, device: str) -> Array:
    """``make()``, which sends values of the host to a GPU; where a step is recorded, a copy of
    what it has sent before.
    """
    if active is None or threading.get_ident() != active.thread:
        return make()
    known = active.sends(values, device)
    if known is not None:
        return known.copy()
    array = make()
    active.sent(values, device, array)
    return array


def read(x: Any) -> Any:
    """``x`` for looking at its values: what follows may depend on them."""
    if active is not None and threading.get_ident() == active.thread:
        active.give_up("it looks at the values of a tensor (item(), numpy(), if, print)")
    return plain(x)


def _arrays(x: Any) -> list[Array]:
    if isinstance(x, np.ndarray):
        return [x]
    if type(x) in (tuple, list):
        return [a for e in x for a in _arrays(e)]
    if type(x) is dict:
        return [a for e in x.values() for a in _arrays(e)]
    return []


def _result_refs(out: Any) -> Any:
    if isinstance(out, tuple | list):
        return tuple(_result_refs(o) for o in out)
    return out.ref if isinstance(out, Captured) else None


def refs(x: Any) -> list[Ref]:
    """The places in nested tuples, lists, dicts and slices."""
    if isinstance(x, Ref):
        return [x]
    if isinstance(x, tuple | list):
        return [r for e in x for r in refs(e)]
    if isinstance(x, dict):
        return [r for e in x.values() for r in refs(e)]
    if isinstance(x, slice):
        return refs((x.start, x.stop, x.step))
    return []


def _place(array: Array) -> tuple[Any, ...]:
    """Where an array lies, and how: the same for two views of the same."""
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


class Draws:
    """The random generator of ``owner`` in a captured program: each run draws anew."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def __getattr__(self, name: str) -> Any:
        def noted(*args: Any, **kwargs: Any) -> Any:
            program = active
            if program is None or threading.get_ident() != program.thread:
                return _draw(self.owner, name, *args, **kwargs)
            program.own(self.owner)
            if not program.host:
                program.give_up("it draws random numbers on the host; dropout draws on the GPU")
            return program.call(_draw, (self.owner, name, *args), kwargs, pure=False)

        return noted


def _draw(owner: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(owner.rng, name)(*args, **kwargs)


class CaptureBackend:
    """The backend of captured arrays: a real one, whose kernels are noted as they are called.

    A kernel that ``opens`` is noted as the calls that it makes itself.
    """

    name = "capture"
    array_type = Captured
    synchronous = False  #: values are not to be looked at
    several = False

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if getattr(found, "__self__", None) is self.real or name in _MAKERS:

            def kernel(*args: Any, **kwargs: Any) -> Any:
                if self.real.opens(name, args):
                    return found(*args, **kwargs)
                return run(found, args, kwargs)

            setattr(self, name, kernel)
            return kernel
        return found

    def device_of(self, x: Array) -> str:
        """Where an array lives."""
        return self.real.device_of(plain(x))  # type: ignore[no-any-return]

    def writable(self, x: Array) -> bool:
        """Whether an array may be changed in place."""
        return self.real.writable(plain(x))  # type: ignore[no-any-return]

    def to_host(self, x: Array) -> Any:
        """The values, to look at."""
        return self.real.to_host(read(x))

    def from_host(self, x: Any, device: str) -> Array:
        """The same array, or a copy of it in each run."""
        return given(x)

    def constant(self, x: Any, device: str) -> Array:
        """The same array, which nobody changes."""
        return x

    def run(self, op: Any, *arrays: Array) -> Array:
        """The value of an op within the rule of another."""
        return op.forward(self, *arrays)


#: NumPy's functions that neither protocol tells of: they make arrays, or take no subclasses.
_MAKERS = {"zeros", "ones", "empty", "full", "arange", "zeros_like", "ones_like"}
_MAKERS |= {"array", "asarray", "ascontiguousarray"}
