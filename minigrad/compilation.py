"""compile: a step run once, and from then on as the straight line of array calls it came to.

A training step builds a graph, walks it backward and throws it away, and the next step does the
very same again. ``compile(step)`` notes, while the step runs for the first time, what is done with
arrays (backends/capture.py), writes that down as Python source (backends/source.py), and runs this
source from then on: the same calls in the same order, so the same numbers to the last bit.
``print(step.source)`` shows them. On a GPU it records CUDA graphs instead (graphed.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any
from warnings import warn

import numpy as np

from minigrad.backends import backend_of, capture, numpy, quiet
from minigrad.backends.capture import Program
from minigrad.backends.source import source
from minigrad.dtypes import get_default_dtype
from minigrad.engine import recording
from minigrad.graphed import GraphReplay
from minigrad.guards import PLAIN, Guard, broken, built, of_function, of_leaf, of_module
from minigrad.nn.module import Module
from minigrad.optim.optimizer import Optimizer
from minigrad.results import both_ways, filled, template, tensors_in
from minigrad.tensor import Tensor, captured_arrays, casting


def compile(model: Callable[..., Any] | None = None, *, check: bool = True, limit: int = 8) -> Any:
    """A function that does what ``model`` does, without building a graph again.

    ``model`` is a function, such as a whole training step, or a module. Arguments are tensors,
    plain values, and lists, tuples and dicts of them. The first call with arguments of these
    shapes, dtypes and plain values runs it as it is and captures it; so does the first one after a
    module was switched between train and eval, after a setting of a module or a number among the
    function's global and outer variables changed, or after a parameter was given another array.
    Running statistics, optimizers, schedules, step counts and random numbers go on as they would.

    On a GPU a call becomes CUDA graphs: the first two calls run as they are, the third is recorded,
    and from the fourth on arguments are copied in, the graphs launched, and results copied out.
    ``grad`` is then the same memory after every call. See docs/gpu.md.

    What cannot be captured (a value that is looked at, as by ``item()`` or ``if``; a result whose
    gradient is still to come; work on the CPU and on a GPU) is run as it is, with a warning that
    says why.

    Args:
        check: run the second call (on a GPU the fourth) both ways, from the same state, and compare
            every result, parameter and buffer bit by bit. Should they differ (because of something
            that the capture does not see, such as arrays changed by NumPy directly), it is run as
            it is. For that one call the state is in memory three times.
        limit: captures to keep for different arguments. After as many in a row of which none could
            be used again the function is run as it is.

    Example:
        >>> import minigrad as mg
        >>> w = mg.tensor(0.0, requires_grad=True)
        >>> optimizer = mg.optim.SGD([w], lr=0.1)
        >>> @mg.compile
        ... def step(x):
        ...     optimizer.zero_grad()
        ...     ((w - x) ** 2).backward()
        ...     optimizer.step()
        >>> for _ in range(100):
        ...     step(mg.tensor(5.0))
        >>> w
        tensor(5.0000, requires_grad=True)

    Differs: PyTorch's compile takes the function's Python code apart. Here the function runs; what
    it does beside computing with tensors (printing, counting in Python variables) is not repeated.
    """
    if model is None:
        return lambda function: compile(function, check=check, limit=limit)
    if not isinstance(limit, int) or limit < 1:
        raise ValueError(f"compile needs a limit of at least 1, got {limit!r}.")
    if not callable(model):
        raise TypeError(f"compile takes a function or a module, got {type(model).__name__}.")
    return Compiled(model, check, limit)


class Compiled:
    """What ``compile`` returns: callable like the function.

    ``replays`` are its captured programs, ``source`` what they do, ``captures`` how many were made,
    ``plain`` why the function is run as it is, or None.
    """

    def __init__(self, function: Callable[..., Any], check: bool, limit: int) -> None:
        self.function, self.check, self.limit = function, check, limit
        self.replays: list[Any] = []  # Replay, GraphReplay
        self.captures = 0
        self.plain: str | None = None
        self._tries = 0  # captures since one was last run
        self._known: dict[Any, list[Any]] = {}
        self._on_gpu: dict[Any, Any] = {}  # key -> (backend, device) of the GPU it computes on
        if not isinstance(function, Module):
            update_wrapper(self, function)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what copying and pickling ask for
            raise AttributeError(name)
        return getattr(self.function, name)

    @property
    def source(self) -> str:
        """The source of every captured program."""
        return "\n\n".join(r.source for r in self.replays)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program for such arguments; capture one where there is none."""
        if self.plain is not None or capture.active is not None:  # within another: part of that
            return self.function(*args, **kwargs)
        tensors: list[Tensor] = []
        given = (args, kwargs) if kwargs else args
        modes = recording.get(), numpy.numba, get_default_dtype(), casting.get()
        key = _key(given, tensors), modes
        why = None
        for replay in self._known.get(key, ()):
            why = replay.broken()
            if why is None:
                self._tries = 0
                returned, refused = replay.again(args, kwargs, tensors)
                if refused is not None:
                    self._give_up(refused)
                return returned
        if _has_array(given):
            self._give_up(
                "an argument is an array of NumPy, whose values may change unseen; pass a tensor"
            )
            return self.function(*args, **kwargs)
        replay = self._new(key, tensors)
        returned, refused = replay.first(args, kwargs, tensors)
        self._tries += 1
        if refused is capture.ON_GPU:
            self._on_gpu[key] = _place(replay.program.gpu)  # the next call is captured there
        elif refused is not None:
            self._give_up(refused)
        elif self._tries > self.limit:
            self._give_up(f"{why or 'its arguments'} changed in each of {self._tries} calls")
        else:
            self._keep(replay)
        return returned

    def _new(self, key: Any, tensors: list[Tensor]) -> Any:
        """What captures a call: on the CPU, or on the GPU where its tensors are."""
        place = self._on_gpu.get(key)
        for tensor in tensors:
            if not isinstance(tensor.array, numpy.array_type):
                place = _place(tensor.array)
        if place is None:
            return Replay(self.function, key, self.check)
        return GraphReplay(self.function, key, self.check, place)

    def _keep(self, replay: Replay) -> None:
        self.captures += 1
        self.replays.append(replay)
        del self.replays[: -self.limit]
        self._known = {}
        for r in self.replays:
            self._known.setdefault(r.key, []).append(r)

    def _give_up(self, why: str) -> None:
        """From now on run the function as it is."""
        self.plain = why
        self.replays, self._known = [], {}
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        warn(f"compile: {name} is run as it is: {why.rstrip('.')}.", stacklevel=3)


