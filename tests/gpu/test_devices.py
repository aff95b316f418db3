"""Tensors, modules, optimizers and files on a GPU: the user's side."""

import copy
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F
from tests.gpu import device, mockcupy

pytestmark = pytest.mark.usefixtures("gpu")


def net():
    mg.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 2),
    )


def test_running_statistics_elsewhere_are_an_error():
    x, estimates = mg.randn(4, 3, device="cuda"), (mg.zeros(3), mg.ones(3))
    with pytest.raises(mg.DeviceError, match="batch_norm got cuda:0 and cpu tensors"):
        F.batch_norm(x, *estimates, training=True)
    assert estimates[0].tolist() == [0, 0, 0]


OUT_OF_RANGE = {
    "cross_entropy": lambda x, i: F.cross_entropy(x, i),
    "embedding": lambda x, i: F.embedding(i, x),
    "gather": lambda x, i: x.gather(1, i.unsqueeze(1)),
    "one_hot": lambda x, i: F.one_hot(i, 3),
    "binary_cross_entropy": lambda x, i: F.binary_cross_entropy(i.double(), i.double()),
}


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_values_are_checked_where_that_is_asked_for(two_gpus, name, number):
    where = f"cuda:{number}"
    x, i = mg.randn(3, 3, device=where).double(), mg.tensor([0, 7, 2], device=where)
    two_gpus.check_values()
    try:
        with pytest.raises((IndexError, RuntimeError), match="7"):
            OUT_OF_RANGE[name](x, i)
        OUT_OF_RANGE[name](x, mg.tensor([0, 1, 1], device=where))
        assert np.isfinite(F.cross_entropy(x, i, ignore_index=7).item())
    finally:
        two_gpus.check_values(False)


# ---- where tensors are made, and moved ----------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda d: mg.zeros(2, 3, device=d),
        lambda d: mg.ones(2, 3, device=d),
        lambda d: mg.empty(2, 3, device=d),
        lambda d: mg.full((2, 3), 7.0, device=d),
        lambda d: mg.eye(2, 3, device=d),
        lambda d: mg.arange(6, device=d),
        lambda d: mg.linspace(0, 1, 6, device=d),
        lambda d: mg.rand(2, 3, device=d),
        lambda d: mg.randn(2, 3, device=d),
        lambda d: mg.randint(3, (2, 3), device=d),
        lambda d: mg.randperm(6, device=d),
        lambda d: mg.tensor([[1.0, 2.0]], device=d),
        lambda d: mg.as_tensor(np.ones(3), device=d),
        lambda d: mg.tril_indices(3, 3, device=d),
        lambda d: mg.zeros_like(mg.ones(3), device=d),
        lambda d: mg.zeros_like(mg.ones(3, device=d)),
        lambda d: mg.randn_like(mg.ones(3, device=d)),
        lambda d: mg.ones(3, device=d).new_zeros(2),
        lambda d: mg.ones(3, device=d).new_tensor([1, 2]),
        lambda d: mg.bernoulli(mg.full((3,), 0.5, device=d)),
        lambda d: nn.Linear(2, 3, device=d).weight,
        lambda d: nn.BatchNorm1d(3, device=d).running_var,
        lambda d: mg.ones(3).to(d),
        lambda d: mg.ones(3).to(d, mg.float64),
        lambda d: mg.ones(3).to(device=d, dtype=mg.float16, non_blocking=True),
        lambda d: mg.ones(3).to(mg.zeros(1, device=d)),
        lambda d: mg.ones(3).cuda(),
        lambda d: mg.ones(3).cuda(0, non_blocking=True),
        lambda d: nn.Linear(2, 3).to(d).weight,
        lambda d: nn.Linear(2, 3).cuda().bias,
        lambda d: nn.LSTM(2, 3).cuda(0).weight_hh_l0,
    ],
    ids=range(31),
)
@pytest.mark.parametrize("name", ["cuda", "cuda:0", 0, mg.device("cuda"), mg.device("cuda", 0)])
def test_made_where_it_is_asked_for(make, name):
    mg.manual_seed(3)
    there = make(name)
    assert there.device == "cuda:0"
    assert there.is_cuda
    assert (there.device.type, there.device.index) == ("cuda", 0)
    mg.manual_seed(3)
    if "empty" not in make.__code__.co_names and "cuda" not in make.__code__.co_names:
        assert mg.equal(there.cpu(), make("cpu").to(there.dtype)), "the same numbers"


