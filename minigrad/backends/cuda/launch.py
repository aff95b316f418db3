"""Launching CUDA kernels: their parameters read from the source, every call held against them.

CuPy passes the arguments of a raw kernel on as they come: a float64 array where float32 is meant, a
Python int for a 32-bit one, or a transposed view give numbers without meaning, or none. So a call
goes through ``Launcher``, which knows from the source what a kernel takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import numpy as np

from minigrad.errors import DeviceError

Array = Any

#: T and A, the type of the arrays and that of sums and parameters, for each dtype of arrays.
TYPES = {"e": ("half16", "float"), "f": ("float", "float"), "d": ("double", "double")}

_DTYPES: dict[str, np.dtype[Any]] = {
    "half16": np.dtype("float16"),
    "float": np.dtype("float32"),
    "double": np.dtype("float64"),
    "int": np.dtype("int32"),
    "i64": np.dtype("int64"),
    "u8": np.dtype("uint8"),
    "u32": np.dtype("uint32"),
    "u64": np.dtype("uint64"),
}


# ---- how many threads ---------------------------------------------------------------------------


class Grid(NamedTuple):
    """How a kernel is launched: blocks, and threads of a block."""

    blocks: tuple[int, int, int]
    threads: tuple[int, int, int]


#: Threads of a block, and blocks of a grid, over elements: enough to fill every GPU there is (an
#: H200 holds 1056 blocks of 256 threads at once), and few enough that each has work.
THREADS, BLOCKS = 256, 4096
#: Threads of any block: with 128 registers each they fit, and no kernel needs more.
MOST_THREADS = 512
#: Threads of a block that takes channels (prelude.cuh), and how many blocks are worth while.
CHANNEL_THREADS, CHANNEL_BLOCKS = 512, 1024
#: Values a block takes of a channel before others help.
CHANNEL_PART = 8192


def elements(n: int) -> Grid:
    """A thread for each of ``n`` elements, up to a number from which they stride."""
    return Grid((min(-(-n // THREADS), BLOCKS), 1, 1), (THREADS, 1, 1))


def rows(count: int, width: int) -> Grid:
    """A warp for each row up to 1024 wide, eight to a block; a block for each wider one."""
    if width <= 1024:
        return Grid((-(-count // 8), 1, 1), (32, 8, 1))
    return Grid((count, 1, 1), (min(MOST_THREADS, power_of_two(-(-width // 8))), 1, 1))


def one_block(count: int) -> Grid:
    """One block for ``count`` values: a warp, or as many threads as go."""
    return Grid((1, 1, 1), (MOST_THREADS if count > MOST_THREADS else 32, 1, 1))


class Channels(NamedTuple):
    """How the channels of (N, C, S) are shared out: see prelude.cuh."""

    grid: Grid
    part: int  #: values of a channel a block takes
    parts: int  #: blocks a channel


def channels(n: int, c: int, s: int) -> Channels:
    """Blocks of one channel where S is long, of 32 channels where it is not."""
    count = n * s
    wide = 1 if s >= 8 or c == 1 else min(32, power_of_two(c))
    walkers = min(CHANNEL_THREADS // wide, power_of_two(max(count, 1)))
    blocks = -(-c // wide)
    most = min(-(-count * wide // CHANNEL_PART), CHANNEL_BLOCKS // max(blocks, 1), walkers)
    part = max(-(-count // max(most, 1)), 1)
    parts = max(-(-count // part), 1)
    return Channels(Grid((blocks, parts, 1), (wide, walkers, 1)), part, parts)


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least ``n``."""
    return 1 << max(n - 1, 0).bit_length()


# ---- what a kernel takes ------------------------------------------------------------------------


class Parameter(NamedTuple):
    """One parameter of a kernel, as its source has it."""

    name: str
    type: str  #: ``"T"``, ``"A"``, ``"int"``, ...
    pointer: bool
    const: bool
    optional: bool
    size: CodeType | None  #: how many values stand behind a pointer, in terms of the scalars
    words: str  #: the same as it is written


class Kernel(NamedTuple):
    """A kernel of a file."""

    name: str
    parameters: tuple[Parameter, ...]


#: Where the kernels' sources are.
FOLDER = Path(__file__).parent / "kernels"
#: The kernel files, without their suffix.
FILES = ("elementwise", "im2col", "norm", "optim", "pool", "softmax")


@cache
def text(name: str) -> str:
    """The text of a kernel file."""
    return (FOLDER / name).read_text(encoding="utf-8")


def source(file: str, dtype: str) -> str:
    """What is compiled for arrays of a dtype, by its character: ``"e"``, ``"f"`` or ``"d"``."""
    value, wide = TYPES[dtype]
    types = f"typedef {value} T;\ntypedef {wide} A;\n"
    return f'{text("prelude.cuh")}\n{types}\n#line 1 "{file}.cu"\n{text(file + ".cu")}'


@cache
def signatures(file: str) -> dict[str, Kernel]:
    """The kernels of a file by name, read from its source."""
    heads = re.findall(r'extern "C" __global__ void (\w+)\((.*?)\)\s*\{', text(file + ".cu"), re.S)
    return {name: Kernel(name, tuple(_parameters(name, head))) for name, head in heads}


_PARAMETER = re.compile(r"(OPTIONAL )?(const )?(\w+)(\*)?(?: __restrict__)? (\w+)")


