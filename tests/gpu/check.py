"""Everything that only a GPU can show, in one call of at most eight minutes:

    python -m tests.gpu.check

(``--parts`` for some of it). A part that fails does not end the others. What was found, with the
versions of everything, is written to tests/gpu/results/; committed, it is what README.md's line on
the GPU rests on (stamp.py). ``--standin`` tries the script itself where there is no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn, optim
from minigrad.bench import workloads
from minigrad.nn import functional as F
from tests.gpu import device, emulator, layers, stamp

#: Tests in pytest's process: files, and the seconds they may take.
TABLES = {
    "table": (["tests/test_ops.py", "-k", "cupy"], 240),
    "layers": (["tests/gpu/test_layers.py", "tests/gpu/test_devices.py"], 60),
    "training": (["tests/gpu/test_training.py"], 60),
}
#: Seconds that all of it may take.
LIMIT = 470
BEGUN = time.perf_counter()
ROWS = ("tinymlp", "papermlp", "mlpbn", "cnn", "resnet", "conv", "bn2d", "ln", "linear", "adam")


def wait(torch: Any) -> None:
    """Until the GPU has done its work."""
    torch.cuda.synchronize()


def time_left(most: float) -> float:
    """Seconds that a part may take, at most so many."""
    return max(min(most, LIMIT - (time.perf_counter() - BEGUN)), 1)


# ---- the parts ----------------------------------------------------------------------------------


def versions(args: argparse.Namespace) -> dict[str, Any]:
    """What runs here."""
    found: dict[str, Any] = {"python": platform.python_version(), "minigrad": mg.__version__}
    names = ("numpy", "cupy-cuda13x", "cupy-cuda12x", "torch", "nvidia-cublas", "nvidia-cuda-nvrtc")
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    with contextlib.suppress(mg.DeviceError):
        found["gpu"] = mg.cuda.get_device_name()
        runtime = mg.backends.cuda_backend().runtime
        found["driver"], found["runtime"] = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "rev-parse", "--short", "HEAD"]
        found["commit"] = subprocess.check_output(command, cwd=stamp.ROOT, text=True).strip()
    return found


def probe(args: argparse.Namespace) -> dict[str, Any]:
    """A GPU is there, and computes."""
    x = mg.randn(300, 400, generator=mg.Generator().manual_seed(0))
    y = mg.randn(400, 500, generator=mg.Generator().manual_seed(1))
    exact = x.double() @ y.double()
    found = {
        "devices": mg.backends.available(),
        "backend": type(mg.backends.cuda_backend()).__name__,
    }
    for precision, bound in (("highest", 1e-6), ("high", 2e-3)):
        mg.set_float32_matmul_precision(precision)
        product = (x.cuda() @ y.cuda()).cpu().double()
        error = float((product - exact).norm() / exact.norm())
        found[f"relative error, {precision}"] = error
        assert error < bound, f"a product in {precision} precision is off by {error:.2e}"
    mg.set_float32_matmul_precision("highest")
    return found


def tests(name: str) -> Callable[[argparse.Namespace], dict[str, Any]]:
    """Files of the test suite, on the GPU."""

    def part(args: argparse.Namespace) -> dict[str, Any]:
        files, seconds = TABLES[name]
        command = [sys.executable, "-m", "pytest", "--maxfail=20", *files]
        command += [] if args.standin else ["--cuda"]
        done = subprocess.run(
            command, cwd=stamp.ROOT, capture_output=True, text=True, timeout=time_left(seconds)
        )
        lines = done.stdout.strip().splitlines()
        assert not done.returncode, "\n".join(lines[-40:])
        return {"summary": lines[-1] if lines else ""}

    part.__doc__ = f"{' '.join(TABLES[name][0])} on the GPU."
    return part


def kernels(args: argparse.Namespace) -> dict[str, Any]:
    """Kernels against the reference, in float32 and float64, with sizes of every kind."""
    table = importlib.import_module("tests.test_ops")
    worst: dict[str, float] = {}
    calls = 0
    emulated = args.standin and emulator.COMPILER is not None
    with device.cuda(kernels=True) if emulated else contextlib.nullcontext():
        xp = mg.backends.cuda_backend()
        for name, arguments in table.KERNELS.items():
            reference = getattr(mg.backends.Reference, name, None)
            if reference is None or getattr(type(xp), name) is reference:
                continue
            for dtype, bound in (("float32", 2e-5), ("float64", 1e-12)):
                for n in (1, 3, 17, 70):
                    for host in arguments(drawing(n, dtype), n):
                        off = difference(xp, reference, name, host, bound)
                        key = f"{name} {dtype}"
                        worst[key] = max(worst.get(key, 0.0), off)
                        calls += 1
    assert calls, "no kernel was called"
    return {"calls": calls, "largest difference": worst}


def drawing(n: int, dtype: str) -> Callable[..., Any]:
    """What draws the arguments of kernels."""
    rng = np.random.default_rng(n)
    return lambda *shape: np.asarray(rng.standard_normal(shape)).astype(dtype)


def difference(xp: Any, reference: Any, name: str, host: Any, bound: float) -> float:
    """The largest difference between a kernel and the reference; an error above ``bound``."""
    given = [xp.from_host(a, "cuda") if isinstance(a, np.ndarray) else a for a in host]
    expected, found = reference(xp, *given), getattr(xp, name)(*given)
    if not isinstance(found, tuple):
        expected, found = (expected,), (found,)
    worst = 0.0
    for e, f in zip(expected, found, strict=True):
        if e is not None:
            e, f = xp.to_host(e), xp.to_host(f)
            scale = max(1.0, float(np.abs(e[np.isfinite(e)]).max(initial=0)))
            np.testing.assert_allclose(f, e, rtol=bound, atol=bound * scale, err_msg=name)
            both = np.isfinite(e) & np.isfinite(f)
            worst = max(worst, float(np.abs(f[both] - e[both]).max(initial=0)))
    return worst


def sanitizer(args: argparse.Namespace) -> dict[str, Any]:
    """The kernels once more under NVIDIA's checkers of memory and races, where these are."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return {"skipped": "compute-sanitizer is not installed"}
    found = {}
    for tool in ("memcheck", "racecheck"):
        command = [program, "--tool", tool, "--error-exitcode", "7", sys.executable, "-m"]
        command += ["tests.gpu.check", "--parts", "kernels", "--out", tempfile.mkdtemp()]
        done = subprocess.run(
            command, cwd=stamp.ROOT, capture_output=True, text=True, timeout=time_left(60)
        )
        found[tool] = (done.stdout.strip().splitlines() or [""])[-1]
        assert not done.returncode, done.stdout[-3000:]
    return found