def test_to_gives_itself_where_nothing_changes():
    x = mg.ones(3)
    y = x.cuda()
    assert x.cpu() is x
    assert y.cuda() is y
    assert y.to("cuda:0") is y
    assert y.to("cuda", copy=True) is not y
    back = y.cpu()
    back += 1
    y += 5
    assert (x.tolist(), back.tolist(), y.tolist()) == ([1] * 3, [2] * 3, [6] * 3)


def test_gradients_flow_through_transfers():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = (x.cuda() ** 2).cpu() * x
    y.sum().backward()
    assert x.grad.device == "cpu"
    assert x.grad.tolist() == [3, 12]
    (first,) = mg.grad((x.cuda() ** 3).sum(), x, create_graph=True)
    (second,) = mg.grad(first.sum(), x)
    assert second.tolist() == [6, 12]
    w = mg.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    (w.cpu() * 3).sum().backward()
    assert w.grad.device == "cuda:0"
    assert w.is_leaf and not w.cpu().is_leaf


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda x, y: x + y, "Add got cpu and cuda:0 tensors"),
        (lambda x, y: y * x, "Mul got cuda:0 and cpu tensors"),
        (lambda x, y: x @ y, "MatMul got cpu and cuda:0 tensors"),
        (lambda x, y: F.linear(y, x), "Linear got cuda:0 and cpu tensors"),
        (lambda x, y: mg.cat([x, y]), "Concatenate got cpu and cuda:0 tensors"),
        (lambda x, y: mg.where(x > 0, y, y), "Where got cpu and cuda:0 tensors"),
        (lambda x, y: F.mse_loss(x, y), "got cpu and cuda:0 tensors"),
        (lambda x, y: F.layer_norm(y, (2,), x[0], x[0]), "got cuda:0 and cpu tensors"),
        (lambda x, y: nn.Linear(2, 2)(y), "Linear got cuda:0 and cpu tensors"),
        (lambda x, y: x == y, "got cpu and cuda:0 tensors"),
        (lambda x, y: x > y, "got cpu and cuda:0 tensors"),
        (lambda x, y: x.add_(y), "Add got cpu and cuda:0 tensors"),
        (lambda x, y: y.requires_grad_() + x, "Add got cuda:0 and cpu tensors"),
        (lambda x, y: x.requires_grad_() * y, "Mul got cpu and cuda:0 tensors"),
        (lambda x, y: x[(y > 0).long()[0]], "an index must be on the CPU"),
        (lambda x, y: y.__setitem__(0, x[0]), "got cuda:0 and cpu tensors"),
        (lambda x, y: x.gather(0, y.long()), "got cpu and cuda:0 tensors"),
        (lambda x, y: F.cross_entropy(y, x[0].long()), "got cuda:0 and cpu tensors"),
        (lambda x, y: F.embedding(x.long(), y), "got cpu and cuda:0 tensors"),
        (lambda x, y: mg.equal(x, y), "got cpu and cuda:0 tensors"),
        (lambda x, y: y.lerp(x, 0.5), "got cpu and cuda:0 tensors"),
    ],
    ids=range(21),
)
def test_devices_do_not_mix(use, message):
    with pytest.raises(mg.DeviceError) as error:
        use(mg.ones(2, 2), mg.ones(2, 2, device="cuda"))
    assert message in str(error.value)


