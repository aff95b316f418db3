"""Modules and losses against PyTorch: values, gradients, buffers, state-dict keys and repr."""

import copy
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F
from tests.printed import as_in_pytorch

rng = np.random.default_rng(0)


def draw(*shape):
    return rng.standard_normal(shape)


def same_as_torch(make, x, mode="train", dtype="float64", tolerance=1e-7):
    """Build the module in both frameworks, with equal parameters, and compare everything."""
    torch = pytest.importorskip("torch")
    theirs = make(torch.nn).to(getattr(torch, dtype))
    ours = make(nn).to(dtype)
    ours.load_state_dict({k: mg.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    getattr(theirs, mode)(), getattr(ours, mode)()
    tx = torch.tensor(x, dtype=getattr(torch, dtype), requires_grad=True)
    mx = mg.tensor(x, dtype=dtype, requires_grad=True)
    ty, my = theirs(tx), ours(mx)
    seed = draw(*ty.shape).astype(dtype)
    ty.backward(torch.from_numpy(seed))
    my.backward(mg.from_numpy(seed))

    def close(a, b, name):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=10 * tolerance, err_msg=name)

    close(my.detach().numpy(), ty.detach().numpy(), "y")
    close(mx.grad.numpy(), tx.grad.numpy(), "dx")
    for (name, p), (their_name, q) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        assert name == their_name
        close(p.grad.numpy(), q.grad.numpy(), name)
    state = ours.state_dict()
    assert list(state) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        close(state[name].numpy(), value.numpy(), name)
    assert as_in_pytorch(ours) == repr(theirs)


@pytest.mark.parity
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda n: n.BatchNorm1d(5), (7, 5)),
        (lambda n: n.BatchNorm1d(5, momentum=None), (7, 5, 3)),
        (lambda n: n.BatchNorm1d(5, momentum=0.7, eps=1e-3, bias=False), (7, 5)),
        (lambda n: n.BatchNorm2d(5, affine=False), (7, 5, 3, 2)),
        (lambda n: n.BatchNorm2d(5, track_running_stats=False), (1, 5, 3, 2)),
        (lambda n: n.LayerNorm((3, 4)), (7, 5, 3, 4)),
        (lambda n: n.LayerNorm(4, elementwise_affine=False), (4,)),
        (lambda n: n.LayerNorm(4, bias=False, eps=0.1), (2, 4)),
        (
            lambda n: n.Sequential(
                n.Conv2d(3, 8, 3, padding=1),
                n.BatchNorm2d(8),
                n.ReLU(),
                n.MaxPool2d(2),
                n.Flatten(),
                n.Linear(8 * 4 * 4, 10),
            ),
            (4, 3, 8, 8),
        ),
    ],
)
def test_norms_and_a_cnn(make, shape, mode):
    same_as_torch(make, draw(*shape), mode)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda n: n.Linear(4, 3), (2, 5, 4)),
        (lambda n: n.Linear(4, 3, bias=False), (4,)),
        (lambda n: n.Linear(4, 3), (0, 4)),
        (lambda n: n.ReLU(), (3, 4)),
        (lambda n: n.LeakyReLU(0.2), (3, 4)),
        (lambda n: n.Sigmoid(), (3, 4)),
        (lambda n: n.Tanh(), (3, 4)),
        (lambda n: n.Softplus(2.0, 1.0), (3, 4)),
        (lambda n: n.Softmax(1), (3, 4)),
        (lambda n: n.LogSoftmax(0), (3, 4)),
        (lambda n: n.Identity(), (3, 4)),
        (lambda n: n.Flatten(), (3, 4, 2)),
        (lambda n: n.Unflatten(1, (2, 2)), (3, 4)),
        (lambda n: n.AdaptiveAvgPool2d(1), (2, 3, 8, 10)),
        (lambda n: n.AdaptiveAvgPool2d((2, 3)), (2, 3, 8, 10)),
        (lambda n: n.AdaptiveAvgPool2d((5, None)), (3, 8, 10)),
        (lambda n: n.AdaptiveAvgPool2d((4, 5)), (2, 3, 8, 10)),
    ],
)
def test_small_layers(make, shape):
    same_as_torch(make, draw(*shape))


