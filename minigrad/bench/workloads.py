"""The workloads, written once: ``torch`` is minigrad or PyTorch, whose surface is the same.

``python workloads.py FRAMEWORK THREADS`` is a process that times one framework. This file imports
nothing of minigrad, so that no other framework's process does: minigrad tells the C library to keep
freed memory, and another's figures would no longer be its own.

A workload is built by ``row(torch, wrap)`` and has a ``step``, which is what is timed. ``wrap`` is
for compilers that do not take a whole step: it gets ``"forward"`` with the function from inputs to
loss or output, and ``"update"`` with the optimizer's step, and returns what to call instead.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

Function = Callable[..., Any]
Wrap = Callable[[str, Function], Function]


def as_is(part: str, function: Function) -> Function:
    """Wrap nothing."""
    return function


class Work:
    """A function ``step`` of tensors, modules and optimizers, and the inputs it gets.

    A training step is zero_grad, forward, loss, backward and the optimizer's step. ``forget`` drops
    the gradients that a step leaves, which is where its memory is measured from.
    """

    def __init__(self, step: Function, inputs: tuple[Any, ...], forget: Function) -> None:
        self.step, self.inputs, self.forget = step, inputs, forget

    def run(self) -> Any:
        """One step."""
        return self.step(*self.inputs)


Row = Callable[..., Work]


def _step(torch: Any, wrap: Wrap, net: Any, x: Any, labels: Any) -> Work:
    loss_fn = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    forward = wrap("forward", lambda x, labels: loss_fn(net(x), labels))
    update = wrap("update", optimizer.step)

    def step(x: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = forward(x, labels)
        loss.backward()
        update()
        return loss

    return Work(step, (x, labels), optimizer.zero_grad)


def _both_ways(wrap: Wrap, function: Function, leaves: list[Any], inputs: Any, seed: Any) -> Work:
    """Forward and backward: the step leaves the gradients of ``leaves``."""
    forward = wrap("forward", function)

    def forget() -> None:
        for leaf in leaves:
            leaf.grad = None

    def step() -> Any:
        forget()
        y = forward(*inputs)
        y.backward(seed)
        return y

    return Work(step, (), forget)


def chain(torch: Any, wrap: Wrap, size: int) -> Work:
    """So many adds and multiplications of 16 x 16 tensors, forward and backward."""
    x = torch.full((16, 16), 0.999, requires_grad=True)
    w = torch.full((16, 16), 0.999, requires_grad=True)

    def forward(x: Any, w: Any) -> Any:
        y = x
        for _ in range(size // 2):
            y = y * w
            y = y + x
        return y.sum()

    return _both_ways(wrap, forward, [x, w], (x, w), None)


def ops(torch: Any, wrap: Wrap = as_is) -> Work:
    """1000 adds and multiplications of 16 x 16 tensors, forward and backward."""
    return chain(torch, wrap, 1000)


def tinymlp(torch: Any, wrap: Wrap = as_is) -> Work:
    """64-32-10, batch 32, step."""
    nn = torch.nn
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    return _step(torch, wrap, net, torch.randn(32, 64), torch.randint(0, 10, (32,)))


def mlp(torch: Any, wrap: Wrap = as_is) -> Work:
    """784-512-256-10, batch 128, step."""
    nn = torch.nn
    net = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    return _step(torch, wrap, net, torch.randn(128, 784), torch.randint(0, 10, (128,)))


def batch(torch: Any, wrap: Wrap, size: int) -> Work:
    """The net of mlpbn, step, by batch size."""
    nn = torch.nn
    net = nn.Sequential(
        nn.Linear(784, 512),
        nn.BatchNorm1d(512),
        nn.ReLU(),
        nn.Linear(512, 256),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Linear(256, 10),
    )
    if size == 1:  # one value a channel has no variance
        net.eval()
    return _step(torch, wrap, net, torch.randn(size, 784), torch.randint(0, 10, (size,)))


def mlpbn(torch: Any, wrap: Wrap = as_is) -> Work:
    """784-512-256-10 with BatchNorm1d, batch 128, step."""
    return batch(torch, wrap, 128)


def width(torch: Any, wrap: Wrap, size: int) -> Work:
    """Two layers, 256-width-10 with ReLU, batch 64, step, by width."""
    nn = torch.nn
    net = nn.Sequential(nn.Linear(256, size), nn.ReLU(), nn.Linear(size, 10))
    return _step(torch, wrap, net, torch.randn(64, 256), torch.randint(0, 10, (64,)))


def papermlp(torch: Any, wrap: Wrap = as_is) -> Work:
    """784-100-100-100-10 with sigmoid and BatchNorm1d, batch 60 (Ioffe and Szegedy, 4.1), step."""
    nn = torch.nn
    layers, into = [], 784
    for _ in range(3):
        layers += [nn.Linear(into, 100, bias=False), nn.BatchNorm1d(100), nn.Sigmoid()]
        into = 100
    net = nn.Sequential(*layers, nn.Linear(100, 10))
    return _step(torch, wrap, net, torch.randn(60, 784), torch.randint(0, 10, (60,)))


def _cnn(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 49, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def cnn(torch: Any, wrap: Wrap = as_is) -> Work:
    """Two blocks conv 3x3, BatchNorm2d, ReLU, max pool; two Linear; batch 64 of 28x28; step."""
    images, labels = torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,))
    return _step(torch, wrap, _cnn(torch), images, labels)


def resnet(torch: Any, wrap: Wrap = as_is) -> Work:
    """Three residual stages 16-32-64 on 32x32 images, batch 32, step."""
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self, into: int, out: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(out)
            self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(out)
            self.relu = nn.ReLU()
            self.short = (
                nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
                if stride > 1 or into != out
                else nn.Identity()
            )

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(y + self.short(x))

    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Block(16, 16, 1),
        Block(16, 32, 2),
        Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
    return _step(torch, wrap, net, torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,)))


def _layer(wrap: Wrap, module: Any, x: Any, seed: Any) -> Work:
    return _both_ways(wrap, module, [x, *module.parameters()], (x,), seed)


def conv(torch: Any, wrap: Wrap = as_is) -> Work:
    """conv2d (32,64,32,32) * (64,64,3,3), padding 1, forward and both gradients."""
    x = torch.randn(32, 64, 32, 32, requires_grad=True)
    return _layer(wrap, torch.nn.Conv2d(64, 64, 3, padding=1), x, torch.randn(32, 64, 32, 32))


def bn2d(torch: Any, wrap: Wrap = as_is) -> Work:
    """BatchNorm2d of (64,64,32,32), forward and backward."""
    x = torch.randn(64, 64, 32, 32, requires_grad=True)
    return _layer(wrap, torch.nn.BatchNorm2d(64), x, torch.randn(64, 64, 32, 32))


def ln(torch: Any, wrap: Wrap = as_is) -> Work:
    """LayerNorm of (4096,768), forward and backward."""
    x = torch.randn(4096, 768, requires_grad=True)
    return _layer(wrap, torch.nn.LayerNorm(768), x, torch.randn(4096, 768))


def linear(torch: Any, wrap: Wrap = as_is) -> Work:
    """(512,1024) x (1024,1024) + bias, forward and backward."""
    x = torch.randn(512, 1024, requires_grad=True)
    return _layer(wrap, torch.nn.Linear(1024, 1024), x, torch.randn(512, 1024))


def adam(torch: Any, wrap: Wrap = as_is) -> Work:
    """One Adam step over 20 arrays of 1000 x 1000."""
    params = [torch.nn.Parameter(torch.randn(1000, 1000)) for _ in range(20)]
    for p in params:
        p.grad = torch.randn(1000, 1000)
    update = wrap("update", torch.optim.Adam(params, lr=1e-3).step)

    def step() -> None:
        update()

    return Work(step, (), lambda: None)


def infer(torch: Any, wrap: Wrap = as_is) -> Work:
    """The cnn in eval mode under no_grad, batch 1."""
    return _inference(torch, wrap, _cnn(torch).eval())


def folded(torch: Any, wrap: Wrap = as_is) -> Work:
    """The cnn in eval mode, batch 1, with its BatchNorms folded into the convolutions."""
    net = _cnn(torch).eval()
    for i in (0, 4):
        net[i] = torch.nn.utils.fuse_conv_bn_eval(net[i], net[i + 1])
        net[i + 1] = torch.nn.Identity()
    return _inference(torch, wrap, net)


def _inference(torch: Any, wrap: Wrap, net: Any) -> Work:
    forward = wrap("forward", net)

    def step(x: Any) -> Any:
        with torch.no_grad():
            return forward(x)

    return Work(step, (torch.randn(1, 1, 28, 28),), lambda: None)


ROWS: dict[str, Row] = {
    f.__name__: f
    for f in (
        *(ops, tinymlp, mlp, mlpbn, papermlp, cnn, resnet),
        *(conv, bn2d, ln, linear, adam, infer, folded),
    )
}
#: Series: a row of them has a size, as in ``chain:1000``.
SERIES: dict[str, Row] = {f.__name__: f for f in (chain, batch, width)}


def build(row: str, torch: Any, wrap: Wrap = as_is) -> Work:
    """The workload of a row, ``mlp``, or of one of a series, ``batch:64``."""
    name, _, size = row.partition(":")
    return SERIES[name](torch, wrap, int(size)) if size else ROWS[name](torch, wrap)


# ---- one framework in one process ---------------------------------------------------------------

#: What a framework runs: (the work of a row, a note on how).
Builder = Callable[[str], tuple[Work, str]]


class MissingError(Exception):
    """A framework that is not there, and why."""


def load(name: str, threads: int) -> Any:
    """The module ``name``, held to so many threads, its random numbers seeded."""
    try:
        framework = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingError("not installed") from error
    framework.set_num_threads(threads)
    framework.manual_seed(0)
    return framework


def minigrad(threads: int, numba: bool = False, captured: bool = False) -> tuple[Builder, str]:
    """minigrad with NumPy alone or with Numba, its steps as they are or captured."""
    mg = load("minigrad", threads)
    versions = f"minigrad {mg.__version__}, NumPy {version('numpy')}"
    if captured and not hasattr(mg, "compile"):
        raise MissingError("this minigrad has no mg.compile")
    if numba and find_spec("numba") is None:
        if not captured:
            raise MissingError('needs Numba: pip install "minigrad[fast]"')
        numba = False
    mg.backends.numpy.use_numba(numba)
    if numba:
        versions += f", Numba {version('numba')}"

    def builder(row: str) -> tuple[Work, str]:
        work = build(row, mg)
        if captured:
            work.step = mg.compile(work.step)
        return work, ""

    return builder, versions


def pytorch(threads: int) -> tuple[Builder, str]:
    """PyTorch as it is."""
    torch = load("torch", threads)
    return (lambda row: (build(row, torch), "")), f"PyTorch {torch.__version__}"


#: For each framework what makes its builder from the number of threads, and says its versions.
FRAMEWORKS: dict[str, Callable[[int], tuple[Builder, str]]] = {
    "numpy": minigrad,
    "fast": lambda threads: minigrad(threads, numba=True),
    "captured": lambda threads: minigrad(threads, numba=True, captured=True),
    "torch": pytorch,
}


def measure(run: Callable[[], Any], seconds: float) -> float:
    """Median milliseconds of one call, over about ``seconds``; at least three, less of slow ones.

    A tenth of the time goes before: caches fill, threads and clocks wake.
    """
    start = now = time.perf_counter()
    while now < start + seconds / 10:
        run()
        now = time.perf_counter()
    times: list[float] = []
    begin = now
    while now < begin + seconds or (len(times) < 3 and now < begin + 10 * seconds):
        start = time.perf_counter()
        run()
        now = time.perf_counter()
        times.append(now - start)
    return 1000 * statistics.median(times)


def pools() -> list[dict[str, Any]]:
    """The thread pools of the libraries that are loaded: BLAS, OpenMP."""
    try:
        found = importlib.import_module("threadpoolctl").threadpool_info()
    except ModuleNotFoundError:
        return []
    kept = ("internal_api", "version", "architecture", "num_threads")
    return [{k: pool[k] for k in kept if pool.get(k)} for pool in found]


def serve(make: Callable[[int], tuple[Builder, str]], threads: int) -> None:
    """Answer each line ``row seconds`` with a line of JSON: ms, note, or error.

    The first line says what runs here, or that it is missing.
    """
    if hasattr(os, "sched_setaffinity"):  # for pools that cannot be told how large to be
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    warnings.simplefilter("ignore")
    try:
        builder, versions = make(threads)
    except MissingError as error:
        print(json.dumps({"missing": str(error)}), flush=True)
        return
    print(json.dumps({"versions": versions, "pools": pools()}), flush=True)
    name, work, note = "", None, ""
    for line in sys.stdin:
        row, seconds = line.split()
        try:
            if row != name:
                work = None  # only one row's memory at a time
                name, (work, note) = row, builder(row)
                work.run()
            assert work is not None
            answer = {"ms": measure(work.run, float(seconds)), "note": note}
        except Exception as error:
            name, answer = "", {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(FRAMEWORKS[sys.argv[1]], int(sys.argv[2]))
