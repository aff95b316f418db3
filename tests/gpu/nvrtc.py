"""NVRTC, the compiler of CUDA C++, by ctypes: it compiles for any GPU on a machine without one."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def library() -> ctypes.CDLL | None:
    """NVRTC from the wheel nvidia-cuda-nvrtc or from the system; None where there is none."""
    spec = find_spec("nvidia")
    folders = [Path(p) for p in spec.submodule_search_locations] if spec else []
    found = [p for f in folders for p in sorted(f.glob("**/libnvrtc.so.*"))]
    for name in [*map(str, found), "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def compiled(source: str, target: str, *options: str) -> tuple[bytes, str]:
    """PTX for ``"compute_90"``, a cubin for ``"sm_90"``; and the compiler's log.

    Raises:
        SyntaxError: the log, where the source does not compile.
    """
    nvrtc, program = library(), ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    options = (f"-arch={target}", "-std=c++17", *options)
    given = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
    try:
        failed = nvrtc.nvrtcCompileProgram(program, len(options), given)
        log = _text(nvrtc, program, "ProgramLog").decode()
        if failed:
            raise SyntaxError(log)
        return _text(nvrtc, program, "CUBIN" if target.startswith("sm") else "PTX"), log
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{what}")(program, buffer)
    return buffer.raw.rstrip(b"\0") if what != "CUBIN" else buffer.raw