@pytest.mark.parity
@pytest.mark.parametrize("shape", [(3, 4, 9, 10), (4, 9, 10)])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},
        {"kernel_size": 1},
        {"kernel_size": (3, 2), "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": (1, 3), "padding": (2, 0), "dilation": (1, 2)},
        {"kernel_size": 3, "dilation": 2, "padding": "same", "groups": 2},
        {"kernel_size": 4, "padding": "same", "padding_mode": "reflect"},
        {"kernel_size": 3, "padding": 2, "padding_mode": "circular", "bias": False},
        {"kernel_size": 3, "padding": (1, 2), "padding_mode": "replicate", "groups": 4},
        {"kernel_size": 2, "padding": "valid"},
    ],
)
def test_conv2d(options, shape):
    same_as_torch(lambda n: n.Conv2d(4, 8, **options), draw(*shape))


@pytest.mark.parity
@pytest.mark.parametrize("shape", [(2, 3, 7, 8), (3, 8, 7), (2, 3, 6, 9)])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
        {"kernel_size": 3, "stride": 3, "ceil_mode": True},
        {"kernel_size": (2, 3), "stride": 1},
    ],
)
def test_pooling(options, shape):
    torch = pytest.importorskip("torch")
    x = draw(*shape)
    same_as_torch(lambda n: n.MaxPool2d(**options), x)
    same_as_torch(lambda n: n.AvgPool2d(**options), x)
    same_as_torch(lambda n: n.AvgPool2d(**options, count_include_pad=False), x)
    same_as_torch(lambda n: n.AvgPool2d(**options, divisor_override=3), x)
    y, places = F.max_pool2d(mg.tensor(x), **options, return_indices=True)
    ty, their_places = torch.nn.functional.max_pool2d(
        torch.tensor(x), **options, return_indices=True
    )
    assert (y.numpy() == ty.numpy()).all()
    assert (places.numpy() == their_places.numpy()).all()


@pytest.mark.parity
def test_dilated_pooling():
    same_as_torch(lambda n: n.MaxPool2d(3, dilation=2), draw(2, 3, 9, 9))
    same_as_torch(
        lambda n: n.MaxPool2d(3, padding=1, dilation=2, stride=2, ceil_mode=True), draw(2, 3, 10, 9)
    )


def test_max_pool_of_minus_infinity_and_nan():
    x = mg.full((1, 1, 4, 4), -float("inf"))
    y, places = F.max_pool2d(x, 2, padding=1, return_indices=True)
    assert (y.numpy() == -np.inf).all()
    assert places.numpy().min() >= 0, "a border cell never wins"
    x[0, 0, 1, 1] = float("nan")
    assert F.max_pool2d(x, 2).isnan().numpy().sum() == 1


def loss_as_torch(name, *args, **options):
    torch = pytest.importorskip("torch")

    def both(value, make, leaf):
        if not isinstance(value, np.ndarray):
            return value
        return make(value, requires_grad=leaf and value.dtype.kind == "f")

    theirs = [both(a, torch.tensor, i == 0) for i, a in enumerate(args)]
    ours = [both(a, mg.tensor, i == 0) for i, a in enumerate(args)]
    ty = getattr(torch.nn.functional, name)(
        *theirs, **{k: both(v, torch.tensor, False) for k, v in options.items()}
    )
    my = getattr(F, name)(*ours, **{k: both(v, mg.tensor, False) for k, v in options.items()})
    np.testing.assert_allclose(my.detach().numpy(), ty.detach().numpy(), rtol=1e-9)
    seed = draw(*ty.shape)
    ty.backward(torch.tensor(seed))
    my.backward(mg.tensor(seed))
    np.testing.assert_allclose(ours[0].grad.numpy(), theirs[0].grad.numpy(), rtol=1e-8, atol=1e-12)


@pytest.mark.parity
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses(reduction):
    target, weight = np.array([0, 3, 2, -100, 1]), np.array([0.2, 0.3, 1.0, 2.0])
    option = {"reduction": reduction}
    for more in ({}, {"weight": weight}, {"label_smoothing": 0.1}):
        loss_as_torch("cross_entropy", draw(5, 4), target, **option, **more)
        classes = rng.integers(0, 4, (2, 3, 2))
        loss_as_torch("cross_entropy", draw(2, 4, 3, 2), classes, **option, **more)
        loss_as_torch("cross_entropy", draw(4), np.array(2), **option, **more)
        chances = rng.dirichlet(np.ones(4), 5)
        loss_as_torch("cross_entropy", draw(5, 4), chances, **option, **more)
    loss_as_torch("cross_entropy", draw(5, 4), target, weight=weight, label_smoothing=0.3, **option)
    loss_as_torch("nll_loss", draw(5, 4), target, weight=weight, **option)
    loss_as_torch("nll_loss", draw(2, 4, 3), rng.integers(0, 4, (2, 3)), **option)
    loss_as_torch("mse_loss", draw(5, 4), draw(5, 4), **option)
    loss_as_torch("l1_loss", draw(5, 4), draw(5, 4), **option)
    chance = rng.random((5, 4))
    loss_as_torch("binary_cross_entropy", rng.random((5, 4)), chance, **option)
    loss_as_torch(
        "binary_cross_entropy_with_logits",
        draw(5, 4) * 30,
        chance,
        pos_weight=weight,
        weight=draw(5, 4) ** 2,
        **option,
    )


