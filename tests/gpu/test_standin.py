"""The stand-in fails where CuPy fails."""

import numpy as np
import pytest

from tests.gpu import device, mockcupy
from tests.gpu.mockcupy import counting
from tests.gpu.mockcupy import module as cp

pytestmark = pytest.mark.skipif(device.REAL, reason="a real GPU needs no stand-in")
HOST = np.arange(6.0).reshape(2, 3)


@pytest.fixture
def x():
    return cp.asarray(HOST)


@pytest.mark.parametrize(
    "use",
    [
        lambda x: np.asarray(x),
        lambda x: np.array(x),
        lambda x: np.float32(x),
        lambda x: np.zeros(3)[x],
        lambda x: np.zeros((2, 3)).__setitem__(..., x),
        lambda x: np.testing.assert_allclose(x, HOST),
        lambda x: np.add(HOST, x),
        lambda x: HOST + x,
        lambda x: x + HOST,
        lambda x: np.concatenate([x, x]),
        lambda x: np.sum(x),
        lambda x: cp.concatenate([x, HOST]),
        lambda x: cp.add(x, [1.0, 2.0, 3.0]),
        lambda x: cp.maximum(x, HOST),
        lambda x: cp.matmul(x, HOST.T),
        lambda x: cp.where(HOST > 0, x, x),
        lambda x: x[np.array([0, 1])],
        lambda x: x[[0, 1]],
        lambda x: x.__iadd__(HOST),
        lambda x: x.sum(axis=0, initial=1),
        lambda x: cp.amax(x, where=x > 0),
        lambda x: cp.sqrt(x, where=x > 0),
    ],
    ids=range(22),
)
def test_host_and_device_do_not_mix(x, use):
    with pytest.raises(TypeError):
        use(x)


@pytest.mark.parametrize("name", ["errstate", "vecdot", "matvec", "unstack", "block", "insert"])
def test_names_that_cupy_lacks(name):
    with pytest.raises(AttributeError, match=f"'cupy' has no attribute '{name}'"):
        getattr(cp, name)
    assert hasattr(np, name)


@pytest.mark.parametrize("name", ["__array_interface__", "__array_struct__", "setflags", "ctypes"])
def test_attributes_that_cupy_lacks(x, name):
    with pytest.raises(AttributeError):
        getattr(x, name)
    with pytest.raises(AttributeError):
        _ = x.flags.writeable


def test_reductions_have_no_axes_but_are_arrays(gpu, x):
    for value in (x.sum(), x.max(), cp.mean(x), x[0, 0], x.argmax(), (x * x).sum() / 2):
        assert type(value) is cp.ndarray
        assert value.shape == ()


def test_places_out_of_range_wrap(x):
    assert x[cp.asarray(np.array([5, -3]))].get().tolist() == HOST[[1, 1]].tolist()
    with pytest.raises(IndexError):
        x[5]


def test_a_place_written_twice_is_undefined(x):
    x[cp.asarray(np.array([0, 0]))] = cp.asarray(HOST) * 2
    assert np.isnan(x.get()[0]).all()
    x[cp.asarray(np.array([1, 1]))] = 3.0  # the same value twice
    assert (x.get()[1] == 3).all()


def test_memory_has_no_values_before_they_are_set():
    assert np.isnan(cp.empty((2, 2), dtype="float32").get()).all()
    assert np.isnan(cp.empty_like(cp.zeros(3)).get()).all()


def test_floats_too_large_become_the_largest_integer():
    x = cp.asarray(np.array([1e30, -1e30, np.nan, 2.7, np.inf]))
    info = np.iinfo("int32")
    assert x.astype("int32").get().tolist() == [info.max, info.min, 0, 2, info.max]
    assert x.astype("uint8").get().tolist() == [255, 0, 0, 2, 255]


def test_views_share_memory_as_cupys_do(x):
    for view in (x[1:], x.T, x.reshape(-1), x[1:][0], x.ravel(), cp.broadcast_to(x, (2, 2, 3))):
        assert view.base is x
    y = cp.broadcast_to(cp.zeros(1), (3,))
    y[0] = 1.0  # CuPy lets it be written to
    assert y.get().tolist() == [1, 1, 1]