def test_a_number_in_a_tensor_goes_along():
    """As in PyTorch, a CPU tensor without axes mixes with those of a GPU."""
    x, k = mg.ones(2, device="cuda"), mg.tensor(3.0, requires_grad=True)
    for y in (x * k, k * x, x + k, x / k, k - x):
        assert y.device == "cuda:0"
    (x * k).sum().backward()
    assert (k.grad.item(), k.grad.device) == (2, "cpu")
    assert (x * np.float32(2)).tolist() == [2, 2]
    assert (x > mg.tensor(0.5)).tolist() == [True, True]


def test_indices_of_the_cpu_go_along():
    x = mg.arange(6, device="cuda").reshape(3, 2)
    assert x[[2, 0]].tolist() == [[4, 5], [0, 1]]
    assert x[mg.tensor([2, 0])].device == "cuda:0"
    assert x[mg.tensor([True, False, True])].tolist() == [[0, 1], [4, 5]]
    x[mg.tensor([0, 1])] = 7
    assert x.tolist() == [[7, 7], [7, 7], [4, 5]]


def test_numpy_and_printing():
    x = mg.tensor([1.0, 2.5], device="cuda")
    for use in (lambda: x.numpy(), lambda: np.asarray(x), lambda: np.array(x)):
        with pytest.raises(TypeError, match=r"got cuda:0; use x.cpu\(\).numpy\(\)"):
            use()
    assert repr(x) == "tensor([1.0000, 2.5000], device='cuda:0')"
    assert repr(x.requires_grad_() * 2).startswith("tensor([2., 5.], device='cuda:0', grad_fn=")
    assert repr(nn.Parameter(x)).endswith("device='cuda:0', requires_grad=True)")
    assert repr(x.device) == "device(type='cuda', index=0)"
    assert str(x.device) == f"{x.device}" == "cuda:0"
    assert (x.tolist(), x.sum().item(), float(x[0])) == ([1, 2.5], 3.5, 1.0)


def test_stretched_memory_is_not_written_to():
    with pytest.raises(mg.ShapeError, match="stretched by expand"):
        mg.ones(1, device="cuda").expand(3).add_(1)


# ---- modules, optimizers, files -----------------------------------------------------------------


def trained(model, place, steps=3, kind=optim.Adam, **options):
    model.to(place)
    optimizer = kind(model.parameters(), lr=0.05, **options)
    x = mg.randn(8, 1, 4, 4, generator=mg.Generator().manual_seed(1)).to(place)
    t = (mg.arange(8) % 2).to(place)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), t).backward()
        optimizer.step()
    return optimizer


def same(a, b, tolerance=1e-5):
    assert sorted(a) == sorted(b)
    for name in a:
        np.testing.assert_allclose(
            a[name].cpu().numpy(), b[name].cpu().numpy(), rtol=tolerance, atol=tolerance
        )


def test_a_module_moves_whole_and_trains_alike():
    here, there = net(), net()
    trained(here, "cpu")
    identities = [id(p) for p in there.parameters()]
    trained(there, "cuda")
    assert identities == [id(p) for p in there.parameters()]
    assert {t.device for t in there.state_dict().values()} == {"cuda:0"}
    assert {p.grad.device for p in there.parameters()} == {"cuda:0"}
    same(here.state_dict(), there.state_dict())
    there.cpu()
    assert {t.device for t in there.state_dict().values()} == {"cpu"}
    assert {p.grad.device for p in there.parameters()} == {"cpu"}


def test_state_dicts_and_files(tmp_path):
    model = net()
    optimizer = trained(model, "cuda")
    mg.save(model.state_dict(), tmp_path / "w.safetensors")
    mg.save(optimizer.state_dict(), tmp_path / "o.safetensors")
    for place, name in (("cpu", "cpu"), ("cuda", "cuda:0"), (None, "cpu")):
        state = mg.load(tmp_path / "w.safetensors", **({"map_location": place} if place else {}))
        assert {t.device for t in state.values()} == {name}
        same(state, model.state_dict(), 0)
    twin = net().cuda()
    twin.load_state_dict(mg.load(tmp_path / "w.safetensors"))
    assert twin[0].weight.device == "cuda:0"
    other = optim.Adam(twin.parameters(), lr=0.05)
    other.load_state_dict(mg.load(tmp_path / "o.safetensors"))
    assert {s["exp_avg"].device for s in other.state.values()} == {"cuda:0"}
    assert {s["step"].device for s in other.state.values()} == {"cpu"}


