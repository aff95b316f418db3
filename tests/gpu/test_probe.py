"""Every cause of "no GPU" has its own message, and none leads to the CPU unasked."""

import subprocess
import sys
import types

import pytest

import minigrad as mg
from minigrad.backends import cuda
from minigrad.cli import main
from tests.gpu import mockcupy


class DynamicLibNotFoundError(Exception):
    """As cuda.pathfinder raises it."""


def raising(error):
    def function(*_):
        raise error

    return function


def with_count(count):
    """A CuPy whose driver answers so."""
    runtime = types.SimpleNamespace(getDeviceCount=count)
    return types.SimpleNamespace(__version__="14.2.0", cuda=types.SimpleNamespace(runtime=runtime))


CAUSES = {
    "not installed": (
        raising(ModuleNotFoundError("No module named 'cupy'", name="cupy")),
        'device "cuda" needs CuPy: pip install "minigrad[cuda13]". CPU needs nothing more.',
    ),
    "a part of it missing": (
        raising(ModuleNotFoundError("No module named 'fastrlock'", name="fastrlock")),
        "CuPy is installed but cannot be imported (ModuleNotFoundError: No module named "
        "'fastrlock'). Install the one for your CUDA alone: pip install \"minigrad[cuda13]\" "
        "(or cuda12).",
    ),
    "damaged": (
        raising(ImportError("CuPy failed to load libcudart.so.13\nmore")),
        "CuPy is installed but cannot be imported (ImportError: CuPy failed to load "
        'libcudart.so.13). Install the one for your CUDA alone: pip install "minigrad[cuda13]" '
        "(or cuda12).",
    ),
    "no driver": (
        lambda: with_count(raising(mockcupy.CUDARuntimeError(35))),
        "CuPy 14.2.0 is installed but no usable NVIDIA driver was found "
        "(cudaErrorInsufficientDriver). Install the driver, or one that is new enough for this "
        "CUDA; nvidia-smi shows it.",
    ),
    "no device": (
        lambda: with_count(raising(mockcupy.CUDARuntimeError(100))),
        "A driver was found, but no GPU is visible (cudaErrorNoDevice). "
        'CUDA_VISIBLE_DEVICES="5"; nvidia-smi -L lists the GPUs.',
    ),
    "none counted": (
        lambda: with_count(lambda: 0),
        "A driver was found, but no GPU is visible (cudaErrorNoDevice). "
        'CUDA_VISIBLE_DEVICES="5"; nvidia-smi -L lists the GPUs.',
    ),
    "missing libraries": (
        lambda: with_count(raising(DynamicLibNotFoundError("Failure finding libnvrtc.so.13"))),
        "Libraries of CUDA are missing (Failure finding libnvrtc.so.13). "
        'pip install "cupy-cuda13x[ctk]" (or cupy-cuda12x[ctk]) brings them.',
    ),
    "another error": (
        lambda: with_count(raising(mockcupy.CUDARuntimeError(46, "cudaErrorDevicesUnavailable"))),
        "CUDA cannot be used (CUDARuntimeError: cudaErrorDevicesUnavailable). nvidia-smi shows the "
        "driver's own view.",
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_has_its_message(cause, monkeypatch, capsys):
    load, message = CAUSES[cause]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    monkeypatch.setattr(cuda, "import_cupy", load)
    monkeypatch.setattr(cuda, "_usable", None)
    status = cuda.probe()
    assert not status
    assert (str(status), status.count) == (message, 0)
    assert mg.backends.available() == {"cpu": "available", "cuda": message}
    for use in (
        lambda: mg.zeros(3, device="cuda"),
        lambda: mg.zeros(3).to("cuda:1"),
        lambda: mg.ones(2).cuda(),
        lambda: mg.nn.Linear(2, 2).cuda(),
        lambda: mg.nn.Linear(2, 2, device="cuda"),
    ):
        with pytest.raises(mg.DeviceError) as error:
            use()
        assert str(error.value) == message
    assert main(["info"]) == 0
    assert f"device cuda  {message}" in " ".join(capsys.readouterr().out.split("\n"))


def test_an_index_that_is_too_large(gpu):
    with pytest.raises(mg.DeviceError) as error:
        mg.zeros(3, device="cuda:1")
    assert str(error.value) == ('device "cuda:1" was asked for, but there is 1 GPU: "cuda:0".')
    assert mg.backends.available() == {"cpu": "available", "cuda:0": "available"}


@pytest.mark.parametrize("name", ["cuda:", "cuda:x", "cuda:-1", "tpu", "gpu", "mps", ""])
def test_other_names(gpu, name):
    with pytest.raises(mg.DeviceError, match="is not known"):
        mg.zeros(3, device=name)


def test_a_gpu_that_came_later_is_found(monkeypatch):
    monkeypatch.setattr(cuda, "_usable", None)
    monkeypatch.setattr(cuda, "import_cupy", CAUSES["not installed"][0])
    with pytest.raises(mg.DeviceError):
        mg.zeros(1, device="cuda")
    monkeypatch.undo()
    from tests.gpu import device

    with device.cuda():
        assert mg.zeros(1, device="cuda").device == "cuda:0"


def test_nothing_imports_cupy_unasked():
    code = (
        "import sys, minigrad as mg; from minigrad import data, optim\n"
        "x = mg.randn(4, 3); mg.nn.Linear(3, 2)(x).sum().backward(); x.cpu(); x.to('cpu')\n"
        "print('cupy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