def model(kind: str) -> nn.Module:
    """A small network of each kind, the same every time."""
    mg.manual_seed(0)
    if kind == "dropout":
        return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 5))
    if kind == "mlp":
        return nn.Sequential(nn.Linear(20, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 5))
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 5)),
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


def trained(kind: str, place: str, steps: int, optimizer: str = "Adam") -> list[float]:
    """The losses of ``steps`` steps."""
    net = model(kind).to(place)
    step = getattr(optim, optimizer)(net.parameters(), lr=0.01)
    rng = np.random.default_rng(0)
    x = mg.tensor(rng.standard_normal((64, 20)), dtype=mg.float32).to(place)
    t = mg.tensor(rng.integers(0, 5, 64)).to(place)
    losses = []
    for _ in range(steps):
        step.zero_grad()
        loss = F.cross_entropy(net(x), t)
        loss.backward()
        step.step()
        losses.append(loss.detach())
    return [v.item() for v in losses]


def curves(args: argparse.Namespace) -> dict[str, Any]:
    """Training on CPU and GPU: the same losses, within what rounding makes of them."""
    found = {}
    for kind in ("mlp", "cnn"):
        for optimizer in ("SGD", "Momentum", "RMSprop", "Adam"):
            here, there = (trained(kind, place, 30, optimizer) for place in ("cpu", "cuda"))
            np.testing.assert_allclose(there[:5], here[:5], rtol=1e-4)
            np.testing.assert_allclose(there, here, rtol=0.05, atol=0.01)
            found[f"{kind} {optimizer}"] = [here[-1], there[-1]]
    return found


def steps(args: argparse.Namespace) -> dict[str, Any]:
    """Is a step on the GPU the same twice? (No sum depends on the order of threads.)"""
    found = {}
    for kind in ("mlp", "cnn"):
        first, second = trained(kind, "cuda", 50), trained(kind, "cuda", 50)
        found[kind] = first == second
        assert first == second, f"{kind}: two runs differ"
    return found