def test_the_state_of_an_optimizer_follows_by_load_state_dict():
    model = net()
    optimizer = trained(model, "cpu")
    model.cuda()
    model.zero_grad()
    x = mg.ones(8, 1, 4, 4, device="cuda")
    model(x).sum().backward()
    with pytest.raises(RuntimeError, match="on cpu, but the parameter now"):
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()


def test_copies_and_pickles():
    model = net()
    trained(model, "cuda")
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert {t.device for t in twin.state_dict().values()} == {"cuda:0"}
        same(twin.state_dict(), model.state_dict(), 0)
        with mg.no_grad():
            twin[0].weight.zero_()
        assert model[0].weight.abs().sum().item() > 0
    x = mg.ones(2, device="cuda", requires_grad=True)
    x.sum().backward()
    assert copy.deepcopy(x).grad.device == "cuda:0"


def test_a_gradient_elsewhere_is_refused():
    w = mg.ones(2, device="cuda", requires_grad=True)
    w.grad = mg.ones(2)
    with pytest.raises(mg.DeviceError, match="the grad of parameter 0 is on cpu"):
        optim.SGD([w], lr=0.1).step()


# ---- mg.cuda ------------------------------------------------------------------------------------


def test_the_module_cuda():
    assert mg.cuda.is_available()
    assert mg.cuda.device_count() >= 1
    assert mg.cuda.current_device() == 0
    assert isinstance(mg.cuda.get_device_name(), str)
    assert mg.cuda.get_device_name("cuda:0") == mg.cuda.get_device_name(0)
    assert mg.cuda.get_device_capability() >= (5, 0)
    assert mg.cuda.get_device_properties().multi_processor_count > 0
    mg.cuda.synchronize()
    free, total = mg.cuda.mem_get_info()
    assert 0 < free <= total
    mg.cuda.empty_cache()
    with pytest.raises(mg.DeviceError, match="expected a GPU"):
        mg.cuda.synchronize("cpu")
    with pytest.raises(mg.DeviceError, match="was asked for, but there"):
        mg.cuda.set_device(99)


def test_the_peak_of_memory():
    mg.cuda.reset_peak_memory_stats()
    start = mg.cuda.memory_allocated()
    x = mg.ones(1 << 18, device="cuda")
    assert mg.cuda.memory_allocated() - start >= 1 << 20
    del x
    assert mg.cuda.memory_allocated() == start
    assert mg.cuda.max_memory_allocated() - start >= 1 << 20
    stats = mg.cuda.memory_stats()
    assert stats["allocated_bytes.all.peak"] >= stats["allocated_bytes.all.current"]
    assert mg.cuda.memory_reserved() >= mg.cuda.memory_allocated()
    mg.cuda.reset_peak_memory_stats()
    assert mg.cuda.max_memory_allocated() == mg.cuda.memory_allocated()


def test_seeds_of_dropout():
    x = mg.ones(100, device="cuda")

    def draw():
        return F.dropout(x, 0.5).cpu()

    mg.manual_seed(1)
    first, second = draw(), draw()
    assert not mg.equal(first, second)
    for seed in (mg.manual_seed, mg.cuda.manual_seed, mg.cuda.manual_seed_all):
        seed(1)
        assert mg.cuda.initial_seed() == 1
        assert mg.equal(draw(), first)
    state = mg.cuda.get_rng_state()
    after = draw()
    mg.cuda.set_rng_state(state)
    assert mg.equal(draw(), after)
    assert mg.equal(after, second)