def _place(array: Any) -> tuple[Any, int]:
    """The backend and the number of the GPU of an array."""
    return backend_of(array), array.device.id


def _key(x: Any, tensors: list[Tensor]) -> Any:
    """What a call's arguments have to have in common with another's; its tensors are listed."""
    if isinstance(x, Tensor):
        for i, other in enumerate(tensors):
            if x is other:
                return i
        tensors.append(x)
        array = x.array
        if x._op is not None:
            return id(x._op)  # its graph goes on outside: captured, it is refused
        look = array.shape, array.strides, array.dtype.char, x._requires_grad, array.__class__
        if isinstance(array, numpy.array_type):
            return look
        return *look, array.device.id, x._grad is None
    if type(x) in (tuple, list):
        return (type(x), *[_key(e, tensors) for e in x])
    if type(x) is dict:
        return (dict, *[(k, _key(v, tensors)) for k, v in x.items()])
    if isinstance(x, PLAIN):
        return type(x), x
    return _Same(x)


def _has_array(x: Any) -> bool:
    """Whether there is an array of NumPy among a call's arguments."""
    if type(x) in (tuple, list, dict):
        return any(map(_has_array, x.values() if type(x) is dict else x))
    return isinstance(x, np.ndarray)


class _Same:
    """An object as a part of a key: equal to itself alone, and alive as long as the key is."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.x is other.x

    def __hash__(self) -> int:
        return id(self.x)


class Replay:
    """A captured program, and what has to hold for it to be run."""

    def __init__(self, function: Callable[..., Any], key: Any, check: bool) -> None:
        self.function, self.key, self.check = function, key, check
        self.checked = False
        self.source = ""

    def first(self, args: Any, kwargs: Any, tensors: list[Tensor]) -> tuple[Any, str | None]:
        """Run the function and capture it; what it returned, and why there is no program."""
        returned = self.capture(args, kwargs, tensors)
        for owner in self.program.owners:  # whose steps are called as they are
            for group in owner.param_groups if isinstance(owner, Optimizer) else ():
                for param in group["params"]:
                    if not isinstance(param.array, numpy.array_type):
                        self.program.on_gpu(param.array)
        return returned, self.program.broken

    def again(self, args: Any, kwargs: Any, tensors: list[Tensor]) -> tuple[Any, str | None]:
        """Run the program; what is returned, and why it is not to be run again."""
        if self.check and not self.checked:
            returned, differs = self.compare(args, kwargs, tensors)
            return returned, differs and f"a captured call differs: {differs}"
        return self.run(tensors), None

    def capture(self, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        """Run the function, note what it does, and make the program."""
        program = Program()
        watched = list(of_function(self.function, set()))
        for tensor in tensors:
            program.argument(tensor, tensor.array)
        with program, captured_arrays():
            returned = self.function(*args, **kwargs)
            arrays: list[Any] = []
            self.template = template(returned, program, arrays)
            self.results = [program.ref(array) for array in arrays]
        returned = _plain(returned)
        if any(t._op is not None for t in tensors):
            program.give_up("an argument has a graph of its own; detach it")
        self.program = program
        if program.broken is not None:
            return returned
        modules = [m for r in program.modules.values() if (m := r()) is not None]
        self.state = [modules, program.owners, program.constants]
        leaves = [
            (t, a) for r, a in program.leaves if (t := r()) is not None and not program.made(t)
        ]
        self.state.append([t for t, _ in leaves])
        guards = [g for t, a in leaves for g in of_leaf(t, a)]
        guards += [g for m in modules for g in of_module(m)]
        self._build([*watched, *guards])
        program.given, program.tensors, program.swept = [], {}, set()  # the first call's memory
        return returned

    def _build(self, guards: list[Guard]) -> None:
        """The program and its guards, as Python functions."""
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        self.source, scope = source(self.program, self.results, name, fuse=numpy.numba)
        self._replay = built(self.source, scope)["replay"]
        #: what does not hold any more of what was constant while capturing; None where all does
        self.broken = broken(guards)

    def run(self, tensors: list[Tensor]) -> Any:
        """Run the program."""
        with quiet():
            arrays = self._replay(*tensors)
        return filled(self.template, arrays, tensors)

    def compare(self, args: Any, kwargs: Any, tensors: list[Tensor]) -> tuple[Any, str | None]:
        """Run the function and the program from the same state; what the function returned, and
        how the program differs."""
        self.checked = True
        roots = [*self.state, tensors]
        return both_ways(lambda: self.function(*args, **kwargs), lambda: self.run(tensors), roots)


def _plain(x: Any) -> Any:
    """The same with NumPy's own arrays."""
    for tensor in tensors_in(x):
        tensor.array = capture.plain(tensor.array)
    return x
