"""The CPU backend's own ways: threads, memory order, compiled kernels, picking by bits."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from importlib.util import find_spec

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.backends.cpu import linear, threads
from minigrad.backends.cpu.convolution import _geometry, _phases_gain
from minigrad.backends.cpu.layout import (
    channels_first,
    channels_last,
    in_blocks,
    select,
    share_kernel,
)
from minigrad.errors import ShapeError

needs_numba = pytest.mark.skipif(not find_spec("numba"), reason="needs Numba, the extra fast")
KERNELS = [False, pytest.param(True, marks=needs_numba)]


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(threads.pool, "count", 2)


@pytest.fixture
def kernels(monkeypatch):
    """A function that switches compiled kernels on or off, however small the arrays."""

    def switch(on):
        monkeypatch.setattr(mg.backends.numpy, "numba", on)
        monkeypatch.setattr(mg.backends.numpy, "smallest", 0)

    return switch


# ---- threads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 3, 10])
def test_ranges_make_up_the_whole_once(parts, monkeypatch):
    monkeypatch.setattr(threads.pool, "count", parts)
    seen = []
    threads.pool.share(lambda start, stop: seen.append((start, stop)), 7, parts)
    covered = sorted(i for start, stop in seen for i in range(start, stop))
    assert covered == list(range(7)) and len(seen) == min(parts, 7)


def test_jobs_run_in_several_threads_at_once(two_threads):
    meet, names = threading.Barrier(2, timeout=30), set()

    def job(start, stop):
        meet.wait()  # both must be here
        names.add(threading.current_thread().name)

    threads.pool.share(job, 2, 2)
    assert len(names) == 2


def test_an_error_in_a_thread_reaches_the_caller(two_threads):
    def job(start, stop):
        if start:
            raise ZeroDivisionError("in the other thread")

    for _ in range(2):  # and the pool works on
        with pytest.raises(ZeroDivisionError, match="in the other thread"):
            threads.pool.share(job, 2, 2)
    results = []
    threads.pool.share(lambda start, stop: results.append(start), 2, 2)
    assert sorted(results) == [0, 1]


def test_a_share_inside_a_share_is_one_range(two_threads):
    seen = []

    def outer(start, stop):
        threads.pool.share(lambda a, b: seen.append((a, b)), 4, 2)

    threads.pool.share(outer, 2, 2)
    assert seen == [(0, 4), (0, 4)]


def test_settings_of_the_caller_hold_in_the_threads(two_threads):
    def job(start, stop):
        np.ones(2) / np.zeros(2)  # warnings are errors here

    with mg.backends.quiet():
        threads.pool.share(job, 2, 2)


def test_number_of_threads():
    before = mg.get_num_threads()
    assert 1 <= before <= (os.cpu_count() or 1)
    try:
        mg.set_num_threads(3)
        assert mg.get_num_threads() == 3
    finally:
        mg.set_num_threads(before)
    for wrong in (0, -1, 1.5, True, None):
        with pytest.raises(ValueError, match="at least 1"):
            mg.set_num_threads(wrong)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_threads_of_its_own():
    code = """
