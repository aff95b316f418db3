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
    size: str  #: how many values stand behind a pointer, in terms of the scalars


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
            flags = bool(pointer), bool(const), bool(optional)
            found.append(Parameter(name, kind, *flags, size[1] if size else ""))
    return found


def dtype_of(parameter: Parameter, dtype: str) -> np.dtype[Any]:
    """NumPy's dtype for what a parameter takes, for arrays of ``dtype``."""
    value, wide = TYPES[dtype]
    named = {"T": value, "A": wide}
    return _DTYPES[named.get(parameter.type, parameter.type)]


# ---- the call -----------------------------------------------------------------------------------

_NULL = np.uint64(0)


class Arguments:
    """The arguments of a kernel: in order, in their types, and right, for arrays of one dtype.

    What can be known before the first call is worked out once: a launch is to cost little.
    """

    def __init__(self, kernel: Kernel, dtype: str) -> None:
        self.kernel = kernel
        self.names = frozenset(p.name for p in kernel.parameters)
        self.scalars: list[tuple[int, str, Any, Any]] = []
        self.arrays: list[tuple[int, str, Any, bool, str]] = []
        for place, p in enumerate(kernel.parameters):
            wanted = dtype_of(p, dtype)
            if p.pointer:
                self.arrays.append((place, p.name, wanted, p.optional, p.size))
            else:
                limits = np.iinfo(wanted) if wanted.kind in "iu" else None
                self.scalars.append((place, p.name, wanted.type, limits))
        names = ", ".join(name for _, name, _, _ in self.scalars)
        sizes = "".join(f"{size}, " for *_, size in self.arrays)
        self.sizes: Callable[..., tuple[int, ...]] = eval(f"lambda {names}: ({sizes})")

    def __call__(self, arguments: dict[str, Any]) -> list[Any]:
        """The values to launch with, from arguments by name."""
        if arguments.keys() != self.names:
            for name in sorted(self.names - arguments.keys()):
                raise TypeError(f"{self.kernel.name} needs the argument {name}.")
            unknown = ", ".join(sorted(arguments.keys() - self.names))
            raise TypeError(f"{self.kernel.name} has no argument {unknown}.")
        values: list[Any] = [_NULL] * len(self.names)
        numbers = []
        for place, name, kind, limits in self.scalars:
            value = arguments[name]
            if limits and (type(value) is float or not limits.min <= value <= limits.max):
                raise ValueError(
                    f"{self.kernel.name}: {name} must be a whole number of {kind.__name__}, got "
                    f"{value}."
                )
            values[place] = kind(value)
            numbers.append(value)
        sizes = self.sizes(*numbers)
        for (place, name, dtype, optional, _), size in zip(self.arrays, sizes, strict=True):
            x = arguments[name]
            if x is None and optional:
                continue
            if getattr(x, "dtype", None) != dtype or x.size != size or not x.flags.c_contiguous:
                self._refuse(place, x, dtype, size)
            values[place] = x
        return values

    def _refuse(self, place: int, x: Any, dtype: Any, size: int) -> None:
        p = self.kernel.parameters[place]
        given = getattr(x, "dtype", type(x).__name__)
        if given != dtype:
            raise TypeError(
                f"{self.kernel.name}: {p.name} must be an array of {dtype}, got {given}."
            )
        if x.size != size:
            raise ValueError(
                f"{self.kernel.name}: {p.name} must have {p.size} = {size} values, got {x.shape}."
            )
        raise ValueError(
            f"{self.kernel.name}: {p.name} must be contiguous, got strides {x.strides} for shape "
            f"{x.shape}; make a copy with ascontiguousarray."
        )


class Launcher:
    """Compiles kernels on their first call, once a dtype and device, and launches them.

    Args:
        cupy: the module, or what has its ``RawModule``.
        several: there are several devices, and arrays of a call must be on one.

    Example:
        >>> launch = Launcher(cupy)  # doctest: +SKIP
        >>> launch("norm.rms_norm", rows(n, width), "f", x=x, y=y, ...)  # doctest: +SKIP
    """

    def __init__(self, cupy: Any, several: bool = False) -> None:
        self.cupy, self.several = cupy, several
        self.modules: dict[tuple[str, str, int], Any] = {}
        self.functions: dict[tuple[str, str, int], Callable[..., None]] = {}
        self.arguments: dict[tuple[str, str], Arguments] = {}

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
        known = self.arguments.get((name, dtype))
        if known is None:
            file, _, kernel = name.partition(".")
            known = self.arguments[name, dtype] = Arguments(signatures(file)[kernel], dtype)
        values = known(arguments)
        if 0 in grid.blocks:
            return
        device = one_device(known.kernel, values) if self.several else 0
        self.function(name, dtype, device)(grid.blocks, grid.threads, tuple(values))

    def function(self, name: str, dtype: str, device: int) -> Callable[..., None]:
        """A compiled kernel, whose arguments nobody checks."""
        found = self.functions.get((name, dtype, device))
        if found is None:
            file, _, kernel = name.partition(".")
            found = self.module(file, dtype, device).get_function(kernel)
            self.functions[name, dtype, device] = found
        return found

    def module(self, file: str, dtype: str, device: int) -> Any:
        """The compiled file for a dtype on a device."""
        key = file, dtype, device
        if key not in self.modules:
            code = source(file, dtype)
            self.modules[key] = self.cupy.RawModule(code=code, options=("-std=c++17",))
        return self.modules[key]


def one_device(kernel: Kernel, values: list[Any]) -> int:
    """The device on which all arrays of a call are."""
    found: int | None = None
    for p, value in zip(kernel.parameters, values, strict=True):
        if p.pointer and value is not _NULL:
            place: int = value.device.id
            if found not in (None, place):
                raise DeviceError(
                    f"{kernel.name} got arrays on cuda:{found} and cuda:{place} ({p.name}); move "
                    "one with .to()."
                )
            found = place
    return found or 0
