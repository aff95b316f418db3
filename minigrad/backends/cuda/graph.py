"""CUDA graphs: what a step launches, recorded once, and launched again as a whole.

A stream that captures notes kernels and copies instead of running them. What was noted is a graph:
the same kernels, on the same memory, with the same arguments, whenever it is launched. So the
memory has to stay where it is, and what changes from launch to launch has to lie in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from minigrad.backends.cuda.launch import Grid, Launcher
from minigrad.errors import GraphError

Array = Any

#: How a stream captures (cudaStreamCaptureMode). Relaxed, as CuPy's default: a pool that has to
#: grow may. Thread-local, which the tests use, refuses it and every other hidden allocation.
THREAD_LOCAL, RELAXED = 1, 2
mode = RELAXED

#: Numbers that one launch of ``put_numbers`` takes.
CHUNK = 8
#: So often there is room for as many, in a recorded part of a step.
CHUNKS = 128
#: Bytes to spare in the memory of a recording, beside what the call before took.
SPARE = 1 << 20


class Lane:
    """The stream of a GPU on which steps are warmed up and recorded; the default one cannot.

    Handles and workspaces (cuBLAS, cuDNN) belong to a stream, so recorded steps share those of this
    one. Graphs are launched on the current stream, one after another.
    """

    def __init__(self, cupy: Any, device: int) -> None:
        self.cupy, self.device = cupy, device
        with cupy.cuda.Device(device):
            self.stream = cupy.cuda.Stream(non_blocking=True)
        self._last: Any = None  # the stream of the last launch

    @contextmanager
    def use(self, pool: Any = None) -> Iterator[None]:
        """This stream is the current one, after all that the one before has to do, and before all
        that it is given later. Arrays are made in ``pool``, where one is given.
        """
        cuda = self.cupy.cuda
        with cuda.Device(self.device):
            self.follow()
            before = cuda.get_current_stream()
            self.stream.wait_event(before.record())
            try:
                with self.stream:
                    if pool is None:
                        yield
                    else:
                        with cuda.using_allocator(pool.malloc):
                            yield
            finally:
                before.wait_event(self.stream.record())

    def follow(self) -> None:
        """The current stream goes on after the graphs that were launched on another one."""
        stream = self.cupy.cuda.get_current_stream()
        if self._last is not None and self._last != stream:
            stream.wait_event(self._last.record())
        self._last = stream


class Recording:
    """What one call launches, as graphs, and the memory of all arrays that it makes."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.pool = lane.cupy.cuda.MemoryPool()
        self._outside = lane.cupy.cuda.get_allocator()
        self.capturing = False

    def _reserve(self) -> None:
        """Let the memory be enough for a call like the one that was run in it before: what is still
        in use of that one is needed once more.
        """
        spare = self.pool.malloc(self.pool.used_bytes() + SPARE)
        del spare

    def outside(self) -> Any:
        """``with recording.outside():`` arrays are made where they are without a recording. What
        stays must not lie in the memory of the graph, which it writes at every launch.
        """
        return self.lane.cupy.cuda.using_allocator(self._outside)

    def begin(self) -> None:
        """From now on kernels are noted, not run."""
        if mode != RELAXED:
            self._reserve()
        self.lane.stream.begin_capture(mode)
        self.capturing = True

    def end(self) -> Any:
        """The graph of what was noted."""
        self.capturing = False
        return self.lane.stream.end_capture()

    def abort(self) -> None:
        """Forget what was noted, so that the stream can be used."""
        if self.capturing:
            with suppress(Exception):  # a spoilt capture ends with an error
                self.end()


class Numbers:
    """Numbers that change from launch to launch, in the memory that a graph's kernels read.

    They are the arguments of a kernel that puts them there: arguments are copied when a kernel is
    launched, so nothing of the host has to wait for the GPU to have read them.

    To be made before the recording begins: memory that is given out while capturing may have been
    that of another array before, which the graph writes at every launch.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.memory = backend.empty((CHUNK * CHUNKS,), dtype="float64")
        self.chunks: list[Chunk] = []

    def place(self, count: int, dtype: str) -> Place:
        """Room for ``count`` numbers."""
        for chunk in self.chunks:
            if chunk.dtype == dtype and chunk.used + count <= CHUNK:
                break
        else:
            if len(self.chunks) == CHUNKS:
                raise GraphError("the optimizers have too many groups for one recorded step")
            start = CHUNK * len(self.chunks)
            array = self.memory[start : start + CHUNK]
            chunk = Chunk(array.view(dtype)[:CHUNK], dtype)
            self.chunks.append(chunk)
        chunk.used += count
        return Place(chunk, chunk.used - count, count)

    def put(self) -> None:
        """Bring those that have changed to the GPU, in order with its other work."""
        for chunk in self.chunks:
            if chunk.values != chunk.there:
                chunk.put(self.backend.launch)
                chunk.there = [*chunk.values]


class Chunk:
    """A few numbers: their place on the GPU, their values, and those that are there."""

    def __init__(self, array: Array, dtype: str) -> None:
        self.array, self.dtype, self.used = array, dtype, 0
        self.values: list[float] = [0.0] * CHUNK
        self.there: list[float] | None = None
        self._function: Any = None

    def put(self, launch: Launcher) -> None:
        """Launch what puts the values there; its arguments are checked at the first time."""
        one = (1, 1, 1)
        if self._function is None:
            values = {f"n{i}": value for i, value in enumerate(self.values)}
            kind, device = self.array.dtype.char, self.array.device.id if launch.several else 0
            launch("optim.put_numbers", Grid(one, one), kind, at=self.array, count=CHUNK, **values)
            self._function = launch.function("optim.put_numbers", kind, device)
            return
        number, count = self.array.dtype.type, np.int32(CHUNK)
        self._function(one, one, (self.array, count, *map(number, self.values)))


class Place:
    """Room for some numbers of a chunk; ``array`` is where a kernel reads them."""

    def __init__(self, chunk: Chunk, start: int, count: int) -> None:
        self.chunk, self.start, self.stop = chunk, start, start + count
        self.array = chunk.array[start : self.stop]

    def set(self, values: tuple[float, ...]) -> None:
        """The values of the next launches."""
        self.chunk.values[self.start : self.stop] = values


#: Given (values, dtype) while an optimizer's step is recorded: where the kernel is to read them, or
#: None, where it is given the values themselves.
Placing = Callable[[tuple[float, ...], str], Array]