def capture(args: argparse.Namespace) -> dict[str, Any]:
    """Steps recorded as CUDA graphs: every layer and optimizer, the same bits, flat memory."""
    found: dict[str, Any] = {"layers": {}, "steps": {}}
    kinds = ("mlp", "dropout") if args.standin else ("mlp", "cnn", "dropout")  # CuPy's convolution
    with device.thread_local():  # hidden allocations are errors
        for name in list(layers.ROWS)[:: 8 if args.standin else 1]:
            for train in (True, False):
                found["layers"][f"{name} {'train' if train else 'eval'}"] = layer(name, train)
        count = 12 if args.standin else 50
        for kind in kinds:
            for optimizer in OPTIMIZERS:
                if kind == "mlp" or optimizer in ("SGD", "AdamW"):
                    key = f"{kind} {optimizer}"
                    found["steps"][key] = alike(kind, optimizer, count)
        found |= flat(kinds[1], 20 if args.standin else 1000)
    refused = {k: v for k, v in found["layers"].items() if not v.startswith("the same")}
    assert args.standin or not refused, f"layers that a graph does not hold: {refused}"
    return found


OPTIMIZERS = [
    *("SGD", "Momentum", "RMSprop", "Adam", "AdamW"),
    *("Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam"),
]


def values(tensors: Any) -> list[Any]:
    """Copies of tensors as NumPy arrays."""
    return [t.detach().cpu().numpy().copy() for t in tensors]


def identical(a: list[Any], b: list[Any]) -> bool:
    """To the last bit."""
    return [x.tobytes() for x in a] == [x.tobytes() for x in b]


def layer(name: str, train: bool) -> str:
    """Whether a row's recorded step has the bits of the step; or why it is run as it is."""
    make, inputs = layers.ROWS[name]
    mg.manual_seed(0)
    module = make().to("cuda").train(train)
    tensors = [mg.tensor(x).cuda() for x in inputs]
    tensors = [t.float() if t.dtype.kind == "f" else t for t in tensors]

    def step(*given: Any) -> Any:
        module.zero_grad()
        y = module(*given)
        parts = layers.flat(y) if isinstance(y, tuple) else [y]
        if parts[0].requires_grad:
            sum((t * t).sum() for t in parts if t.requires_grad).backward()
        return [t.detach() for t in parts]

    compiled = mg.compile(step, check=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(7):
            given = [t * (1 + 0.1 * i) if t.dtype.kind == "f" else t for t in tensors]
            if i == 6:
                state = [b.clone() for b in module.buffers()]
                expected = values(
                    [*step(*given), *(p.grad for p in grads(module)), *module.buffers()]
                )
                for b, before in zip(module.buffers(), state, strict=True):
                    b.copy_(before)
            result = compiled(*given)
    if compiled.plain is not None:
        return compiled.plain
    found = values([*result, *(p.grad for p in grads(module)), *module.buffers()])
    if identical(found, expected):
        return "the same"
    for a, b in zip(found, expected, strict=True):  # sums by atomic additions are not repeatable
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=name)
    return "the same but for rounding"


def grads(module: nn.Module) -> list[Any]:
    """The parameters with a gradient."""
    return [p for p in module.parameters() if p.grad is not None]


def alike(kind: str, optimizer: str, count: int) -> str:
    """Training with a schedule and clipping, as it is and recorded: the same to the last bit."""
    results = []
    for recorded in (False, True):
        net = model(kind).cuda()
        update = getattr(optim, optimizer)(net.parameters(), lr=0.01)
        schedule = optim.lr_scheduler.ExponentialLR(update, 0.99)
        mg.cuda.manual_seed(3)

        def step(x: Any, t: Any, net: Any = net, update: Any = update, s: Any = schedule) -> Any:
            update.zero_grad()
            loss = F.cross_entropy(net(x), t)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            update.step()
            s.step()
            return loss

        run = mg.compile(step) if recorded else step
        rng, losses = np.random.default_rng(0), []
        for _ in range(count):
            x = mg.tensor(rng.standard_normal((64, 20)), dtype=mg.float32).cuda()
            losses.append(run(x, mg.tensor(rng.integers(0, 5, 64)).cuda()).detach())
        if recorded:
            assert run.plain is None, run.plain
            source = run.source
        kept = [v for s in update.state.values() for v in s.values()]
        results.append(values([*losses, *net.state_dict().values(), *kept]))
    assert identical(*results), f"{kind} {optimizer}: replays differ from the steps"
    return source.splitlines()[0].split(": ")[1]


def flat(kind: str, count: int) -> dict[str, Any]:
    """Replays take no memory."""
    net = model(kind).cuda()
    update = optim.Adam(net.parameters())
    x, t = mg.randn(64, 20).cuda(), mg.randint(5, (64,)).cuda()

    @mg.compile
    def step(x: Any, t: Any) -> Any:
        update.zero_grad()
        loss = F.cross_entropy(net(x), t)
        loss.backward()
        update.step()
        return loss

    for _ in range(10):
        step(x, t)
    gc.collect()
    begun = [mg.cuda.memory_reserved(), mg.cuda.memory_allocated()]
    for _ in range(count):
        step(x, t)
    ended = [mg.cuda.memory_reserved(), mg.cuda.memory_allocated()]
    assert begun == ended, f"(reserved, allocated) {begun} after 10 calls, {ended} after {count}"
    return {"replays": count, "reserved bytes": ended[0]}