def test_cross_entropy_stays_finite_where_softmax_rounds_to_zero():
    scores = mg.tensor([[1000.0, 0.0, -1000.0]], requires_grad=True)
    loss = F.cross_entropy(scores, mg.tensor([2]))
    assert loss.item() == 2000.0
    loss.backward()
    np.testing.assert_array_equal(scores.grad.numpy(), [[1, 0, -1]])


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda **o: nn.BatchNorm1d(3, **o), (6, 3)),
        (lambda **o: nn.BatchNorm2d(3, **o), (2, 3, 4, 5)),
        (lambda **o: nn.BatchNorm3d(3, **o), (2, 3, 2, 2, 2)),
        (lambda **o: nn.LayerNorm((3, 4), **o), (5, 3, 4)),
        (lambda **o: nn.InstanceNorm1d(3, affine=True, track_running_stats=True, **o), (2, 3, 4)),
        (lambda **o: nn.InstanceNorm2d(3, **o), (3, 4, 5)),
        (lambda **o: nn.GroupNorm(2, 4, **o), (2, 4, 5)),
        (lambda **o: nn.RMSNorm((3, 4), **o), (5, 3, 4)),
        (lambda **o: nn.LocalResponseNorm(3, alpha=0.5, **o), (2, 4, 3)),
        (lambda **o: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2, **o), (2, 4, 7)),
        (lambda **o: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2, **o), (4, 7)),
        (lambda **o: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, **o), (2, 4, 3, 4)),
        (lambda **o: nn.Unfold(2, padding=1, **o), (2, 4, 3, 4)),
        (lambda **o: nn.Fold((3, 4), 2, stride=(1, 2), **o), (2, 8, 4)),
        (lambda **o: nn.Linear(4, 2, **o), (3, 4)),
        (lambda **o: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, **o), (2, 4, 7, 6)),
    ],
)
def test_fused_and_composed_modules_agree(make, shape, train):
    x = draw(*shape)
    fused, composed = make().double().train(train), make(fused=False).double().train(train)
    composed.load_state_dict(fused.state_dict())
    results = []
    for module in (fused, composed):
        leaf = mg.tensor(x, requires_grad=True)
        y = module(leaf)
        (y * y.detach().sin()).sum().backward()
        grads = [p.grad for p in module.parameters()]
        results.append([y.detach(), leaf.grad, *grads, *module.buffers()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-11, atol=1e-12)


def test_batch_norm_of_a_large_mean_keeps_its_digits():
    x = (rng.standard_normal((256, 4)) + 1e4).astype(np.float32)
    exact = x.astype(np.float64)
    exact = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5)
    for fused in (True, False):
        y = nn.BatchNorm1d(4, fused=fused)(mg.tensor(x))
        assert np.abs(y.detach().numpy() - exact).max() < 1e-2


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("make", "shape", "axes"),
    [
        (lambda **o: nn.LayerNorm(256, **o), (4, 256), (1,)),
        (lambda **o: nn.GroupNorm(2, 8, **o), (3, 8, 64), None),
        (lambda **o: nn.InstanceNorm1d(4, **o), (3, 4, 256), (2,)),
        (lambda **o: nn.InstanceNorm2d(4, **o), (3, 4, 16, 16), (2, 3)),
        (lambda **o: nn.BatchNorm3d(4, **o), (3, 4, 4, 4, 8), (0, 2, 3, 4)),
    ],
)
def test_norms_of_a_large_mean_keep_their_digits(make, shape, axes, fused):
    x = (rng.standard_normal(shape) + 1e4).astype(np.float32)
    exact = x.astype(np.float64)
    if axes is None:  # two groups of channels
        exact, axes = exact.reshape(3, 2, -1), (2,)
    exact = exact - exact.mean(axes, keepdims=True)
    exact = exact / np.sqrt((exact * exact).mean(axes, keepdims=True) + 1e-5)
    y = make(fused=fused)(mg.tensor(x)).detach().numpy()
    assert np.abs(y - exact.reshape(shape)).max() < 1e-2