def _parameters(kernel: str, head: str) -> list[Parameter]:
    found = []
    for line in head.splitlines():
        code, _, comment = line.partition("//")
        size = re.search(r"\[(.*)\]", comment)
        for declared in filter(None, map(str.strip, code.split(","))):
            match = _PARAMETER.fullmatch(declared)
            if match is None or bool(match[4]) != bool(size):
                raise SyntaxError(
                    f"{kernel}: cannot read the parameter {declared!r}; a pointer is written "
                    "'const T* __restrict__ x,  // [size]', a scalar 'int n'."
                )
            optional, const, kind, pointer, name = match.groups()
            words = size[1] if size else ""
            code_of_size = compile(words, f"size of {name}", "eval") if size else None
            found.append(
                Parameter(
                    name, kind, bool(pointer), bool(const), bool(optional), code_of_size, words
                )
            )
    return found


def dtype_of(parameter: Parameter, dtype: str) -> np.dtype[Any]:
    """NumPy's dtype for what a parameter takes, for arrays of ``dtype``."""
    value, wide = TYPES[dtype]
    named = {"T": value, "A": wide}
    return _DTYPES[named.get(parameter.type, parameter.type)]


# ---- the call -----------------------------------------------------------------------------------

_NULL = np.uint64(0)


class Launcher:
    """Compiles kernels on their first call, once a dtype and device, and launches them.

    Args:
        cupy: the module, or what has its ``RawModule``.

    Example:
        >>> launch = Launcher(cupy)  # doctest: +SKIP
        >>> launch("elementwise.relu", elements(n), "f", x=x, y=y, n=n)  # doctest: +SKIP
    """

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy
        self.modules: dict[tuple[str, str, int], Any] = {}
        self.functions: dict[tuple[str, str, int], Callable[..., None]] = {}

    def __call__(self, name: str, grid: Grid, dtype: str, **arguments: Any) -> None:
        """Launch ``"file.kernel"`` on CuPy's current stream.

        ``dtype`` is the character of the arrays' dtype; arguments are given by name. A kernel
        without blocks, because there is nothing to do, is not launched.

        Raises:
            TypeError: an unknown or missing argument, an array of another dtype.
            ValueError: an array that is not contiguous or of another size, a number that does not
                fit.
            DeviceError: arrays of two devices.
        """
        file, _, kernel = name.partition(".")
        values, device = checked(signatures(file)[kernel], dtype, arguments)
        if 0 in grid.blocks:
            return
        key = name, dtype, device
        function = self.functions.get(key)
        if function is None:
            function = self.functions[key] = self.module(file, dtype, device).get_function(kernel)
        function(grid.blocks, grid.threads, values)

    def module(self, file: str, dtype: str, device: int) -> Any:
        """The compiled file for a dtype on a device."""
        key = file, dtype, device
        if key not in self.modules:
            self.modules[key] = self.cupy.RawModule(
                code=source(file, dtype), options=("-std=c++17",)
            )
        return self.modules[key]


def checked(kernel: Kernel, dtype: str, arguments: dict[str, Any]) -> tuple[tuple[Any, ...], int]:
    """The arguments in order, as the kernel takes them; and the device on which the arrays are."""
    scalars: dict[str, Any] = {}
    for p in kernel.parameters:
        if p.name not in arguments:
            raise TypeError(f"{kernel.name} needs the argument {p.name}.")
        if not p.pointer:
            scalars[p.name] = _scalar(kernel, p, arguments[p.name], dtype_of(p, dtype))
    if len(arguments) > len(kernel.parameters):
        unknown = set(arguments) - {p.name for p in kernel.parameters}
        raise TypeError(f"{kernel.name} has no argument {', '.join(sorted(unknown))}.")
    values: list[Any] = []
    device: int | None = None
    for p in kernel.parameters:
        value = arguments[p.name]
        if not p.pointer:
            values.append(scalars[p.name])
        elif value is None and p.optional:
            values.append(_NULL)
        else:
            _check_array(kernel, p, value, dtype_of(p, dtype), arguments)
            place = getattr(getattr(value, "device", None), "id", 0)
            if device not in (None, place):
                raise DeviceError(
                    f"{kernel.name} got arrays on cuda:{device} and cuda:{place} ({p.name}); "
                    "move one with .to()."
                )
            device = place
            values.append(value)
    return tuple(values), device or 0


def _scalar(kernel: Kernel, p: Parameter, value: Any, wanted: np.dtype[Any]) -> Any:
    if wanted.kind in "iu":
        limits = np.iinfo(wanted)
        if isinstance(value, float) or not limits.min <= value <= limits.max:
            raise ValueError(
                f"{kernel.name}: {p.name} must be a whole number of {wanted.name}, got {value}."
            )
    return wanted.type(value)


def _check_array(
    kernel: Kernel, p: Parameter, value: Any, wanted: np.dtype[Any], arguments: dict[str, Any]
) -> None:
    given = getattr(value, "dtype", None)
    if given != wanted or not hasattr(value, "flags"):
        raise TypeError(
            f"{kernel.name}: {p.name} must be an array of {wanted.name}, got "
            f"{type(value).__name__ if given is None else given}."
        )
    if not value.flags.c_contiguous:
        raise ValueError(
            f"{kernel.name}: {p.name} must be contiguous, got strides {value.strides} for shape "
            f"{value.shape}; make a copy with ascontiguousarray."
        )
    size = eval(p.size, {"__builtins__": {}}, arguments) if p.size else 0
    if value.size != size:
        raise ValueError(
            f"{kernel.name}: {p.name} must have {p.words} = {size} values, got {value.shape}."
        )
