"""A captured step on a GPU: CUDA graphs, and what the host does around them.

The first two calls run as they are, on the stream that will record: kernels are compiled, plans
made, memory measured. The third records what it launches, and launches it; from then on a call
copies its arguments to where the graph reads them, launches, and copies the results.

The graph holds everything a GPU does. What changes on the host besides goes through
``capture.effect``, and is one of four:

* marked ``in_graph``: arrays and gradients only. The kernels are in the graph; ``grad`` is set to
  what it was after the recording.
* marked ``on_host``: no kernels. It is called before each launch.
* an optimizer's step whose kernels read numbers (optim/recorded.py): before each launch the host
  counts, and puts the numbers where they are read.
* anything else: the graph ends there, it is called as it is, and another graph begins.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np

from minigrad.backends import backends, capture, cuda
from minigrad.backends.capture import Watch
from minigrad.backends.cuda.graph import Numbers, Recording
from minigrad.engine import marker, owner
from minigrad.errors import GraphError
from minigrad.generator import device_generator
from minigrad.gradients import accumulate
from minigrad.guards import Guard, broken, of_function, of_leaf, of_module
from minigrad.nn.module import Module
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.recorded import RecordedStep, can_be_recorded
from minigrad.results import both_ways, filled, template
from minigrad.snapshot import Snapshot
from minigrad.tensor import Tensor, set_grad, wrap

Array = Any

ON_CPU = "it computes on the CPU as well as on a GPU"
SENDS = (
    "it sends other values of the host to the GPU in every call (tensor(), .cuda()); make them "
    "before, or pass them as arguments"
)


class Warm(Watch):
    """What a call that runs as it is shows of what is to be recorded."""

    def __init__(self, device: int, last: bool) -> None:
        super().__init__()
        self.device = device
        self.last = last  #: the last one: now everything that is made once has been made
        self.leaves: dict[int, tuple[Any, Array]] = {}  # id -> (weak reference to a tensor, array)
        self.recorded: set[int] = set()  # ids of the optimizers whose step a graph can hold
        self.constants: dict[Any, Array] = {}  # what the last one sent to the GPU

    def enter(self, tensor: Tensor) -> Array:
        """Note a tensor that is computed with."""
        array = tensor.array
        if threading.get_ident() != self.thread or self.made(tensor):
            return array
        if isinstance(array, np.ndarray):
            self.give_up(ON_CPU)
        elif array.device.id != self.device:
            self.give_up("it computes on several GPUs")
        elif not any(tensor is t for t in self.given) and id(tensor) not in self.leaves:
            self.leaves[id(tensor)] = weakref.ref(tensor), array
        return array

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any, pure: bool = True) -> Any:
        """Just call it."""
        return function(*args, **kwargs)

    def changed(self, function: Callable[[Array], None], array: Array) -> bool:
        """Nothing to note."""
        return False

    def sent(self, values: Any, device: str, array: Array) -> None:
        """Keep a copy of values that the recorded call may send, too."""
        if self.last:
            self.constants[_sent_key(values, device)] = array.copy()

    def effect(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Call it, and note whose it is."""
        if threading.get_ident() != self.thread:  # another thread's business
            return function(*args)
        of: Any = getattr(function, "__self__", None)
        self.own(of)
        if getattr(function, "in_graph", False) or getattr(function, "on_host", False):
            for x in args:
                if isinstance(x, Tensor):
                    self.enter(x)
            return function(*args)  # what it does is watched, too
        with self.aside():
            if not is_step(function):
                return function(*args)
            if can_be_recorded(of):
                self.recorded.add(id(of))
            return None

    def known(self) -> list[Tensor]:
        """The tensors whose gradients a call may change: those it computed with, and those of its
        modules and optimizers.
        """
        found = [t for r, _ in self.leaves.values() if (t := r()) is not None]
        for module in self.called():
            found += module.__dict__["_parameters"].values()
        for of in self.owners:
            if isinstance(of, Optimizer):
                found += [p for group in of.param_groups for p in group["params"]]
            elif isinstance(of, Module):
                found += of.parameters()
        return list({id(t): t for t in (*found, *self.given) if t is not None}.values())

    def called(self) -> list[Module]:
        """The modules that were called."""
        return [m for r in self.modules.values() if (m := r()) is not None]

    def roots(self) -> list[Any]:
        """All that a call may change."""
        return [self.called(), self.owners, self.known(), device_generator]