import os, numpy as np, minigrad as mg
from minigrad.backends.cpu import linear, threads
mg.set_num_threads(2)
a = np.ones((2048, 256), "f")
assert linear.matmul(a, a.T)[0, 0] == 256
if os.fork() == 0:
    ok = linear.matmul(a, a.T)[-1, -1] == 256 and threads.pool.workers[0].is_alive()
    os._exit(0 if ok else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_blas_keeps_its_threads_outside_our_products():
    with threads.one_blas_thread:
        pass
    get = threads.one_blas_thread.get
    before = get()
    with threads.one_blas_thread:
        with threads.one_blas_thread:
            assert get() == 1
        assert get() == 1
    assert get() == before


@pytest.mark.parametrize("shape", [(2048, 300, 70), (70, 300, 2048), (3, 2, 4), (0, 3, 2)])
def test_products_shared_out_are_the_same(shape, two_threads):
    n, k, m = shape
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((n, k)), rng.standard_normal((m, k)).T
    np.testing.assert_allclose(linear.matmul(a, b), a @ b, rtol=1e-12, atol=1e-12)
    out = np.empty((n, m))
    assert linear.matmul(a, b, out) is out
    stack = rng.standard_normal((2, n, k))
    np.testing.assert_allclose(linear.matmul(stack, b), stack @ b, rtol=1e-12, atol=1e-12)
    if k:
        np.testing.assert_allclose(linear.matmul(a, b[:, 0]), a @ b[:, 0], rtol=1e-12, atol=1e-12)


def test_blocks_and_ranges_keep_their_order(two_threads):
    x = np.zeros((3000, 1000))
    blocks = in_blocks(lambda block: block.start, x)
    assert blocks == sorted(blocks) and len(blocks) > 5
    prepared, called = [], set()

    def prepare(start, stop):
        prepared.append((start, stop))
        assert not called, "all are prepared first"
        return lambda: called.add((start, stop))

    share_kernel(prepare, x)
    assert prepared == [(0, 1500), (1500, 3000)] and called == set(prepared)
    assert in_blocks(lambda block: block, np.zeros((0, 3))) == [slice(0, 0)]


# ---- memory -------------------------------------------------------------------------------------


def test_channels_last_and_first(two_threads):
    x = np.random.default_rng(0).standard_normal((40, 64, 16, 17))
    y = channels_last(x)
    assert y.flags.c_contiguous and (channels_first(y) == x).all()
    assert channels_last(channels_first(y)).base is y, "no copy"


def test_select_is_where():
    rng = np.random.default_rng(0)
    for dtype in ("float16", "float32", "float64"):
        a, b = rng.standard_normal((2, 50, 70)).astype(dtype)
        a[0, 0], b[0, 1] = np.inf, np.nan
        mask = rng.random(a.shape) < 0.5
        for x, other in ((a, b), (a.T, b.T), (a, 0), (a, 0.0), (a, 1.5), (a, -np.inf)):
            m = mask if x is a else mask.T
            expected = np.where(m, x, np.asarray(other, dtype))
            assert select(m, x, other).dtype == dtype
            np.testing.assert_array_equal(select(m, x, other), expected)
            np.testing.assert_array_equal(mg.backends.numpy.where(m, x, other), expected)
    np.testing.assert_array_equal(mg.backends.numpy.where(mask, 1, b), np.where(mask, 1, b))


def test_gradients_own_their_memory():
    x = mg.randn(4, 3, requires_grad=True)
    y = x.reshape(12)
    (y * 1.0).sum().backward()
    kept = x.grad.array
    assert kept.base is None or kept.base.size == kept.size
    a, b = (mg.ones(3, requires_grad=True) for _ in range(2))
    mg.cat([a, b]).sum().backward()
    a.grad.array += 1
    assert b.grad.tolist() == [1, 1, 1]
    seed = mg.ones(3)
    a.grad = None
    (a.view(3)).backward(seed)
    a.grad.array += 1
    assert seed.tolist() == [1, 1, 1]


# ---- the same numbers, however they are computed -------------------------------------------------


def network():
    mg.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 32, 3, stride=2, padding=1),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.LayerNorm(32 * 16),
        nn.Linear(32 * 16, 10),
    )


def trained(steps, dtype="float32"):
    """Parameters, buffers and losses after a few steps."""
    net = network().to(dtype)
    x, labels = mg.randn(24, 3, 32, 32, dtype=dtype), mg.randint(0, 10, (24,))
    optimizer, losses = mg.optim.Adam(net.parameters(), lr=1e-3), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, {k: v.numpy() for k, v in net.state_dict().items()}


@pytest.mark.parametrize("on", KERNELS)
def test_results_do_not_depend_on_the_number_of_threads(on, kernels, monkeypatch):
    kernels(on)
    results = []
    for count in (1, 2, 3):
        monkeypatch.setattr(threads.pool, "count", count)
        net = network()
        x = mg.randn(24, 3, 32, 32, requires_grad=True)
        net(x).square().mean().backward()
        results.append([x.grad.numpy(), *(p.grad.numpy() for p in net.parameters())])
    for found in results[1:]:
        for a, b in zip(results[0], found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.abs(a).max())


@needs_numba
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compiled_kernels_train_alike(dtype, kernels):
    found = []
    for on in (False, True):
        kernels(on)
        found.append(trained(3, dtype))
    tolerance = 2e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=tolerance)
    for name, value in found[0][1].items():
        if "num_batches" not in name:
            np.testing.assert_allclose(
                value, found[1][1][name], rtol=tolerance, atol=2e-3 if dtype == "float32" else 1e-9
            )