def memory(args: argparse.Namespace) -> dict[str, Any]:
    """A thousand steps take no more memory than ten."""
    net = model("cnn").cuda()
    optimizer = optim.Adam(net.parameters())
    x, t = mg.randn(64, 20).cuda(), mg.randint(5, (64,)).cuda()

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(x), t).backward()
        optimizer.step()

    for _ in range(10):
        step()
    gc.collect()
    start = mg.cuda.memory_reserved()
    for _ in range(1000 if not args.standin else 20):
        step()
    end = mg.cuda.memory_reserved()
    assert end == start, f"{start} bytes after 10 steps, {end} after 1010"
    return {"reserved bytes": end}


# ---- side by side -------------------------------------------------------------------------------


class OnGpu:
    """A library whose tensors and layers are made on the GPU: what the workloads are built with."""

    def __init__(self, library: Any, **optimizer: Any) -> None:
        self.library, self.optimizer = library, optimizer

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.library, name)
        if name in ("randn", "randint", "full", "ones", "zeros", "rand", "empty"):
            return lambda *a, **k: found(*a, **{**k, "device": "cuda"})
        if name in ("nn", "optim"):
            return OnGpu(found, **self.optimizer)
        if name == "Adam" and self.optimizer:
            return lambda *a, **k: found(*a, **k, **self.optimizer)
        return self._made(found)

    def _made(self, found: Any) -> Any:
        module = getattr(getattr(self.library, "modules", None), "module", None)
        base = getattr(self.library, "Module", None) or (module and module.Module)
        if base is not None and isinstance(found, type) and issubclass(found, base):
            if found is base:
                return found
            return lambda *a, **k: found(*a, **k).to("cuda")
        return found


def timed(run: Callable[[], Any], library: Any, seconds: float) -> float:
    """Milliseconds a call: the median of blocks of calls, the GPU waited for at the end of each."""
    for _ in range(3):
        run()
    wait(library)
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds / 5 or not calls:
        run()
        calls += 1
    wait(library)
    blocks = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(calls):
            run()
        wait(library)
        blocks.append((time.perf_counter() - start) / calls * 1e3)
    return statistics.median(blocks)