def _sent_key(values: Any, device: str) -> Any:
    return device, values.dtype.str, values.shape, values.tobytes()


def is_step(function: Any) -> bool:
    """Whether it is an optimizer's step as ``Optimizer`` has it."""
    return getattr(function, "__func__", None) is Optimizer._step


class Grad:
    """The gradient of a tensor during a recorded part, and what becomes of it in each replay."""

    def __init__(self, tensor: Tensor, number: int | None) -> None:
        self.tensor = tensor
        self.number = number  #: of an argument: each call has another tensor there
        self.before: Any = tensor._grad
        self.stands_in: Any = None  #: for ``before``, in the memory of the graph
        self.buffer: Any = None  #: the array of the gradient as the part begins
        self.read = False  #: the part has read it, or seen that there was none
        self.new = False  #: the part has made another
        self.after: Any = None  #: what it was at the end of the part, and its array
        self.array: Any = None
        self.in_place = False  #: the part changed the one from before

    def finish(self, written: Callable[[Array], bool]) -> None:
        """The part is at its end; what it has not replaced is put back."""
        after = self.tensor._grad
        begun = self.before if self.stands_in is None else self.stands_in
        self.new = after is not begun or (after is not None and after.array is not self.buffer)
        if self.new:
            self.after, self.array = after, None if after is None else after.array
        else:
            self.in_place = self.stands_in is not None and written(self.buffer)
            self.tensor._grad = self.before

    def of(self, given: list[Tensor]) -> Tensor:
        """The tensor, in a call with these arguments."""
        return self.tensor if self.number is None else given[self.number]


class Part:
    """A graph, what the host does before it is launched, and what is called after it."""

    def __init__(self, backend: Any) -> None:
        self.numbers = Numbers(backend)
        self.host: list[Callable[[list[Tensor]], Any]] = []
        self.grads: list[Grad] = []
        self.graph: Any = None
        self.call: Callable[[list[Tensor]], Any] | None = None  #: what ended it
        self.names: list[str] = []  #: of what is in ``host``
        self.ended_by = ""

    @property
    def lines(self) -> list[str]:
        """What it does, to be read."""
        lines = [f"{name}()  # by the host" for name in self.names]
        return [*lines, "launch()"] + (
            [f"{self.ended_by}()  # as it is"] if self.call is not None else []
        )

    def run(self, given: list[Tensor]) -> None:
        """Do all of it once more."""
        for action in self.host:
            action(given)
        for grad in self.grads:
            if grad.stands_in is not None and grad.read:
                now = grad.of(given)._grad
                if now is None:
                    raise GraphError(
                        f"a gradient of shape {grad.buffer.shape} that the step reads is gone"
                    )
                if now.array is not grad.buffer:
                    copy_to(grad.buffer, now.array)
        self.launch()
        self.set_grads(given)
        if self.call is not None:
            self.call(given)

    def launch(self) -> None:
        """Launch the graph, its numbers in their places."""
        self.numbers.put()
        self.graph.launch()

    def set_grads(self, given: list[Tensor]) -> None:
        """The gradients as they are after the part."""
        for grad in self.grads:
            tensor = grad.of(given)
            if grad.in_place:
                if tensor._grad.array is not grad.buffer:  # type: ignore[union-attr]
                    copy_to(tensor._grad.array, grad.buffer)  # type: ignore[union-attr]
            elif grad.new and grad.number is not None and grad.after is not None:
                tensor._grad = wrap(grad.array.copy())  # it is to outlive this call
            elif grad.new:
                tensor._grad = grad.after
                if grad.after is not None:
                    grad.after.array = grad.array
            elif grad.stands_in is not None and grad.number is None:
                tensor._grad = grad.stands_in  # the same values: nothing to copy in the next call


