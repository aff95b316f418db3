"""How far the engine goes: a chain of a million ops, and training that leaves no memory behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(script: str) -> str:
    """A script in a process of its own: memory and recursion limits are those of a fresh start."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=300,
    )
    assert not done.returncode, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_a_million_ops_in_linear_time() -> None:
    """Forward, backward and deallocation: no recursion, and no more time an op than in 100,000."""
    out = run("""
        import gc, time
        import minigrad as mg

        def per_op(n):
            gc.collect()
            x = mg.ones(1, requires_grad=True)
            times = [time.process_time()]
            y = x
            for _ in range(n):
                y = y * 1.0
            times.append(time.process_time())
            y.backward()
            times.append(time.process_time())
            del y
            times.append(time.process_time())
            assert x.grad.item() == 1
            return [(b - a) / n * 1e6 for a, b in zip(times, times[1:])]

        gc.disable()  # its passes over the living graph would be quadratic on their own
        per_op(10_000)
        print(*per_op(100_000), *per_op(1_000_000))
    """)
    short, long = (list(map(float, part)) for part in (out.split()[:3], out.split()[3:]))
    for a, b, what in zip(short, long, ("forward", "backward", "deallocation"), strict=True):
        assert b < 3 * a + 0.5, f"{what}: {b:.2f} us an op against {a:.2f}"


@pytest.mark.slow
def test_a_million_ops_freed_without_backward() -> None:
    run("""
        import minigrad as mg

        x = mg.ones(1, requires_grad=True)
        y = x
        for _ in range(1_000_000):
            y = y.tanh()
        del y
    """)


@pytest.mark.slow
def test_a_deep_graph_of_second_derivatives() -> None:
    run("""
        import minigrad as mg

        x = mg.ones(1, requires_grad=True)
        y = x
        for _ in range(20_000):
            y = (y * 1.00001).sin()
        (g,) = mg.grad(y, x, create_graph=True)
        (gg,) = mg.grad(g, x)
        assert gg.shape == (1,)
    """)


def test_a_wide_graph() -> None:
    """Each node used by the two after it: 2**500 paths, 500 nodes."""
    run("""
        import minigrad as mg

        x = mg.tensor(1.0, dtype="float64", requires_grad=True)
        a = b = x
        for _ in range(500):
            a, b = b, (a + b) * 0.5
        b.backward()
        assert abs(x.grad.item() - 1) < 1e-9
    """)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc/self/statm")
def test_training_leaves_no_memory_behind() -> None:
    """10,000 steps with the garbage collector off, and nothing for it to find afterwards."""
    out = run("""
        import gc

        gc.disable()
        import minigrad as mg
        from minigrad import nn

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.w1 = nn.Parameter(mg.randn(8, 16) * 0.3)
                self.b1 = nn.Parameter(mg.zeros(16))
                self.w2 = nn.Parameter(mg.randn(16, 1) * 0.3)

            def forward(self, x):
                return (x @ self.w1 + self.b1).relu() @ self.w2

        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096

        mg.manual_seed(0)
        net = Net()
        parameters = list(net.parameters())
        x, target = mg.randn(32, 8), mg.randn(32, 1)
        gc.collect()
        gc.freeze()
        for step in range(10_000):
            loss = ((net(x) - target) ** 2).mean()
            for p in parameters:
                p.grad = None
            loss.backward()
            with mg.no_grad():
                for p in parameters:
                    p -= 0.01 * p.grad
            if step % 100 == 0:  # second derivatives and hooks leave nothing either
                y = net(x)
                handle = y.register_hook(lambda g: g * 2)
                (g,) = mg.grad(y.sum(), parameters[0], create_graph=True)
                (g * g).sum().backward()
                y[:5].sum()
                del y, g, handle
            if step == 500:
                before = resident()
        grown = resident() - before
        del loss
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = {type(o).__name__ for o in gc.garbage if type(o).__module__.startswith("minigrad")}
        print(grown, ours or "nothing")
    """)
    grown, ours = out.split(maxsplit=1)
    assert int(grown) < 2 * 2**20, f"{int(grown) / 2**20:.1f} MiB more after 10,000 steps"
    assert ours.strip() == "nothing"