@needs_numba
@pytest.mark.parametrize("mean", [0, 1e4])
@pytest.mark.parametrize("shape", [(300, 17), (5, 3, 40), (4, 24, 9, 9)])
def test_norms_of_data_with_a_large_mean(shape, mean, kernels):
    x = mean + np.random.default_rng(0).standard_normal(shape)
    exact = (x - x.mean((0, *range(2, x.ndim)), keepdims=True)) / x.std(
        (0, *range(2, x.ndim)), keepdims=True
    )
    rows = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    rounding = np.abs(x - x.astype("f")).max() + 1e-5  # of the input itself
    for on in (False, True):
        kernels(on)
        for layout in (np.ascontiguousarray, lambda a: channels_first(channels_last(a))):
            if layout is not np.ascontiguousarray and x.ndim < 4:
                continue
            x32 = mg.tensor(0.0)
            x32.array = layout(x.astype("f"))
            y = nn.functional.batch_norm(x32, None, None, training=True, eps=1e-12)
            np.testing.assert_allclose(y.numpy(), exact, atol=8 * rounding)
            y = nn.functional.layer_norm(x32, (shape[-1],), eps=1e-12)
            np.testing.assert_allclose(y.numpy(), rows, atol=20 * rounding)


def _same_with_and_without_numba(kernels, x, w, b, **settings):
    """conv2d and its gradients in both ways; float64 to rounding, float32 against float64."""
    found = []
    for on in (False, True):
        kernels(on)
        xs, ws, bs = (mg.tensor(a, requires_grad=True) for a in (x, w, b))
        y = nn.functional.conv2d(xs, ws, bs, **settings)
        y.backward(mg.tensor(np.random.default_rng(1).standard_normal(y.shape)))
        found.append([y.detach(), xs.grad, ws.grad, bs.grad])
    for plain, fast in zip(*found, strict=True):
        np.testing.assert_allclose(fast.numpy(), plain.numpy(), rtol=1e-11, atol=1e-9)
    xs, ws, bs = (mg.tensor(a, dtype="float32", requires_grad=True) for a in (x, w, b))
    y = nn.functional.conv2d(xs, ws, bs, **settings)
    seed = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(mg.tensor(seed, dtype="float32"))
    for exact, small in zip(found[0], [y.detach(), xs.grad, ws.grad, bs.grad], strict=True):
        assert small.dtype == mg.float32
        assert np.abs(small.numpy() - exact.numpy()).max() < 2e-5 * np.abs(exact.numpy()).max()


@needs_numba
@pytest.mark.parametrize("size", [(4, 4), (5, 9), (16, 7), (33, 6)])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_winograds_algorithm_is_the_sum(size, padding, kernels, monkeypatch):
    from minigrad.backends.compiled import convolution

    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 24, *size)), rng.standard_normal((40, 24, 3, 3))
    if min(size) + 2 * padding < 3:
        return
    monkeypatch.setattr(convolution, "by_winograd", lambda geometry: geometry.kernel == (3, 3))
    _same_with_and_without_numba(kernels, x, w, rng.standard_normal(40), padding=padding)


@needs_numba
@pytest.mark.parametrize("size", [(7, 7), (8, 13), (33, 10)])
@pytest.mark.parametrize("channels, outputs", [(1, 16), (3, 7), (5, 24), (16, 8), (17, 33)])
@pytest.mark.parametrize(
    "kernel, settings",
    [
        ((3, 3), {}),
        ((3, 3), {"padding": 1}),
        ((3, 3), {"padding": 2, "stride": 2}),
        ((1, 1), {"stride": 2}),
        ((2, 3), {"stride": (3, 1), "padding": (1, 0)}),
        ((7, 5), {"stride": (2, 3), "padding": (3, 2)}),
        ((3, 2), {"dilation": 2, "padding": 2}),
        ((3, 3), {"dilation": (2, 3), "stride": 2, "padding": 3}),
        ((2, 2), {"stride": 4}),
    ],
)
def test_convolution_in_tiles_is_the_sum(size, channels, outputs, kernel, settings, kernels):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, channels, *size))
    w, b = rng.standard_normal((outputs, channels, *kernel)), rng.standard_normal(outputs)
    _same_with_and_without_numba(kernels, x, w, b, **settings)


@needs_numba
def test_convolution_in_tiles_keeps_infinity_and_nan_where_they_belong(kernels):
    kernels(True)
    x = np.zeros((1, 5, 6, 6), "f")
    x[0, 3, 2, 2], x[0, 4, 5, 5] = np.inf, np.nan
    y = nn.functional.conv2d(mg.tensor(x), mg.ones(7, 5, 3, 3)).numpy()
    assert np.isinf(y[0, :, :3, :3]).all()
    assert np.isnan(y[0, :, 3, 3]).all()
    assert (y[0, :, 3, :3] == 0).all()


@pytest.mark.parametrize("numba", KERNELS)
@pytest.mark.parametrize("size", [(9, 3), (3, 9), (10, 3), (12, 12)])
@pytest.mark.parametrize("outputs, stride", [(4, 1), (16, 1), (16, 2)])
def test_a_kernel_larger_than_the_image_is_refused(numba, size, outputs, stride, kernels):
    kernels(numba)
    x, w = mg.randn(2, 3, 8, 8), mg.randn(outputs, 3, *size)
    with pytest.raises(ShapeError, match="smaller than the kernel's reach"):
        nn.functional.conv2d(x, w, stride=stride)


