"""CUDA kernels executed on the CPU: what ``cupy.RawModule`` is to the launcher, for NumPy arrays.

Every array a kernel gets is a copy between two zones. What a kernel reads beyond the ends, NaN,
spoils its results; what it writes there is found.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from minigrad.backends.cuda import launch

HERE = Path(__file__).parent
COMPILER = shutil.which("g++")


class KernelFaultError(AssertionError):
    """A kernel did what it must not do."""


#: -ffp-contract=off: a * b + c is rounded twice, as the reference does it.
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-ffp-contract=off", "-w")


@cache
def _folder() -> tempfile.TemporaryDirectory:
    """Where this session compiles; the header comes first, once for all files."""
    folder = tempfile.TemporaryDirectory(prefix="kernels")
    header = Path(shutil.copy(HERE / "cuda_on_cpu.h", folder.name))
    subprocess.run(
        [COMPILER, *FLAGS, "-x", "c++-header", header, "-o", f"{header}.gch"], check=True
    )
    return folder


def glue(file: str) -> str:
    """For each kernel, a C function that takes its arguments as an array of pointers."""
    code = []
    for kernel in launch.signatures(file).values():
        arguments = ", ".join(
            f"*({'const ' if p.const else ''}{p.type}{'*' if p.pointer else ''}*)a[{i}]"
            for i, p in enumerate(kernel.parameters)
        )
        call = f"[](void** a) {{ {kernel.name}({arguments}); }}"
        code.append(
            f'extern "C" const char* run_{kernel.name}(const unsigned* grid, const unsigned* block,'
            f" uint64_t seed, void** a) {{ return cuda::launch(grid, block, seed, {call}, a); }}\n"
        )
    return "".join(code)


@cache
def compiled(source: str, file: str) -> ctypes.CDLL:
    """The shared library of a kernel file's source."""
    name = hashlib.sha256(source.encode()).hexdigest()[:16]
    path = Path(_folder().name) / name
    path.with_suffix(".cpp").write_text(f'#include "cuda_on_cpu.h"\n{source}\n{glue(file)}')
    done = subprocess.run(
        [COMPILER, *FLAGS, "-shared", path.with_suffix(".cpp"), "-o", path.with_suffix(".so")],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise KernelFaultError(f"{file}.cu does not compile:\n{done.stderr[:4000]}")
    return ctypes.CDLL(str(path.with_suffix(".so")))


class RawModule:
    """A compiled kernel file; ``spoil`` may change its source first (to test the tests)."""

    spoil = staticmethod(lambda source: source)
    seed = 0

    def __init__(self, code: str, options: tuple[str, ...] = ()) -> None:
        self.file = code.rsplit('#line 1 "', 1)[1].split(".cu", 1)[0]
        self.library = compiled(self.spoil(code), self.file)

    def get_function(self, name: str):
        run = getattr(self.library, f"run_{name}")
        run.restype = ctypes.c_char_p
        kernel = launch.signatures(self.file)[name]

        def call(grid, block, args):
            assert len(grid) == len(block) == 3
            assert grid[0] < 2**31 and max(grid[1:]) < 2**16 and 0 < np.prod(block) <= 1024
            type(self).seed += 1
            guarded = _Guarded()
            values = []
            for p, value in zip(kernel.parameters, args, strict=True):
                value = getattr(value, "_host", value)  # the stand-in's arrays wrap NumPy's
                if isinstance(value, np.ndarray):
                    values.append(ctypes.c_void_p(guarded.place(value, p)))
                else:
                    values.append(_number(value))
            pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
            size = ctypes.c_uint * 3
            message = run(size(*grid), size(*block), ctypes.c_uint64(self.seed), pointers)
            if message:
                raise KernelFaultError(f"{name}: {message.decode()}")
            guarded.give_back(name)

        return call


def _number(value: np.generic):
    assert isinstance(value, np.generic), "a Python number has no size"
    holder = (ctypes.c_char * value.nbytes)()
    holder.raw = value.tobytes()
    return holder


class _Guarded:
    """Copies of arrays, each between zones that nobody may touch."""

    zone = 1024
    untouched = 253  # not NaN's 255, which a kernel might write itself

    def __init__(self) -> None:
        self.copies: dict[int, tuple] = {}

    def place(self, array: np.ndarray, parameter: launch.Parameter) -> int:
        start = array.ctypes.data
        if start not in self.copies or not array.size:
            around = 255 if parameter.const else self.untouched
            memory = np.full(array.nbytes + 2 * self.zone, around, np.uint8)
            memory[self.zone : self.zone + array.nbytes] = array.reshape(-1).view(np.uint8)
            self.copies[start] = memory, array, parameter
        return self.copies[start][0].ctypes.data + self.zone

    def give_back(self, kernel: str) -> None:
        for memory, array, parameter in self.copies.values():
            if parameter.const:
                continue
            before, inside, after = np.split(memory, (self.zone, self.zone + array.nbytes))
            if (before != self.untouched).any() or (after != self.untouched).any():
                raise KernelFaultError(f"{kernel} writes beyond the ends of {parameter.name}")
            array.reshape(-1).view(np.uint8)[:] = inside


class Module:
    """NumPy as a backend's module, with a ``RawModule``; ``empty`` gives NaN."""

    RawModule = RawModule

    def __getattr__(self, name: str):
        return getattr(np, name)

    @staticmethod
    def empty(shape, dtype=float):
        array = np.empty(shape, dtype)
        array.reshape(-1).view(np.uint8)[:] = 255
        return array
