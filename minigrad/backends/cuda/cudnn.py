"""Convolutions by cuDNN, through its front end (the package nvidia-cudnn-frontend), where both are.

A plan, which kernel computes a convolution of given sizes, is made once; from then on a convolution
is one call. Arrays are handed over as addresses: by DLPack the front end would wait for another
stream, which a capture does not survive.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from minigrad.backends.reference.windows import Pads, Pair

Array = Any
Shape = tuple[int, ...]

#: What a convolution of NCHW arrays is called, and what it reads and writes: x, weight and y.
KINDS = {
    "fprop": ("x", "weight", "y"),
    "dgrad": ("y", "weight", "x"),
    "wgrad": ("x", "y", "weight"),
}


class Sizes(NamedTuple):
    """All that decides a plan."""

    x: Shape
    weight: Shape
    y: Shape
    stride: Pair
    padding: Pads
    dilation: Pair
    dtype: str
    tf32: bool


class Plan(NamedTuple):
    """A graph of one convolution that is ready to run."""

    graph: Any
    first: Any
    second: Any
    result: Any
    workspace: int


def contiguous(shape: Shape) -> list[int]:
    """The strides of a contiguous array, in elements."""
    strides = [1]
    for n in shape[:0:-1]:
        strides.insert(0, strides[0] * n)
    return strides


def plan(cudnn: Any, kind: str, sizes: Sizes, **device: Any) -> Plan:
    """The plan that cuDNN thinks fastest.

    Args:
        cudnn: the front end.
        kind: ``"fprop"``, ``"dgrad"`` or ``"wgrad"``.
        device: ``handle=``, or ``device_property=, sm_version=, sm_count=`` for a GPU elsewhere.
    Raises:
        RuntimeError: cuDNN has no kernel for this.
    """
    types = cudnn.data_type
    dtype = {"float16": types.HALF, "float32": types.FLOAT, "float64": types.DOUBLE}[sizes.dtype]
    wide = types.DOUBLE if sizes.dtype == "float64" else types.FLOAT
    graph = cudnn.pygraph(
        io_data_type=dtype, intermediate_data_type=wide, compute_data_type=wide, **device
    )
    reads, writes = KINDS[kind][:2], KINDS[kind][2]
    first, second = (
        graph.tensor(
            name=name,
            dim=list(getattr(sizes, name)),
            stride=contiguous(getattr(sizes, name)),
            data_type=dtype,
        )
        for name in reads
    )
    (top, bottom), (left, right) = sizes.padding
    result = getattr(graph, f"conv_{kind}")(
        first,
        second,
        pre_padding=[top, left],
        post_padding=[bottom, right],
        stride=list(sizes.stride),
        dilation=list(sizes.dilation),
    )
    shape = getattr(sizes, writes)  # a gradient's cannot be inferred
    result.set_output(True).set_dim(list(shape)).set_stride(contiguous(shape)).set_data_type(dtype)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    if sizes.dtype == "float32" and not sizes.tf32:
        # a float32 kernel on tensor cores rounds the factors to TF32
        graph.deselect_numeric_notes([cudnn.numerical_note.TENSOR_CORE])
    # by atomic additions a gradient would be another one in every run
    graph.deselect_numeric_notes([cudnn.numerical_note.NONDETERMINISTIC])
    graph.check_support()
    graph.build_plans()
    return Plan(graph, first, second, result, graph.get_workspace_size())


class Cudnn:
    """Convolutions of arrays that lie on a GPU.

    Args:
        cupy: the module: its current device and stream, and its memory.
        frontend: the front end; by default what ``find`` finds at the first convolution.
        pointer: where an array begins.

    Attributes:
        tf32: let float32 convolutions round their factors to 10 bits of mantissa (tensor cores),
            False by default.
    """

    def __init__(
        self,
        cupy: Any,
        frontend: Any = None,
        pointer: Callable[[Array], int] = lambda x: int(x.data.ptr),
    ) -> None:
        self.cupy, self.given, self.pointer = cupy, frontend, pointer
        self.tf32 = False
        self.handles: dict[tuple[int, int], Any] = {}
        self.plans: dict[tuple[int, int, str, Sizes], Plan | None] = {}

    @cached_property
    def frontend(self) -> Any:
        """The front end, or None."""
        return self.given or find()

    def run(
        self,
        kind: str,
        first: Array,
        second: Array,
        result: Array,
        stride: Pair,
        padding: Pads,
        dilation: Pair,
    ) -> bool:
        """Compute ``result``; False where there is no cuDNN, or it has no kernel for this.

        ``first`` and ``second`` are x and weight for ``"fprop"``, dy and weight for ``"dgrad"``, x
        and dy for ``"wgrad"``: contiguous, of one dtype.
        """
        if self.frontend is None:
            return False
        shapes = dict(
            zip(KINDS[kind], (tuple(a.shape) for a in (first, second, result)), strict=True)
        )
        sizes = Sizes(
            **shapes,
            stride=stride,
            padding=padding,
            dilation=dilation,
            dtype=result.dtype.name,
            tf32=self.tf32,
        )
        place = (
            int(self.cupy.cuda.runtime.getDevice()),
            int(self.cupy.cuda.get_current_stream().ptr),
        )
        key = (*place, kind, sizes)
        if key not in self.plans:
            try:
                self.plans[key] = plan(self.frontend, kind, sizes, handle=self.handle(place))
            except RuntimeError:  # cudnnGraphNotSupportedError is one
                self.plans[key] = None
        found = self.plans[key]
        if found is None:
            return False
        workspace = self.cupy.empty(max(found.workspace, 1), dtype="uint8")
        arrays = {found.first: first, found.second: second, found.result: result}
        found.graph.execute(
            {tensor: self.pointer(array) for tensor, array in arrays.items()},
            self.pointer(workspace),
            handle=self.handle(place),
        )
        return True

    def handle(self, place: tuple[int, int]) -> Any:
        """The handle of a device and stream."""
        if place not in self.handles:
            handle = self.handles[place] = self.frontend.create_handle()
            self.frontend.set_stream(handle=handle, stream=place[1])
        return self.handles[place]


@cache
def find() -> Any:
    """The front end, or None where it, or cuDNN, is not installed."""
    if not find_spec("cudnn"):
        return None
    try:
        frontend: Any = import_module("cudnn")
        frontend.backend_version()
    except (ImportError, OSError, RuntimeError):
        return None
    return frontend