def test_waiting_and_sending_are_counted(x):
    with counting() as found:
        y = (x * 2).sum()
        y += 1
    assert (found["waits"], found["uploads"]) == (0, 0)
    for read in (
        float,
        int,
        bool,
        lambda v: v.get(),
        lambda v: v.item(),
        lambda v: v.tolist(),
        str,
    ):
        with counting() as found:
            read(y)
        assert found["waits"] == 1
    for wait in (lambda: x[x > 1], lambda: cp.unique(x), lambda: x.nonzero(), lambda: cp.where(x)):
        with counting() as found:
            wait()
        assert found["waits"] == 1
    with counting() as found:
        cp.asarray(HOST)
    assert found["uploads"] == 1


def test_additions_at_places_know_few_dtypes():
    x = cp.zeros(3, dtype="int64")
    with pytest.raises(TypeError):
        cp.add.at(x, cp.asarray(np.array([0, 0])), 1)


def test_only_the_current_device_computes():
    with mockcupy.devices(2):
        with cp.cuda.Device(1):
            y = cp.zeros(3)
        with pytest.raises(RuntimeError, match="device 0 is current"):
            y + 1
        with cp.cuda.Device(1):
            assert (y + 1).device.id == 1
    with pytest.raises(mockcupy.CUDARuntimeError):
        cp.cuda.Device(7).use()


@pytest.fixture
def stream():
    """A stream that may capture, the current one."""
    with cp.cuda.Stream(non_blocking=True) as stream:
        yield stream
        if stream.is_capturing():
            stream.spoiled = False
            stream.end_capture()


def test_a_stream_captures_and_a_graph_runs_again(x, stream):
    stream.begin_capture()
    y = x * 3
    y += 1
    total = y.reshape(-1)[1:].sum() + cp.arange(1)
    graph = stream.end_capture()
    assert np.isnan(total.get())
    for _ in range(2):
        graph.launch()
        assert total.get() == (HOST * 3 + 1).reshape(-1)[1:].sum()
    x[...] = 0.0
    graph.launch()
    assert total.get() == 5
    with pytest.raises(RuntimeError):
        cp.cuda.Stream.null.begin_capture()


@pytest.mark.parametrize(
    "wait",
    [
        float,
        lambda x: x.get(),
        lambda x: cp.asarray(HOST),
        lambda x: x.reshape(1)[x.reshape(1) > 0],
        lambda x: x.reshape(1).nonzero(),
        lambda x: cp.cuda.get_current_stream().synchronize(),
        lambda x: cp.cuda.get_current_stream().done,
        lambda x: cp.cuda.runtime.deviceSynchronize(),
    ],
)
def test_what_waits_spoils_a_capture(x, stream, wait):
    stream.begin_capture()
    with pytest.raises(mockcupy.CUDARuntimeError, match="cudaErrorStreamCaptureUnsupported"):
        wait(x.sum())
    with pytest.raises(mockcupy.CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
        stream.end_capture()
    assert float(x.sum()) == HOST.sum()  # usable again


def test_a_capture_refuses_products_and_other_streams(x, stream):
    stream.begin_capture()
    for product in (
        lambda: x @ x.T,
        lambda: cp.tensordot(x, x),
        lambda: cp.einsum("ij,ij->i", x, x),
    ):
        with pytest.raises(NotImplementedError, match="cuBLAS"):
            product()
    with cp.cuda.Stream.null, pytest.raises(RuntimeError, match="another stream"):
        x + 1
    stream.end_capture()


def test_a_pool_gives_memory_again_and_does_not_grow_under_capture(x, stream):
    pool = cp.cuda.MemoryPool()
    with cp.cuda.using_allocator(pool.malloc):
        y = x + 1
        place = y.data.ptr
        del y
        stream.begin_capture(mode=cp.cuda.runtime.streamCaptureModeThreadLocal)
        y = x * 2
        assert y.data.ptr == place and pool.used_bytes() == 512
        with pytest.raises(mockcupy.CUDARuntimeError, match="cudaMalloc"):
            x * 3
        with pytest.raises(mockcupy.CUDARuntimeError, match="Invalidated"):
            stream.end_capture()
        stream.begin_capture()  # relaxed
        z = y * 3
        graph = stream.end_capture()
    held = y._host
    y[...] = 2.0
    graph.launch()
    assert (z.get() == 6).all()
    del y
    assert np.isnan(held).all()
    graph.launch()
    assert np.isnan(z.get()).all()  # a graph keeps no array alive