@pytest.mark.parametrize(
    ("make", "axes"),
    [
        (lambda: nn.GroupNorm(1, 2), (1, 2)),
        (lambda: nn.InstanceNorm1d(2), (2,)),
        (lambda: nn.RMSNorm(512), None),
        (lambda: nn.LocalResponseNorm(1, alpha=1.0, beta=0.5, k=0.0), ()),
    ],
)
def test_norms_of_float16_are_computed_in_float32(make, axes):
    x = (rng.choice([-1, 1], (3, 2, 512)) * rng.uniform(150, 600, (3, 2, 512))).astype(np.float16)
    y = make().half()(mg.tensor(x))
    assert y.dtype == mg.float16
    wide = x.astype(np.float64)
    if axes is None:
        exact = wide / np.sqrt((wide * wide).mean(-1, keepdims=True))
    elif not axes:
        exact = np.sign(wide)
    else:
        exact = wide - wide.mean(axes, keepdims=True)
        exact = exact / exact.std(axes, keepdims=True)
    assert np.abs(y.detach().numpy() - exact).max() < 1e-2


def test_float16_statistics_are_computed_in_float32():
    x = (rng.standard_normal((4096, 2)) * 200).astype(np.float16)  # squares overflow float16
    y = nn.BatchNorm1d(2).half()(mg.tensor(x))
    assert y.dtype == mg.float16
    exact = (x - x.astype(np.float64).mean(0)) / x.astype(np.float64).std(0)
    assert np.abs(y.detach().numpy() - exact).max() < 1e-2


def test_a_failed_forward_leaves_buffers_as_they_were():
    bn = nn.BatchNorm2d(4)
    before = copy.deepcopy(bn.state_dict())
    for wrong in (mg.randn(2, 3, 5, 5), mg.randn(2, 4), mg.randn(1, 4, 1, 1)):
        with pytest.raises(ValueError):
            bn(wrong)
    assert all(before[k].equal(v) for k, v in bn.state_dict().items())


def test_eval_mode_changes_nothing():
    bn = nn.BatchNorm1d(3).eval()
    before = copy.deepcopy(bn.state_dict())
    bn(mg.randn(5, 3))
    assert all(before[k].equal(v) for k, v in bn.state_dict().items())


def test_running_statistics_changed_between_forward_and_backward_are_noticed():
    bn = nn.BatchNorm1d(3).eval()
    y = bn(mg.randn(5, 3, requires_grad=True))
    bn.train()(mg.randn(5, 3))
    with pytest.raises(mg.GraphError, match="changed in place"):
        y.sum().backward()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16))
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def message(function):
    with pytest.raises((ValueError, RuntimeError)) as caught:
        function()
    return f"{caught.type.__name__}: {caught.value}"


def test_messages_are_those_of_the_style_guide():
    wide = nn.Sequential(nn.Sequential(nn.Identity(), nn.BatchNorm2d(16)))
    assert message(lambda: wide(mg.randn(32, 8, 14, 14))) == (
        "ShapeError: BatchNorm2d(16) expects (N, 16, H, W), got (32, 8, 14, 14): channel axis 1 "
        "has 8, not 16.  [model.0.1]"
    )
    assert message(lambda: nn.Sequential(nn.Linear(784, 100))(mg.randn(64, 28, 28))) == (
        "ShapeError: Linear(784 -> 100) got (64, 28, 28): last axis is 28, not 784. "
        "nn.Flatten() before it would give (64, 784).  [model.0]"
    )
    assert message(lambda: nn.Sequential(nn.BatchNorm1d(16))(mg.randn(1, 16))) == (
        "ValueError: BatchNorm1d needs more than one value per channel in train mode, got (1, 16); "
        "use a larger batch (drop_last=True in the DataLoader), model.eval(), or a norm that looks "
        "at one sample, such as LayerNorm or GroupNorm.  [model.0]"
    )
    assert message(lambda: mg.zeros(32, 10, requires_grad=True).backward()) == (
        "GraphError: backward() on a tensor of shape (32, 10) needs a gradient; call .sum() or "
        ".mean() first, or pass gradient=."
    )
    x = mg.randn(3, requires_grad=True)
    loss = (x * x).sum()
    loss.backward()
    assert message(loss.backward) == (
        "GraphError: this graph was freed by an earlier backward(); pass retain_graph=True to the "
        "first call."
    )
    assert message(lambda: mg.zeros(3, device="cuda")) == (
        'DeviceError: device "cuda" needs CuPy: pip install "minigrad[cuda13]". '
        "CPU needs nothing more."
    )
    assert message(lambda: Net()(mg.randn(2, 4, 8, 8))).endswith("[model.features.0]")


