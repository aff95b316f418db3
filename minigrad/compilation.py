"""compile: a step run once, and from then on as the straight line of array calls it came to.

A training step builds a graph, walks it backward and throws it away, and the next step does the
very same again. ``compile(step)`` notes, while the step runs for the first time, what is done with
arrays (backends/capture.py), writes that down as Python source (backends/source.py), and runs this
source from then on: the same calls in the same order, so the same numbers to the last bit.
``print(step.source)`` shows them.
"""

from __future__ import annotations

import builtins
import linecache
from collections.abc import Callable, Iterable, Iterator
from functools import update_wrapper
from itertools import count
from types import FunctionType, MethodType
from typing import Any
from warnings import warn

from minigrad.backends import capture, numpy, quiet
from minigrad.backends.capture import Program, Ref
from minigrad.backends.source import source
from minigrad.dtypes import get_default_dtype
from minigrad.engine import recording
from minigrad.nn.module import Module
from minigrad.optim.optimizer import Optimizer
from minigrad.snapshot import Snapshot, difference
from minigrad.tensor import Tensor, casting, wrap

#: What has to hold for a program to be run: an expression in HOLDER and VALUE, the two, a name.
Guard = tuple[str, Any, Any, str]

_PLAIN = (int, float, bool, str, type(None), complex, bytes)
_number = count(1).__next__


def compile(model: Callable[..., Any] | None = None, *, check: bool = True, limit: int = 8) -> Any:
    """A function that does what ``model`` does, without building a graph again.

    ``model`` is a function, such as a whole training step, or a module. Arguments are tensors,
    plain values, and lists, tuples and dicts of them. The first call with arguments of these
    shapes, dtypes and plain values runs it as it is and captures it; so does the first one after a
    module was switched between train and eval, after a setting of a module or a number among the
    function's global and outer variables changed, or after a parameter was given another array.
    Running statistics, optimizers, schedules, step counts and random numbers go on as they would.

    What cannot be captured (a value that is looked at, as by ``item()`` or ``if``; a result whose
    gradient is still to come; work on a GPU) is run as it is, with a warning that says why.

    Args:
        check: run the second call both ways, from the same state, and compare every result,
            parameter and buffer bit by bit. Should they differ (because of something that the
            capture does not see, such as arrays changed by NumPy directly), it is run as it is.
            For that one call the state is in memory three times.
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
        self.replays: list[Replay] = []
        self.captures = 0
        self.plain: str | None = None
        self._tries = 0  # captures since one was last run
        self._known: dict[Any, list[Replay]] = {}
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
                if self.check and not replay.checked:
                    returned, differs = replay.compare(args, kwargs, tensors)
                    if differs is not None:
                        self._give_up(f"a captured call differs: {differs}")
                    return returned
                return replay.run(tensors)
        if not all(isinstance(t.array, numpy.array_type) for t in tensors):
            self._give_up(capture.ON_GPU)
            return self.function(*args, **kwargs)
        replay = Replay(self.function, key)
        returned = replay.capture(args, kwargs, tensors)
        self._tries += 1
        if replay.program.broken is not None:
            self._give_up(replay.program.broken)
        elif self._tries > self.limit:
            self._give_up(f"{why or 'its arguments'} changed in each of {self._tries} calls")
        else:
            self._keep(replay)
        return returned

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
        warn(f"compile: {name} is run as it is: {why}.", stacklevel=3)


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
        return array.shape, array.strides, array.dtype.char, x._requires_grad, array.__class__
    if type(x) in (tuple, list):
        return (type(x), *[_key(e, tensors) for e in x])
    if type(x) is dict:
        return (dict, *[(k, _key(v, tensors)) for k, v in x.items()])
    if isinstance(x, _PLAIN):
        return type(x), x
    return _Same(x)


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

    def __init__(self, function: Callable[..., Any], key: Any) -> None:
        self.function, self.key = function, key
        self.checked = False
        self.source = ""

    def capture(self, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        """Run the function, note what it does, and make the program."""
        program = Program()
        watched = list(_of_function(self.function, set()))
        with program:
            for tensor in tensors:
                program.argument(tensor)
            returned = self.function(*args, **kwargs)
            self.results: list[Ref] = []
            self.template = self._template(returned, program)
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
        guards = [g for t, a in leaves for g in _of_leaf(t, a)]
        guards += [g for m in modules for g in _of_module(m)]
        self._build([*watched, *guards])
        program.given, program.tensors, program.swept = [], {}, set()  # the first call's memory
        return returned

    def _template(self, x: Any, program: Program) -> Any:
        """What is returned, with places for the tensors."""
        if isinstance(x, Tensor):
            for i, tensor in enumerate(program.given):
                if x is tensor:
                    return _Place(i, given=True)
            if not program.made(x):
                return x
            if x._op is not None and x._op not in _reached(program.swept):
                program.give_up(
                    "it returns a tensor whose gradient is still to come; put backward() into the "
                    "step, detach the tensor, or call it under no_grad()"
                )
            self.results.append(program.ref(x.array))
            return _Place(len(self.results) - 1, given=False)
        if type(x) in (tuple, list):
            return type(x)(self._template(e, program) for e in x)
        if type(x) is dict:
            return {k: self._template(v, program) for k, v in x.items()}
        return x

    def _build(self, guards: list[Guard]) -> None:
        """The program and its guards, as Python functions."""
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        self.source, scope = source(self.program, self.results, name, fuse=numpy.numba)
        self._replay = _built(self.source, scope)["replay"]
        scope, lines = {}, ["def broken():"]
        for i, (condition, holder, value, what) in enumerate(guards):
            scope[f"h{i}"], scope[f"v{i}"] = holder, value
            test = condition.replace("HOLDER", f"h{i}").replace("VALUE", f"v{i}")
            lines.append(f"    if not ({test}): return {what!r}")
        #: what does not hold any more of what was constant while capturing; None where all does
        self.broken = _built("\n".join([*lines, "    return None\n"]), scope)["broken"]

    def run(self, tensors: list[Tensor]) -> Any:
        """Run the program."""
        with quiet():
            arrays = self._replay(*tensors)
        return _filled(self.template, arrays, tensors)

    def compare(self, args: Any, kwargs: Any, tensors: list[Tensor]) -> tuple[Any, str | None]:
        """Run the function and the program from the same state; what the function returned, and
        how the program differs."""
        roots = [*self.state, tensors]
        before = Snapshot(roots)
        expected = self.function(*args, **kwargs)
        values = [t.array.copy() for t in _tensors(expected)]
        after = Snapshot(roots)
        before.restore()
        try:
            found = [t.array for t in _tensors(self.run(tensors))]
            differs = difference(values, found, "result")
            differs = differs or difference(after.values, Snapshot(roots).values)
        except Exception as error:  # whatever it is, the function has the result
            differs = f"running the program raised {type(error).__name__}: {error}"
        after.restore()
        self.checked = True
        return expected, differs


# ---- results ------------------------------------------------------------------------------------


class _Place:
    """In what is returned, the place of a tensor."""

    def __init__(self, number: int, given: bool) -> None:
        self.number, self.given = number, given


def _filled(template: Any, arrays: Any, tensors: list[Tensor]) -> Any:
    """What is returned, from its template."""
    if isinstance(template, _Place):
        return tensors[template.number] if template.given else wrap(arrays[template.number])
    if type(template) in (tuple, list):
        return type(template)(_filled(e, arrays, tensors) for e in template)
    if type(template) is dict:
        return {k: _filled(v, arrays, tensors) for k, v in template.items()}
    return template


def _plain(x: Any) -> Any:
    """The same with NumPy's own arrays."""
    for tensor in _tensors(x):
        tensor.array = capture.plain(tensor.array)
    return x