def graphed(work: Any, torch: Any) -> Callable[[], Any]:
    """PyTorch's step as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work.run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work.run()
    return graph.replay  # type: ignore[no-any-return]


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds a step: minigrad as it is and as a graph, PyTorch as it is, compiled, as one."""
    found: dict[str, Any] = {}
    torch = None
    with contextlib.suppress(ModuleNotFoundError):
        torch = importlib.import_module("torch")
    if torch is not None and not torch.cuda.is_available():
        torch = None
    if torch is not None:  # the same precision for both: float32 throughout
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    deadline = time.perf_counter() + time_left(120)
    for row in ROWS if not args.standin else ROWS[:1]:
        entry: dict[str, Any] = {}
        found[row] = entry

        def recorded(row: str = row) -> float:
            step = mg.compile(workloads.build(row, OnGpu(mg)).run)
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # it is not to be run as it is
                for _ in range(8):  # warmed up, recorded and compared, for each form of arguments
                    step()
            assert step.plain is None, step.plain
            return timed(step, mg, args.seconds)

        ways: dict[str, Callable[[], float]] = {
            "minigrad": lambda row=row: timed(
                workloads.build(row, OnGpu(mg)).run, mg, args.seconds
            ),
            "minigrad, graph": recorded,
        }
        if torch is not None:

            def eager(row: str = row) -> float:
                return timed(workloads.build(row, OnGpu(torch)).run, torch, args.seconds)

            def compiled(row: str = row) -> float:
                work = workloads.build(
                    row, OnGpu(torch), lambda part, f: torch.compile(f) if part == "forward" else f
                )
                return timed(work.run, torch, args.seconds)

            def as_graph(row: str = row) -> float:
                work = workloads.build(row, OnGpu(torch, capturable=True))
                return timed(graphed(work, torch), torch, args.seconds)

            ways |= {"torch": eager, "torch.compile": compiled, "torch, graph": as_graph}
        for name, way in ways.items():
            if time.perf_counter() > deadline:
                entry[name] = "no time left"
                continue
            try:
                entry[name] = way()
            except Exception as error:  # a way that does not take this row
                if name == "minigrad":
                    raise
                entry[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    found["copy, GB/s"] = copied = bandwidth(mg, args)
    found["targets"] = targets(found, copied)
    return found


#: The arrays that a layer's step has to read and write once: x, y, dy, x and dx of float32.
BYTES = {"bn2d": 5 * 4 * 64 * 64 * 32 * 32, "ln": 5 * 4 * 4096 * 768}


def bandwidth(mg: Any, args: argparse.Namespace) -> float:
    """What copying an array in the GPU's memory reads and writes, in GB/s."""
    size = 1 << (28 if not args.standin else 16)
    x = mg.zeros(size // 4, device="cuda")
    y = mg.empty(size // 4, device="cuda")
    return 2 * size / timed(lambda: y.copy_(x), mg, args.seconds) / 1e6


def targets(found: dict[str, Any], copied: float) -> dict[str, Any]:
    """What is aimed at, as a ratio with its bound; only of rows that were timed both ways."""
    result: dict[str, Any] = {}

    def ratio(row: str, way: str, by: str, bound: float) -> None:
        times = [found.get(row, {}).get(name) for name in (way, by)]
        if all(isinstance(t, float) for t in times):
            value = times[0] / times[1]
            result[f"{row}: {way} / {by}"] = {"is": value, "at most": bound, "met": value <= bound}

    for row in ("tinymlp", "papermlp", "mlpbn"):
        ratio(row, "minigrad, graph", "torch", 1 / 3)
        ratio(row, "minigrad, graph", "torch, graph", 1.1)
    for row in ("cnn", "resnet", "conv"):
        ratio(row, "minigrad", "torch", 1.1)
        ratio(row, "minigrad, graph", "torch", 1.1)
    for row, size in BYTES.items():
        for way in ("minigrad", "minigrad, graph"):
            time_ = found.get(row, {}).get(way)
            if isinstance(time_, float):
                share = size / time_ / 1e6 / copied
                key = f"{row}: {way}, share of the copy's bandwidth"
                result[key] = {"is": share, "at least": 0.8, "met": share >= 0.8}
    return result


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "versions": versions,
    "probe": probe,
    "kernels": kernels,
    "layers": tests("layers"),
    "curves": curves,
    "steps": steps,
    "capture": capture,
    "memory": memory,
    "benchmark": benchmark,
    "training": tests("training"),
    "table": tests("table"),
    "sanitizer": sanitizer,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated")
    parser.add_argument("--seconds", type=float, default=0.5, help="per figure of the benchmark")
    parser.add_argument("--out", type=Path, default=stamp.RESULTS)
    parser.add_argument("--standin", action="store_true", help="on the stand-in for CuPy")
    args = parser.parse_args()
    chosen = args.parts.split(",")
    start, when = time.perf_counter(), datetime.now().isoformat(timespec="seconds")
    parts, facts = [], {}
    with device.cuda(captures=True) if args.standin else contextlib.nullcontext():
        for name in chosen:
            begun = time.perf_counter()
            entry: dict[str, Any] = {"name": name, "what": str(PARTS[name].__doc__).split("\n")[0]}
            try:
                entry["found"] = PARTS[name](args)
                entry["status"] = "passed"
            except Exception as error:
                entry["status"] = "failed"
                entry["error"] = f"{type(error).__name__}: {error}"
                entry["trace"] = traceback.format_exc()[-3000:]
            entry["seconds"] = round(time.perf_counter() - begun, 1)
            print(
                f"{entry['status']:8} {name:10} {entry['seconds']:6.1f} s  {entry['what']}",
                flush=True,
            )
            if entry["status"] == "failed":
                print("         " + entry["error"].replace("\n", "\n         "), flush=True)
            facts |= entry.get("found", {}) if name == "versions" else {}
            parts.append(entry)
            write(args, when, facts, parts, chosen, start)  # what is known so far
    failed = [p["name"] for p in parts if p["status"] == "failed"]
    print(f"{len(parts) - len(failed)} of {len(parts)} parts passed")
    return int(bool(failed))


def write(
    args: argparse.Namespace, when: str, facts: Any, parts: Any, chosen: Any, start: float
) -> None:
    """The file of this run."""
    args.out.mkdir(parents=True, exist_ok=True)
    result = {
        "when": when,
        "real": not args.standin and set(chosen) >= set(PARTS),
        "digest": stamp.digest(),
        "seconds": round(time.perf_counter() - start, 1),
        "versions": facts,
        "parts": parts,
    }
    name = f"{when[:10]}-{when[11:].replace(':', '')}.json"
    (args.out / name).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