def test_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(mg.backends.cuda, "probe", lambda: mg.backends.cuda.Status(False, "none"))
    assert not mg.cuda.is_available()
    assert mg.cuda.device_count() == 0
    mg.cuda.manual_seed(1)
    mg.cuda.manual_seed_all(1)
    mg.cuda.empty_cache()


def test_philox_draws_its_known_numbers(gpu):
    """The known answers of Random123, philox4x32-10."""
    known = [
        (0, 0, 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (2**64 - 1, 2**64 - 1, 2**64 - 1, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    ]
    seed, call, _, words = known[0]
    taken = gpu.from_host(np.array([seed, call], dtype="uint64"), "cuda")
    assert gpu.to_host(gpu.random_words(taken, 4)).tolist() == words
    assert gpu.to_host(gpu.random_words(taken, 3)).tolist() == words[:3]


# ---- two GPUs -----------------------------------------------------------------------------------


def test_two_gpus(two_gpus):
    assert mg.cuda.device_count() == 2
    x = mg.ones(2, 2, device="cuda:1", requires_grad=True)
    y = (x * 2 + 1).sum() + (x.to("cuda:0") * 3).sum().to("cuda:1")
    assert y.device == "cuda:1"
    y.backward()
    assert (x.grad.device, x.grad.tolist()) == ("cuda:1", [[5, 5], [5, 5]])
    assert mg.cuda.current_device() == 0
    with pytest.raises(mg.DeviceError, match="Add got cuda:1 and cuda:0 tensors"):
        x + mg.ones(2, 2, device="cuda:0")
    with mg.cuda.device(1):
        assert mg.zeros(1, device="cuda").device == "cuda:1"
    mg.cuda.set_device("cuda:1")
    assert mg.cuda.current_device() == 1
    assert mg.zeros(1).cuda().device == "cuda:1"
    mg.cuda.set_device(0)
    assert (x > 0).device == "cuda:1"


def test_a_step_on_the_second_gpu(two_gpus):
    here, there = net(), net()
    trained(here, "cpu")
    trained(there, "cuda:1")
    same(here.state_dict(), there.state_dict())
    assert mg.cuda.current_device() == 0


def test_the_standin_is_what_runs():
    if not device.REAL:
        assert mg.backends.cuda_backend().module is mockcupy.module


# ---- kernels, and how exact they are ------------------------------------------------------------


def test_the_backend_of_a_real_gpu_has_the_kernels_in_front(gpu):
    from minigrad.backends import CupyBackend
    from minigrad.backends.cuda.backend import CudaBackend
    from minigrad.backends.cuda.kernels import CudaKernels

    own = {name for kind in CudaKernels.__mro__ for name in vars(kind) if name[0] != "_"}
    assert {"batch_norm", "adam_update", "dropout", "matmul", "max_pool2d"} <= own
    backend = CudaBackend(gpu.module)
    for name in ("batch_norm", "adam_update", "dropout", "conv2d", "linear"):
        assert getattr(type(backend), name) is not getattr(CupyBackend, name)
    for name in ("erf", "index_add", "from_host", "device_of"):
        assert getattr(type(backend), name) is getattr(CupyBackend, name)
    assert backend.blas is not None


def test_float32_matmul_precision(gpu):
    from minigrad.backends import backends
    from minigrad.backends.cuda.backend import CudaBackend

    assert mg.get_float32_matmul_precision() == "highest"
    before, backend = backends[gpu.array_type], CudaBackend(gpu.module)
    mg.backends.register(backend)
    try:
        for precision, tf32 in (("high", True), ("medium", True), ("highest", False)):
            mg.set_float32_matmul_precision(precision)
            assert mg.get_float32_matmul_precision() == precision
            assert backend.blas.tf32 is tf32
        with pytest.raises(ValueError, match="precision must be one of highest, high, medium"):
            mg.set_float32_matmul_precision("low")
    finally:
        mg.set_float32_matmul_precision("highest")
        mg.backends.register(before)