@needs_numba
def test_tables_of_large_images_are_not_kept_for_good(kernels):
    from minigrad.backends.compiled import direct

    kernels(True)
    w = mg.randn(16, 1, 3, 3)
    nn.functional.conv2d(mg.randn(1, 1, 256, 256), w)
    geometry = _geometry(np.empty((1, 1, 256, 256)), w.array, (1, 1), ((0, 0), (0, 0)), (1, 1))
    table = weakref.ref(direct.forward(geometry))
    assert direct.forward(geometry) is table()
    for more in range(8):
        nn.functional.conv2d(mg.randn(1, 1, 257 + more, 256), w)
    gc.collect()
    assert table() is None


@needs_numba
@pytest.mark.parametrize("count", [1, 3, 20])
def test_convolution_does_not_depend_on_the_number_of_threads(count, kernels):
    kernels(True)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((count, 16, 40, 40)), rng.standard_normal((32, 16, 3, 3))
    found, before = [], mg.get_num_threads()
    try:
        for threads in (1, 2, 3):
            mg.set_num_threads(threads)
            xs, ws = (mg.tensor(a, dtype="float32", requires_grad=True) for a in (x, w))
            y = nn.functional.conv2d(xs, ws, padding=1)
            (y * y).sum().backward()
            found.append([y.detach().numpy(), xs.grad.numpy(), ws.grad.numpy()])
    finally:
        mg.set_num_threads(before)
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-6 * np.abs(one).max())


@needs_numba
def test_the_algorithm_of_a_convolution_suits_its_sizes():
    from minigrad.backends.compiled.convolution import by_winograd, directly

    def geometry(count, size, channels, outputs, kernel=3, stride=1, dilation=1):
        x, w = (
            np.empty((count, channels, size, size)),
            np.empty((outputs, channels, kernel, kernel)),
        )
        pad = ((1, 1), (1, 1))
        return _geometry(x, w, (stride, stride), pad, (dilation, dilation))

    assert by_winograd(geometry(32, 32, 64, 64))
    assert not by_winograd(geometry(32, 32, 64, 32))  # transformations cost more than they save
    assert not by_winograd(geometry(1, 14, 64, 64))  # 16 tiles
    for other in ({"kernel": 5}, {"stride": 2}, {"dilation": 2}):
        assert not by_winograd(geometry(32, 32, 64, 64, **other))
    assert directly(geometry(1, 28, 1, 32), 32, 4)
    assert directly(geometry(32, 32, 3, 16, kernel=7, stride=2), 16, 4)
    assert not directly(geometry(32, 32, 3, 16), 3, 4)  # 3 of 16 sums in a row
    assert directly(geometry(32, 32, 3, 16), 4, 8)  # 4 of 8
    assert not directly(geometry(32, 32, 16, 16, kernel=1), 16, 4)  # one product
    assert directly(geometry(32, 32, 16, 16, kernel=1, stride=2), 16, 4)


@pytest.mark.parametrize("padding", [(0, 0), (1, 2), (2, 1)])
@pytest.mark.parametrize("stride", [(2, 2), (3, 2), (1, 3), (4, 1)])
@pytest.mark.parametrize("kernel", [(4, 3), (3, 5), (6, 4)])
def test_gradients_through_a_stride_by_phases_and_by_windows_agree(kernel, stride, padding):
    rng = np.random.default_rng(0)
    backend = mg.backends.numpy
    x, w = rng.standard_normal((3, 2, 11, 13)), rng.standard_normal((5, 2, *kernel))
    (top, left), (kh, kw) = padding, kernel
    g = _geometry(x, w, stride, ((top, left), (left, top)), (1, 1))
    grad = rng.standard_normal((3, *g.out, 5))
    if kh < stride[0] or kw < stride[1]:
        assert not _phases_gain(g)
        return
    by_phases, by_windows = backend._by_phases(grad, w, g), backend._spread(grad, w, g)
    np.testing.assert_allclose(by_phases, by_windows, rtol=1e-12, atol=1e-12)


def test_without_numba_the_message_says_what_to_install(monkeypatch):
    from minigrad.backends import numpy_backend

    monkeypatch.setattr(numpy_backend, "find_spec", lambda name: None)
    backend = numpy_backend.NumpyBackend()
    assert not backend.numba
    with pytest.raises(ModuleNotFoundError, match=r"minigrad\[fast\]"):
        backend.use_numba()
    backend.use_numba(False)