def test_modules_copy_and_pickle():
    net = Net()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert list(twin.state_dict()) == list(net.state_dict())
        for a, b in zip(twin.parameters(), net.parameters(), strict=True):
            assert isinstance(a, nn.Parameter)
            assert a is not b
            assert a.equal(b)


def test_load_state_dict_lists_every_fault_and_changes_nothing():
    net = Net()
    before = copy.deepcopy(net.state_dict())
    state = dict(copy.deepcopy(net.state_dict()))
    del state["head.bias"]
    state["head.biass"] = mg.zeros(2)
    state["head.weight"] = mg.zeros(3, 16)
    with pytest.raises(mg.CheckpointError) as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    assert "missing: head.bias" in text
    assert "unexpected: head.biass (did you mean 'head.bias'?)" in text
    assert "head.weight has shape (2, 16), the state dict (3, 16)" in text
    assert all(before[k].equal(v) for k, v in net.state_dict().items())
    result = net.load_state_dict({"extra": mg.zeros(1)}, strict=False)
    assert result.unexpected_keys == ["extra"]


def test_registration_and_walking():
    net = Net()
    assert [n for n, _ in net.named_modules()] == [
        "",
        "features",
        "features.0",
        "features.1",
        "head",
    ]
    assert len(list(net.parameters())) == 6
    assert [n for n, _ in net.named_buffers()] == [
        "features.1.running_mean",
        "features.1.running_var",
        "features.1.num_batches_tracked",
    ]
    net.eval()
    assert not any(m.training for m in net.modules())
    net.tied = net.head.weight
    assert len(list(net.parameters())) == 6, "a shared parameter counts once"
    with pytest.raises(TypeError, match=r"nn\.Parameter"):
        net.head.weight = mg.zeros(2, 16)
    with pytest.raises(AttributeError, match="did you mean 'head'"):
        net.haed  # noqa: B018
    net.double()
    assert net.head.weight.dtype == mg.float64
    assert net.features[1].num_batches_tracked.dtype == mg.int64


def test_hooks_of_modules():
    linear, seen = nn.Linear(2, 2), []
    first = linear.register_forward_pre_hook(lambda m, args: (args[0] * 2,))
    second = linear.register_forward_hook(lambda m, args, out: seen.append(args[0]) or out + 1)
    x = mg.ones(1, 2)
    y = linear(x)
    assert (seen[0].numpy() == 2).all()
    first.remove(), second.remove()
    np.testing.assert_allclose((linear(x * 2) + 1).detach().numpy(), y.detach().numpy())


def test_dropout_keeps_the_mean_and_follows_the_mode():
    mg.manual_seed(0)
    layer, x = nn.Dropout(0.3), mg.ones(20000)
    y = layer(x)
    assert abs(y.mean().item() - 1) < 0.02
    assert set(np.unique(y.numpy().round(4))) == {0.0, np.float32(1 / 0.7).round(4)}
    assert layer.eval()(x) is x
    z = nn.Dropout2d(0.5)(mg.ones(50, 4, 3, 3)).numpy()
    assert ((z == 0).all((2, 3)) | (z == 2).all((2, 3))).all()
    assert (F.dropout(x, 1.0).numpy() == 0).all()


@pytest.mark.parity
def test_initial_values_have_pytorchs_distribution():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0), mg.manual_seed(0)
    for make in (lambda n: n.Linear(300, 200), lambda n: n.Conv2d(16, 64, 5)):
        for p, q in zip(make(nn).parameters(), make(torch.nn).parameters(), strict=True):
            p, q = p.detach().numpy(), q.detach().numpy()
            assert abs(p.std() / q.std() - 1) < 0.15
            assert abs(np.abs(p).max() / np.abs(q).max() - 1) < 0.05


@pytest.mark.parity
def test_dropout_leaves_out_whole_channels_as_pytorch_does():
    torch = pytest.importorskip("torch")
    mg.manual_seed(0)
    for name, shape in (("dropout1d", (40, 30, 5)), ("dropout3d", (40, 30, 2, 2, 2))):
        ours = getattr(F, name)(mg.ones(shape), 0.25).numpy().reshape(40, 30, -1)
        theirs = getattr(torch.nn.functional, name)(torch.ones(shape), 0.25).numpy()
        assert set(np.unique(ours)) == set(np.unique(theirs))
        assert (ours == ours[..., :1]).all()
        assert abs((ours == 0).mean() - 0.25) < 0.05