def _tensors(x: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(x, Tensor):
        yield x
    elif type(x) in (tuple, list, dict):
        for e in x.values() if type(x) is dict else x:
            yield from _tensors(e)


def _reached(roots: Iterable[Any]) -> set[Any]:
    """The nodes of the graphs below ``roots``."""
    seen: set[Any] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack.extend(node.inputs if node.seq else ())
    return seen


# ---- what has to hold ---------------------------------------------------------------------------


def _of_leaf(tensor: Tensor, array: Any) -> Iterator[Guard]:
    what = f"a tensor of shape {tensor.shape}"
    yield "HOLDER.array is VALUE", tensor, array, f"the array of {what}"
    yield (
        "HOLDER._requires_grad is VALUE",
        tensor,
        tensor._requires_grad,
        f"requires_grad of {what}",
    )


#: The hooks that a call runs.
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def _of_module(module: Module) -> Iterator[Guard]:
    """Its settings (plain values among its attributes), and which parts it has."""
    if not any(module.__dict__[hooks] for hooks in _HOOKS):
        none = " or ".join(f"HOLDER[{hooks!r}]" for hooks in _HOOKS)
        yield f"not ({none})", module.__dict__, None, f"the hooks of {type(module).__name__}"
    for name, value in module.__dict__.items():
        if name.endswith("_hooks") and not value:
            continue
        what = f"{name} of {type(module).__name__}"
        if isinstance(value, dict):
            yield "len(HOLDER) == VALUE", value, len(value), what
            for key, part in value.items():
                if isinstance(part, Tensor | Module | None):
                    yield f"HOLDER.get({key!r}) is VALUE", value, part, f"{key} of {what}"
        elif _is_plain(value):
            yield f"HOLDER.get({name!r}) == VALUE", module.__dict__, value, what


def _of_function(function: Any, seen: set[int]) -> Iterator[Guard]:
    """The global and outer variables it reads: numbers, tensors, modules, functions."""
    if isinstance(function, MethodType):
        if not isinstance(function.__self__, Module):
            for name, value in getattr(function.__self__, "__dict__", {}).items():
                yield from _of_variable(
                    f"HOLDER.get({name!r})", function.__self__.__dict__, value, name, seen
                )
        function = function.__func__
    if not isinstance(function, FunctionType) or id(function) in seen:
        return
    seen.add(id(function))
    code = function.__code__
    for name in code.co_names:
        if name in function.__globals__:
            value = function.__globals__[name]
            yield from _of_variable(
                f"HOLDER.get({name!r})", function.__globals__, value, name, seen
            )
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not set yet
            continue
        yield from _of_variable("HOLDER.cell_contents", cell, value, name, seen)


def _of_variable(place: str, holder: Any, value: Any, name: str, seen: set[int]) -> Iterator[Guard]:
    if _is_plain(value):
        yield f"{place} == VALUE", holder, value, f"the variable {name}"
    elif isinstance(value, Tensor | Module | Optimizer | FunctionType | MethodType):
        yield f"{place} is VALUE", holder, value, f"the variable {name}"
        if isinstance(value, FunctionType | MethodType) and not value.__module__.startswith(
            "minigrad."
        ):
            yield from _of_function(value, seen)


def _is_plain(x: Any) -> bool:
    return isinstance(x, _PLAIN) or (isinstance(x, tuple) and all(map(_is_plain, x)))


# ---- source -------------------------------------------------------------------------------------


def _built(text: str, scope: dict[str, Any]) -> dict[str, Any]:
    """The names that ``text`` defines; its lines are shown where an error is raised in it."""
    file = f"<minigrad compiled {_number()}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(builtins.compile(text, file, "exec"), scope)
    return scope
