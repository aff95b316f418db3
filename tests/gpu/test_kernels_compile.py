"""Every kernel compiles for every GPU that is supported, on a machine without one."""

from __future__ import annotations

import re

import pytest

from minigrad.backends.cuda import launch
from tests.gpu import nvrtc

pytestmark = pytest.mark.skipif(
    nvrtc.library() is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc"
)
DTYPES = tuple(launch.TYPES)
TARGETS = ("sm_75", "sm_80", "sm_90", "sm_100")
PTX = {"A": {"e": ".f32", "f": ".f32", "d": ".f64"}, "int": ".u32", "u32": ".u32", "u64": ".u64"}
PTX |= {"i64": ".u64", "double": ".f64"}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("file", launch.FILES)
def test_it_compiles_and_keeps_everything_in_registers(file, target):
    for dtype in DTYPES:
        cubin, log = nvrtc.compiled(launch.source(file, dtype), target, "--ptxas-options=-v")
        assert cubin[:4] == b"\x7fELF" and "warning" not in log, log
        spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+)", log)
        assert len(spills) >= len(launch.signatures(file)), "the log tells of every kernel"
        assert set(spills) == {("0", "0", "0")}, (dtype, log)
        registers = [int(n) for n in re.findall(r"Used (\d+) registers", log)]
        # more would not fit a block: cuLaunchKernel refuses it
        assert max(registers) * launch.MOST_THREADS <= 65536


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("file", launch.FILES)
def test_the_compiled_kernel_takes_what_was_read_from_the_source(file, dtype):
    ptx, _ = nvrtc.compiled(launch.source(file, dtype), "compute_80")
    entries = re.findall(r"\.entry (\w+)\((.*?)\)", ptx.decode(), re.S)
    compiled = {
        name: re.findall(r"\.param (?:\.\w+ )*?(\.[usfb]\d+)", body) for name, body in entries
    }
    kernels = launch.signatures(file)
    assert compiled.keys() == kernels.keys()
    for name, kernel in kernels.items():
        expected = [
            ".u64" if p.pointer else PTX[p.type][dtype] if p.type == "A" else PTX[p.type]
            for p in kernel.parameters
        ]
        assert compiled[name] == expected, name


@pytest.mark.parametrize("file", launch.FILES)
def test_float32_kernels_compute_in_float32(file):
    """float64 is slow on most GPUs: a constant without a type would be enough."""
    kernels = nvrtc.compiled(launch.source(file, "f"), "compute_80")[0].decode().split(".entry ")
    for text in kernels[1:]:
        assert ".f64" not in text.split("\n}\n")[0], text[:60]


def test_a_mistake_is_shown_with_its_line():
    with pytest.raises(SyntaxError, match=r"norm\.cu\(3\).*undeclared"):
        nvrtc.compiled('#line 1 "norm.cu"\n\n\nint x = undeclared;', "sm_90")