class Recorder(Warm):
    """Records a call, as one part or several."""

    def __init__(self, warm: Warm, given: list[Tensor], backend: Any, recording: Recording) -> None:
        super().__init__(warm.device, True)
        self.recorded, self.given, self.constants = warm.recorded, given, warm.constants
        self.backend, self.recording = backend, recording
        self.parts: list[Part] = []
        self.leaves_with_grads = list({id(t): t for t in (*warm.known(), *given)}.values())
        self.steps: list[RecordedStep] = []
        self.written: dict[int, Any] = {}  # id of an array that was changed -> weak reference
        self.kept: list[Array] = []
        self.grads: dict[int, Grad] = {}  # id of a tensor -> its gradient in this part
        self.stand_ins: dict[int, Grad] = {}  # id of a gradient's stand-in -> the same

    # ---- parts ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a part."""
        self.part = Part(self.backend)
        self.grads, self.stand_ins = {}, {}
        for tensor in self.leaves_with_grads:
            number = next((i for i, t in enumerate(self.given) if t is tensor), None)
            grad = self.grads[id(tensor)] = Grad(tensor, number)
            self.part.grads.append(grad)
            if grad.before is not None and not self.made(grad.before):
                grad.stands_in = tensor._grad = wrap(grad.before.array.copy(order="K"))
                self.stand_ins[id(grad.stands_in)] = grad
            grad.buffer = None if tensor._grad is None else tensor._grad.array
        self.recording.begin()

    def end(self) -> None:
        """End a part, and launch it."""
        self.part.graph = self.recording.end()
        self.parts.append(self.part)
        for grad in self.part.grads:
            grad.finish(lambda array: id(owner(array)) in self.written)
        self.part.launch()
        for grad in self.part.grads:
            if grad.in_place:
                copy_to(grad.before.array, grad.buffer)

    def put_back(self) -> None:
        """Give up: gradients as they were before the part."""
        self.recording.abort()
        for grad in self.grads.values():
            grad.tensor._grad = grad.before

    # ---- what the code does ---------------------------------------------------------------------

    def enter(self, tensor: Tensor) -> Array:
        """Note a tensor, and whether it is a gradient from before."""
        grad = self.stand_ins.get(id(tensor))
        if grad is not None and not grad.new:
            grad.read = True
        return super().enter(tensor)

    def keep(self, array: Array) -> None:
        """Keep what others might let go."""
        self.kept.append(array)

    def changed(self, function: Callable[[Array], None], array: Array) -> bool:
        """Note whose memory was changed in place."""
        self._wrote(array)
        return False

    def _wrote(self, array: Array) -> None:
        memory = owner(array)
        self.written[id(memory)] = weakref.ref(memory)

    def sends(self, values: Any, device: str) -> Array:
        """What the call before has sent, if it is the same; else refuse."""
        known = self.constants.get(_sent_key(values, device))
        if known is None:
            raise GraphError(SENDS)
        self.keep(known)
        return known

    def effect(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Record it, note it for each replay, or end the part with it."""
        if threading.get_ident() != self.thread:
            return function(*args)
        of: Any = getattr(function, "__self__", None)
        self.own(of)
        if getattr(function, "in_graph", False):
            for x in args:
                if isinstance(x, Tensor):
                    self.enter(x)
            self._gradients_of(function, args)
            return function(*args)
        if getattr(function, "on_host", False):
            self.part.host.append(self._again(function, args))
            self.part.names.append(_name(function))
            return function(*args)
        with self.aside():
            if is_step(function) and id(of) in self.recorded:
                return self._step(of)
        self.end()
        with self.aside(), self.recording.outside():
            result = function(*args)
        if result is not None:
            raise GraphError(f"{_name(function)} gives a result, which a graph cannot go on with")
        self.part.call, self.part.ended_by = self._again(function, args), _name(function)
        self.begin()
        return None

    def _gradients_of(self, function: Any, args: tuple[Any, ...]) -> None:
        """Note whose gradient is read or replaced."""
        if function is accumulate:
            self._read(args[0])
        elif function is set_grad:
            self._replaced(args[0])
        else:
            of: Any = getattr(function, "__self__", None)
            if isinstance(of, Optimizer):
                params = [p for group in of.param_groups for p in group["params"]]
            else:
                params = list(of.parameters()) if isinstance(of, Module) else []
            for param in params:
                self._replaced(param)

    def _read(self, tensor: Tensor) -> None:
        grad = self.grads.get(id(tensor))
        if grad is None:
            if tensor._grad is None or not self.made(tensor._grad):
                raise GraphError(
                    f"a tensor of shape {tensor.shape} gets a gradient that it did not get in the "
                    "call before"
                )
        elif not grad.new:
            grad.read = grad.new = True

    def _replaced(self, tensor: Tensor) -> None:
        grad = self.grads.get(id(tensor))
        if grad is not None and not grad.new:
            grad.new = True
            if not grad.read and grad.stands_in is not None:  # nobody wants its values
                del self.stand_ins[id(grad.stands_in)]
                grad.stands_in = grad.buffer = None

    def _step(self, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            for param in group["params"]:
                grad = self.grads.get(id(param))
                if grad is not None and not grad.new:
                    grad.read = True
        step = RecordedStep(optimizer, self.part.numbers.place)
        if not step.complete:
            raise GraphError(f"the step of {type(optimizer).__name__} is not what it was before")
        for array in (a for g in step.groups for a in (*g.arrays, *g.kept_arrays)):
            if not isinstance(array, np.ndarray):
                self._wrote(array)
        self.steps.append(step)
        self.part.host.append(lambda given: step.advance())
        self.part.names.append(f"{type(optimizer).__name__}.numbers")

    def _again(self, function: Any, args: tuple[Any, ...]) -> Callable[[list[Tensor]], Any]:
        """A call once more, with the arguments of that run."""
        numbers = [next((i for i, t in enumerate(self.given) if t is x), None) for x in args]
        if all(n is None for n in numbers):
            return lambda given: function(*args)
        pairs = [(x if n is None else None, n) for x, n in zip(args, numbers, strict=True)]
        return lambda given: function(*(x if n is None else given[n] for x, n in pairs))


class GraphReplay:
    """A step on a GPU: warmed up, recorded, replayed; and what has to hold for it to be replayed.

    Attributes:
        program: what watched the call before.
        parts: the graphs, once recorded.
    """

    def __init__(
        self, function: Callable[..., Any], key: Any, check: bool, place: tuple[Any, int]
    ) -> None:
        self.function, self.key, self.check = function, key, check
        self.checked = False
        self.backend, self.device = place
        self.program: Any = None
        self.parts: list[Part] = []
        self.broken: Callable[[], str | None] = lambda: None
        self._recording: Recording | None = None
        self._lock = threading.RLock()

    @property
    def source(self) -> str:
        """What a call does, a line for each graph and each call of the host."""
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        several = "s" * (len(self.parts) != 1)
        lines = [f"# {name}: {len(self.parts)} CUDA graph{several} on cuda:{self.device}"]
        for part in self.parts:
            lines += part.lines
        return "\n".join(lines) + "\n" if self.parts else ""

    # ---- calls ----------------------------------------------------------------------------------

    def first(self, args: Any, kwargs: Any, tensors: list[Tensor]) -> tuple[Any, str | None]:
        """Run the function as it is; what it returned, and why it cannot be recorded."""
        return self._warm_up(args, kwargs, tensors, None)

    def again(self, args: Any, kwargs: Any, tensors: list[Tensor]) -> tuple[Any, str | None]:
        """The call after: warmed up once more, recorded, checked or replayed."""
        with self._lock:  # one thread at a time: the memory is the same
            if self.parts:
                if self.check and not self.checked:
                    returned, differs = self.compare(args, kwargs, tensors)
                    return returned, differs and f"a replayed call differs: {differs}"
                return self.run(tensors), None
            if self._recording is None:
                recording = Recording(self.backend.lane(self.device))
                found = self._warm_up(args, kwargs, tensors, recording.pool)
                self._recording = recording
                return found
            return self._record(args, kwargs, tensors)

    def _warm_up(
        self, args: Any, kwargs: Any, tensors: list[Tensor], pool: Any
    ) -> tuple[Any, str | None]:
        program = Warm(self.device, last=pool is not None)
        watched = list(of_function(self.function, set()))
        program.given = tensors
        with capture.lock, self.backend.lane(self.device).use(pool), program:
            for tensor in tensors:
                if isinstance(tensor.array, np.ndarray):
                    program.give_up("an argument is on the CPU; move it to the GPU before the call")
                program.enter(tensor)
            returned = self.function(*args, **kwargs)
            template(returned, program, [])
        if any(t._op is not None for t in tensors):
            program.give_up("an argument has a graph of its own; detach it")
        self.broken = broken([*watched, *self._guards(program)])
        self.program, program.given = program, []
        program.tensors, program.swept = {}, set()
        return returned, program.broken

    def _guards(self, program: Warm) -> Iterator[Guard]:
        leaves = {i: (t, a) for i, (r, a) in program.leaves.items() if (t := r()) is not None}
        for module in program.called():
            yield from of_module(module)
            for part in ("_parameters", "_buffers"):
                for tensor in module.__dict__[part].values():
                    if tensor is not None:
                        leaves.setdefault(id(tensor), (tensor, tensor.array))
        for tensor, array in leaves.values():
            yield from of_leaf(tensor, array)
        yield "HOLDER.precision == VALUE", cuda, cuda.precision, "the precision of products"
        kernels = getattr(self.backend, "kernels", None)
        yield "HOLDER.kernels == VALUE", self.backend, kernels, "the use of kernels"

    # ---- recording ------------------------------------------------------------------------------

    def _record(self, args: Any, kwargs: Any, tensors: list[Tensor]) -> tuple[Any, str | None]:
        """Record a call and launch it. Where that fails everything is put back as it was, and the
        function run as it is.
        """
        before = Snapshot([*self.program.roots(), tensors])
        try:
            return self._recorded(args, kwargs, tensors), None
        except Exception as error:
            message = str(error).strip().split("\n")[0]
            why = f"a CUDA graph cannot hold it ({type(error).__name__}: {message.rstrip('.')})"
        before.restore()
        self.parts, self._recording = [], None
        return self.function(*args, **kwargs), why

    def _recorded(self, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        recording: Any = self._recording
        lane, watched = recording.lane, list(of_function(self.function, set()))
        own = [t.array for t in tensors]
        gc.collect()
        collects = gc.isenabled()
        gc.disable()  # what it frees, streams and memory, is not to be freed while capturing
        program = Recorder(self.program, tensors, self.backend, recording)
        try:
            with capture.lock, lane.use(recording.pool):  # no other thread uses the lane
                buffers = [a.copy(order="K") for a in own]
                for tensor, buffer in zip(tensors, buffers, strict=True):
                    tensor.array = buffer
                try:
                    with program:
                        program.begin()
                        returned = self.function(*args, **kwargs)
                        results: list[Array] = []
                        form = template(returned, program, results)
                        program.end()
                except BaseException:
                    program.put_back()
                    raise
                finally:
                    for tensor, array in zip(tensors, own, strict=True):
                        tensor.array = array
                if program.broken is not None:
                    raise GraphError(program.broken)
        finally:
            if collects:
                gc.enable()
        self._keep(program, form, results, buffers, watched)
        with self._here():
            for tensor, buffer in self._written(tensors):
                copy_to(tensor.array, buffer)
            for part in self.parts:
                for grad in part.grads:
                    if grad.number is not None and grad.new and grad.after is not None:
                        grad.of(tensors)._grad = wrap(grad.array.copy())
            return filled(form, [a.copy() for a in results], tensors)

    def _keep(
        self, program: Recorder, form: Any, results: list[Array], buffers: list[Array], watched: Any
    ) -> None:
        """What replays need."""
        self.parts, self.form, self.results, self.buffers = program.parts, form, results, buffers
        guards: list[Guard] = [*watched, *self._guards(program)]
        for step in program.steps:
            what = f"the settings or the state of {type(step.optimizer).__name__}"
            guards.append(("HOLDER.holds()", step, None, what))
        for grad in self.parts[0].grads:
            wanted = grad.tensor._requires_grad or grad.before is not None
            if grad.number is None and wanted and (grad.read or not grad.new):
                what = f"whether a tensor of shape {grad.tensor.shape} has a gradient"
                none = grad.before is None
                guards.append(("(HOLDER._grad is None) is VALUE", grad.tensor, none, what))
        for part in self.parts:  # those that a replay does not touch need no place in it
            part.grads = [g for g in part.grads if g.new or g.read]
            for grad in part.grads:
                grad.before = None
                if not grad.read:
                    grad.stands_in = None
                if grad.number is not None:
                    grad.tensor = None  # type: ignore[assignment]
        self.broken = broken(guards)
        written = {i for i, r in program.written.items() if r() is not None}
        self._changes = [i for i, b in enumerate(buffers) if id(owner(b)) in written]
        arrays = [a for _, a in program.leaves.values() if id(owner(a)) in written]
        grads = [g.array for p in self.parts for g in p.grads if g.after is not None]
        self._mark = marker([*arrays, *grads])
        self._kept, program.given = program.kept, []
        self.state = program.roots()
        self.program = None  # it knows the arguments of the recording

    def _here(self) -> Any:
        """``with self._here():`` the GPU of the graphs is the current one."""
        return self.backend.on(f"cuda:{self.device}") if self.backend.several else nullcontext()

    def _written(self, tensors: list[Tensor]) -> list[tuple[Tensor, Array]]:
        """The arguments that a call changes in place, and their buffers."""
        return [(tensors[i], self.buffers[i]) for i in self._changes]

    # ---- replaying ------------------------------------------------------------------------------

    def run(self, tensors: list[Tensor]) -> Any:
        """Launch what was recorded, on the current stream."""
        with self._here():
            self.backend.lane(self.device).follow()
            for buffer, tensor in zip(self.buffers, tensors, strict=True):
                copy_to(buffer, tensor.array)
            for part in self.parts:
                part.run(tensors)
            self._mark()
            for tensor, buffer in self._written(tensors):
                copy_to(tensor.array, buffer)
            return filled(self.form, [a.copy() for a in self.results], tensors)

    def compare(self, args: Any, kwargs: Any, tensors: list[Tensor]) -> tuple[Any, str | None]:
        """Run the function and the graphs from the same state; what the function returned, and how
        the graphs differ.
        """
        self.checked = True
        roots = [*self.state, tensors]
        return both_ways(lambda: self.function(*args, **kwargs), lambda: self.run(tensors), roots)


def copy_to(there: Array, array: Array) -> None:
    """The values of an array, into memory of the same GPU."""
    backends[type(there)].module.copyto(there, array)


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", type(function).__name__)
