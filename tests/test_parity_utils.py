"""nn.utils and the rest of Module against PyTorch: clipping, parametrizations, fusion, hooks."""

import copy
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn.utils import parametrize
from tests.printed import as_in_pytorch

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
rng = np.random.default_rng(5)


def draw(*shape):
    return rng.standard_normal(shape)


def close(a, b, tolerance=1e-10):
    a, b = (x.detach().numpy() if hasattr(x, "detach") else np.asarray(x) for x in (a, b))
    np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance)


def pair(make):
    """One module in both frameworks, float64, with equal state."""
    theirs, ours = make(torch.nn).double(), make(nn).double()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def mlp(n):
    return n.Sequential(n.Linear(3, 4), n.Tanh(), n.Linear(4, 2))


def backward(*modules):
    x = draw(5, 3)
    for module in modules:
        make = torch.tensor if isinstance(module, torch.nn.Module) else mg.tensor
        module.zero_grad()
        (module(make(x)) ** 2).sum().backward()


# ---- clipping and vectors -----------------------------------------------------------------------


@pytest.mark.parametrize("norm_type", [2.0, 1, 0.5, 3, float("inf"), 0])
@pytest.mark.parametrize("max_norm", [0.1, 1e3])
def test_clip_grad_norm(norm_type, max_norm):
    theirs, ours = pair(mlp)
    backward(theirs, ours)
    a, b = (
        lib.nn.utils.clip_grad_norm_(m.parameters(), max_norm, norm_type)
        for lib, m in ((torch, theirs), (mg, ours))
    )
    close(a, b)
    for p, q in zip(theirs.parameters(), ours.parameters(), strict=True):
        close(p.grad, q.grad)
    grads = [[p.grad for p in m.parameters()] for m in (theirs, ours)]
    close(
        torch.nn.utils.get_total_norm(grads[0], norm_type),
        nn.utils.get_total_norm(grads[1], norm_type),
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("max_norm", [0, 0.1, 1e6])
def test_one_kernel_clips_as_operations_do(dtype, max_norm):
    """The same bits: a captured step clips by operations."""
    rng, shapes = np.random.default_rng(0), [(40, 30), (7,), (2, 3, 4), (), (0, 3)]
    params = [nn.Parameter(mg.zeros(*shape, dtype=dtype)) for shape in shapes]
    values = [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in shapes]
    bits = []
    for by_kernel in (True, False):
        for p, g in zip(params, values, strict=True):
            p.grad = mg.tensor(g.copy())
        if by_kernel:
            norm = nn.utils.clip_grad_norm_(params, max_norm)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in params])
            nn.utils.clip_grads_with_norm_(params, max_norm, norm)
        bits.append([(t.dtype, t.numpy().tobytes()) for t in (norm, *(p.grad for p in params))])
    assert bits[0] == bits[1]


def test_clipping_notes_the_change():
    """A gradient that an op kept for its own rule is guarded, as in any change in place."""
    w = mg.ones(3, requires_grad=True)
    w.grad = mg.full((3,), 2.0)
    kept = mg.ones(3, requires_grad=True) * w.grad
    nn.utils.clip_grad_norm_(w, 1.0)
    with pytest.raises(mg.GraphError, match="changed in place"):
        kept.sum().backward()


def test_clipping_of_one_tensor_of_none_and_by_value():
    theirs, ours = pair(mlp)
    backward(theirs, ours)
    for lib, m in ((torch, theirs), (mg, ours)):
        lib.nn.utils.clip_grad_norm_(m[0].weight, 0.1)
        lib.nn.utils.clip_grad_value_(m[2].weight, 0.05)
        lib.nn.utils.clip_grads_with_norm_(m[2].bias, 0.1, lib.tensor(0.7))
    for p, q in zip(theirs.parameters(), ours.parameters(), strict=True):
        close(p.grad, q.grad, 1e-7)
    ours.zero_grad()
    assert nn.utils.clip_grad_norm_(list(ours.parameters()), 1.0).item() == 0
    used = ours.parameters()
    list(used)
    with pytest.warns(UserWarning, match="empty generator"):
        nn.utils.clip_grad_norm_(used, 1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_norm_that_is_not_finite(value):
    for lib in (torch, mg):
        p = lib.nn.Parameter(lib.zeros(2))
        p.grad = lib.tensor([1.0, value])
        with pytest.raises(RuntimeError, match="error_if_nonfinite=False"):
            lib.nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
        assert p.grad[0].item() == 1, "nothing was clipped"
        lib.nn.utils.clip_grad_norm_(p, 1.0)
        assert not np.isfinite(p.grad[1].item())


def test_parameters_as_a_vector():
    theirs, ours = pair(mlp)
    a = torch.nn.utils.parameters_to_vector(theirs.parameters())
    b = nn.utils.parameters_to_vector(ours.parameters())
    close(a, b)
    (b * b).sum().backward()
    close(ours[2].bias.grad, 2 * ours[2].bias)
    vector = mg.arange(26, dtype="float64")
    nn.utils.vector_to_parameters(vector, ours.parameters())
    torch.nn.utils.vector_to_parameters(torch.arange(26).double(), theirs.parameters())
    for p, q in zip(theirs.parameters(), ours.parameters(), strict=True):
        close(p, q)
    vector[0] = 7
    assert ours[0].weight[0, 0].item() == 7, "the memory is shared"
    with pytest.raises(RuntimeError, match="26 elements"):
        nn.utils.vector_to_parameters(mg.zeros(25), ours.parameters())


# ---- parametrizations ---------------------------------------------------------------------------


def normed(n, kind, layer, **options):
    utils = n.utils.parametrizations
    return getattr(utils, kind)(layer(n), **options)


LAYERS = {
    "Linear": (lambda n: n.Linear(4, 3), (5, 4)),
    "Conv2d": (lambda n: n.Conv2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("weight_norm", {}),
        ("weight_norm", {"dim": 1}),
        ("weight_norm", {"dim": None}),
        ("spectral_norm", {}),
        ("spectral_norm", {"dim": 1, "n_power_iterations": 3, "eps": 1e-6}),
    ],
)
def test_norms_of_weights(kind, options, layer, mode):
    make, shape = LAYERS[layer]
    theirs, ours = (normed(n, kind, make, **options) for n in (torch.nn, nn))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [k for k, _ in ours.named_parameters()] == [k for k, _ in theirs.named_parameters()]
    theirs, ours = theirs.double(), ours.double()
    ours.load_state_dict(theirs.state_dict())
    getattr(theirs, mode)(), getattr(ours, mode)()
    x = draw(*shape)
    for _ in range(2):  # the power method goes on
        a, b = theirs(torch.tensor(x)), ours(mg.tensor(x))
        close(a, b)
        seed = draw(*a.shape)
        a.backward(torch.tensor(seed)), b.backward(mg.tensor(seed))
    for p, q in zip(theirs.parameters(), ours.parameters(), strict=True):
        close(p.grad, q.grad, 1e-9)
    for key, value in theirs.state_dict().items():
        close(value, ours.state_dict()[key])
    close(theirs.weight.shape, ours.weight.shape)
    assert type(ours).__name__ == type(theirs).__name__


def test_weight_norm_starts_where_the_weight_was():
    layer = nn.Linear(4, 3)
    before = layer.weight.detach().clone()
    nn.utils.parametrizations.weight_norm(layer)
    np.testing.assert_allclose(layer.weight.detach().numpy(), before.numpy(), rtol=1e-6)
    assert [k for k, _ in layer.named_parameters()] == [
        "bias",
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    ]
    layer.weight = before * 2
    np.testing.assert_allclose(layer.weight.detach().numpy(), 2 * before.numpy(), rtol=1e-6)
    nn.utils.parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear
    assert isinstance(layer.weight, nn.Parameter)
    np.testing.assert_allclose(layer.weight.detach().numpy(), 2 * before.numpy(), rtol=1e-6)


def test_the_spectral_norm_is_the_largest_singular_value():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 5).double())
    for _ in range(200):
        weight = layer.weight
    assert abs(np.linalg.svd(weight.detach().numpy())[1][0] - 1) < 1e-9
    assert mg.gradcheck(
        lambda w: layer.eval().parametrizations.weight[0](w), layer.parametrizations.weight.original
    )


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).mT

    def right_inverse(self, x):
        return x.triu()


class Scaled(nn.Module):
    def forward(self, x):
        return x * 2


def test_parametrizations_of_ones_own():
    layer = nn.Linear(3, 3)
    weight = layer.weight
    assert not parametrize.is_parametrized(layer)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    assert layer.parametrizations.weight.original is weight, "the optimizer's parameter"
    assert layer.weight.equal(layer.weight.mT)
    parametrize.register_parametrization(layer, "weight", Scaled())
    assert parametrize.is_parametrized(layer, "weight")
    assert not parametrize.is_parametrized(layer, "bias")
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    (layer(mg.ones(2, 3)) ** 2).sum().backward()
    assert weight.grad is not None
    with pytest.raises(RuntimeError, match="right_inverse"):
        layer.weight = mg.ones(3, 3)
    with parametrize.cached():
        assert layer.weight is layer.weight
    assert layer.weight is not layer.weight
    twin = copy.deepcopy(layer)
    assert twin.weight.equal(layer.weight)
    assert twin.parametrizations.weight.original is not weight
    with pytest.raises(RuntimeError, match="state_dict"):
        pickle.dumps(layer)
    value = layer.weight.detach().clone()
    parametrize.remove_parametrizations(layer, "weight")
    assert layer.weight is weight
    assert layer.weight.equal(value)
    assert list(layer.state_dict()) == ["bias", "weight"]
    parametrize.register_parametrization(layer, "weight", Scaled())
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert layer.weight.equal(value)


def test_a_parametrized_buffer_and_repr():
    def make(n, module):
        layer = n.BatchNorm1d(2)
        n.utils.parametrize.register_parametrization(layer, "running_mean", module)
        return layer

    class Theirs(torch.nn.Module):
        def forward(self, x):
            return x * 2

    Theirs.__name__ = "Scaled"
    theirs, ours = make(torch.nn, Theirs()), make(nn, Scaled())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert as_in_pytorch(ours) == repr(theirs)
    close(theirs.running_mean, ours.running_mean)


# ---- fusion -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_a_batch_norm_folded_into_the_layer_before_it(kind, affine, bias):
    if kind == "conv":
        model = nn.Sequential(
            nn.Conv2d(4, 6, 3, groups=2, bias=bias), nn.BatchNorm2d(6, affine=affine)
        )
        x, fuse = mg.tensor(draw(3, 4, 6, 6)), nn.utils.fuse_conv_bn_eval
    else:
        model = nn.Sequential(nn.Linear(4, 6, bias=bias), nn.BatchNorm1d(6, affine=affine))
        x, fuse = mg.tensor(draw(9, 4)), nn.utils.fuse_linear_bn_eval
    model.double()
    for _ in range(3):
        model(x * 3 + 1)
    for p in model[1].parameters():
        p.data = p.data + mg.tensor(draw(6))
    model.eval()
    fused = fuse(model[0], model[1])
    np.testing.assert_allclose(
        fused(x).detach().numpy(), model(x).detach().numpy(), rtol=1e-6, atol=1e-12
    )
    assert type(fused) is type(model[0])
    assert fused is not model[0]


@pytest.mark.parametrize("transpose", [True, False])
def test_fused_weights(transpose):
    arrays = [draw(3, 3, 2, 2), draw(3), draw(3), draw(3) ** 2, 1e-3, draw(3), draw(3)]
    results = []
    for lib in (torch, mg):
        args = [lib.tensor(a) if isinstance(a, np.ndarray) else a for a in arrays]
        args[0].requires_grad_()
        results.append(lib.nn.utils.fuse_conv_bn_weights(*args, transpose))
        args[0] = args[0][:, :, 0, 0]
        results[-1] += lib.nn.utils.fuse_linear_bn_weights(*args)
    for a, b in zip(*results, strict=True):
        close(a, b)
        assert b.requires_grad == a.requires_grad


# ---- Module -------------------------------------------------------------------------------------


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, a, b=None, scale=1.0):
        return self.linear(a) * scale, (a if b is None else b) * 2


class TheirTwo(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)

    forward = Two.forward


def test_backward_hooks_of_several_inputs_and_outputs():
    theirs, ours = TheirTwo().double(), Two().double()
    ours.load_state_dict(theirs.state_dict())
    a, b, seen = draw(2, 3), draw(4, 3), []
    for module, make in ((theirs, torch.tensor), (ours, mg.tensor)):
        calls = []
        module.register_full_backward_pre_hook(
            lambda m, out, calls=calls: (calls.append(("pre", out)), (out[0] * 3, out[1]))[1]
        )
        module.register_full_backward_hook(
            lambda m, into, out, calls=calls: (
                calls.append(("full", into, out)),
                tuple(None if g is None else g * 2 for g in into),
            )[1]
        )
        x, y = make(a).requires_grad_(), make(b).requires_grad_()
        p, q = module(x, y, 0.5)
        ((p**2).sum() + (q**3).sum()).backward()
        seen.append((calls, x.grad, y.grad, module.linear.weight.grad))
    (their_calls, *their_grads), (our_calls, *our_grads) = seen
    assert [c[0] for c in our_calls] == [c[0] for c in their_calls] == ["pre", "full"]
    for mine, other in zip(our_calls, their_calls, strict=True):
        for grads, wanted in zip(mine[1:], other[1:], strict=True):
            assert len(grads) == len(wanted)
            for g, w in zip(grads, wanted, strict=True):
                assert (g is None) == (w is None)
                if g is not None:
                    close(w, g)
    for g, w in zip(our_grads, their_grads, strict=True):
        close(w, g)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("learns", [True, False])
def test_backward_hooks_in_a_model(learns):
    theirs, ours = pair(mlp)
    x, seen = draw(5, 3), []
    for model, make in ((theirs, torch.tensor), (ours, mg.tensor)):
        calls = []
        for i in (0, 2):
            model[i].register_full_backward_hook(
                lambda m, into, out, i=i, calls=calls: calls.append((i, into, out))
            )
        leaf = make(x)
        leaf.requires_grad = learns
        (model(leaf) ** 2).sum().backward()
        seen.append(calls)
        with torch.no_grad(), mg.no_grad():
            model(leaf)
    assert [c[0] for c in seen[0]] == [c[0] for c in seen[1]] == [2, 0]
    for w, g in zip(*seen, strict=True):
        assert (w[1][0] is None) == (g[1][0] is None)
        if w[1][0] is not None:
            close(w[1][0], g[1][0])
        close(w[2][0], g[2][0])
    for p, q in zip(theirs.parameters(), ours.parameters(), strict=True):
        close(p.grad, q.grad)


def test_backward_hooks_to_second_order():
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh()).double()
    model.register_full_backward_hook(lambda m, into, out: None)
    x = mg.tensor(draw(2, 3), requires_grad=True)
    assert mg.gradgradcheck(model, [x])


def test_backward_hooks_that_return_the_wrong_number():
    for n, make in ((torch.nn, torch.ones), (nn, mg.ones)):
        layer = n.Linear(2, 2)
        layer.register_full_backward_hook(lambda m, into, out: (into[0], into[0]))
        with pytest.raises(RuntimeError, match="grad_input"):
            layer(make(1, 2).requires_grad_()).sum().backward()
        layer = n.Linear(2, 2)
        layer.register_full_backward_pre_hook(lambda m, out: (out[0], out[0]))
        with pytest.raises(RuntimeError, match="grad_output"):
            layer(make(1, 2).requires_grad_()).sum().backward()


def test_a_watched_module_must_not_work_in_place():
    for n, make in ((torch.nn, torch.ones), (nn, mg.ones)):
        layer = n.ReLU(inplace=True)
        layer.register_full_backward_hook(lambda m, into, out: None)
        with pytest.raises(RuntimeError, match="view"):
            layer(make(2).requires_grad_() * 2)


def test_a_module_without_super_init():
    class Forgetful(nn.Module):
        def __init__(self):
            pass

        def forward(self, x):
            return x

    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\)"):
        Forgetful()(1)


def test_forward_hooks_with_everything():
    log = []
    for two, make in ((TheirTwo(), torch.ones), (Two(), mg.ones)):
        calls = []
        two.register_forward_hook(lambda m, a, out, calls=calls: calls.append("last"))
        two.register_forward_hook(
            lambda m, a, k, out, calls=calls: calls.append(("kw", sorted(k), len(a))),
            with_kwargs=True,
            prepend=True,
        )
        two.register_forward_pre_hook(lambda m, a, calls=calls: calls.append("pre"))
        two.register_forward_pre_hook(
            lambda m, a, k, calls=calls: (calls.append("first"), (a, {**k, "scale": 0.0}))[1],
            with_kwargs=True,
            prepend=True,
        )
        y, _ = two(make(1, 3), b=make(1, 3))
        assert float(abs(y.detach()).sum()) == 0
        two.register_forward_hook(
            lambda m, a, out, calls=calls: calls.append(("always", out is None)), always_call=True
        )
        with pytest.raises(TypeError):
            two(make(1, 3), unknown=1)
        log.append(calls)
    assert log[0] == log[1]


def test_a_hook_that_fails_after_an_error_warns():
    two = Two()
    two.register_forward_hook(lambda m, a, out: 1 / 0, always_call=True)
    with pytest.warns(UserWarning, match="always_call"), pytest.raises(TypeError):
        two(unknown=1)
    pre = two.register_forward_pre_hook(lambda m, a, k: 1, with_kwargs=True)
    with pytest.raises(RuntimeError, match=r"\(args"), pytest.warns(UserWarning):
        two(mg.ones(1, 3))
    pre.remove()


def test_walking_and_replacing():
    for n in (torch.nn, nn):
        shared = n.Linear(2, 2)
        model = n.Sequential(OrderedDict(a=shared, b=shared, c=n.BatchNorm1d(2)))
        assert [name for name, _ in model.named_children()] == ["a", "c"]
        assert model.get_buffer("c.running_mean") is model.c.running_mean
        for wrong in ("c.weight", "c.unknown", "a.weight.x"):
            with pytest.raises(AttributeError):
                model.get_buffer(wrong)
        model.set_submodule("c", n.Identity())
        assert isinstance(model.c, n.Identity)
        model.set_submodule("a.extra", n.ReLU())
        assert isinstance(model.a.extra, n.ReLU)
        with pytest.raises(AttributeError):
            model.set_submodule("a.other", n.ReLU(), strict=True)
        with pytest.raises(AttributeError):
            model.set_submodule("a.weight", n.ReLU())
        with pytest.raises(ValueError):
            model.set_submodule("", n.ReLU())
        with pytest.raises(ValueError):
            model.set_submodule("a", 3)
        names = dir(model)
        assert names == sorted(names)
        assert {"a", "b", "c"} <= set(names)
        assert not [x for x in dir(n.Sequential(n.ReLU())) if x[0].isdigit()]


def test_dtypes_and_memory():
    for lib in (torch, mg):
        model = lib.nn.BatchNorm1d(2)
        assert model.half().weight.dtype == lib.float16
        assert model.num_batches_tracked.dtype == lib.int64
        assert model.type(lib.float64).num_batches_tracked.dtype == lib.float64
        assert model.to_empty(device="cpu") is model
        assert model.weight.dtype == lib.float64
    with pytest.raises(TypeError, match="half"):
        nn.Linear(1, 1).bfloat16()
    with pytest.raises(TypeError, match="floating"):
        nn.Linear(1, 1).type("int64")


def test_state_dicts_with_a_destination_and_hooks():
    results = []
    for n in (torch.nn, nn):
        model, calls = n.Sequential(n.Linear(2, 1)), []
        model.register_buffer("seen", (torch if n is torch.nn else mg).zeros(1), persistent=False)
        model.register_state_dict_pre_hook(
            lambda m, prefix, keep, calls=calls: calls.append((prefix, keep))
        )

        def post(m, state, prefix, meta, calls=calls):
            calls.append(prefix)
            state[prefix + "more"] = state[prefix + "0.bias"]

        model.register_state_dict_post_hook(post)
        kept = OrderedDict(first=1)
        state = model.state_dict(destination=kept, prefix="p.", keep_vars=True)
        assert state is kept
        assert state["p.0.bias"] is model[0].bias

        def load(m, keys, calls=calls):
            calls.append((list(keys.missing_keys), list(keys.unexpected_keys)))
            keys.unexpected_keys.clear()

        model.register_load_state_dict_post_hook(load)
        model.register_load_state_dict_pre_hook(
            lambda m, state, *rest, calls=calls: calls.append((len(state), rest[0], rest[2]))
        )
        model.load_state_dict(model.state_dict())
        results.append((list(state), calls))
    assert results[0] == results[1]


def test_assigning_a_state_dict():
    for lib in (torch, mg):
        model = lib.nn.BatchNorm1d(2)
        model.bias.requires_grad_(False)
        weight, mean = model.weight, model.running_mean
        state = {k: v.clone() for k, v in model.state_dict().items()}
        state["weight"] = lib.nn.Parameter(lib.ones(2).double() * 3)
        state["bias"] = lib.ones(2).double()
        model.load_state_dict(state, assign=True)
        assert model.weight is state["weight"]
        assert weight[0].item() == 1, "the old parameter is as it was"
        assert isinstance(model.bias, lib.nn.Parameter)
        assert model.bias.dtype == lib.float64
        assert not model.bias.requires_grad
        assert model.running_mean is not mean
        state["running_mean"][0] = 9
        assert model.running_mean[0].item() == 9, "the memory is shared"
        assert list(model.state_dict()) == list(lib.nn.BatchNorm1d(2).state_dict())


# ---- misuse -------------------------------------------------------------------------------------


class Their(torch.nn.Module):
    def __init__(self, f, inverse=None):
        super().__init__()
        self.forward = f
        if inverse:
            self.right_inverse = inverse


class Our(nn.Module):
    def __init__(self, f, inverse=None):
        super().__init__()
        self.forward = f
        if inverse:
            self.right_inverse = inverse


def register(n, t, f, inverse=None, name="weight", twice=False):
    layer, kind = n.Linear(2, 2), Their if n is torch.nn else Our
    p = n.utils.parametrize
    if twice:
        p.register_parametrization(layer, name, kind(lambda x: x))
    p.register_parametrization(layer, name, kind(f, inverse))
    return layer


MISUSE = {
    "no such tensor": (lambda n, t: register(n, t, lambda x: x, name="w"), "weight, bias"),
    "another shape": (lambda n, t: register(n, t, lambda x: x[0]), "unsafe=True"),
    "another dtype": (lambda n, t: register(n, t, lambda x: x.double()), "unsafe=True"),
    "no tensor": (lambda n, t: register(n, t, lambda x: 3), "must return a tensor"),
    "another shape, later": (lambda n, t: register(n, t, lambda x: x[0], twice=True), "unsafe"),
    "several, later": (
        lambda n, t: register(n, t, lambda x: x, lambda x: (x, x), twice=True),
        "tuple",
    ),
    "inverse of another dtype": (
        lambda n, t: register(n, t, lambda x: x, lambda x: x.double()),
        "dtype",
    ),
    "inverse that is a number": (lambda n, t: register(n, t, lambda x: x, lambda x: 3), "int"),
    "nothing to remove": (
        lambda n, t: n.utils.parametrize.remove_parametrizations(n.Linear(2, 2), "weight"),
        "to remove",
    ),
    "no original": (
        lambda n, t: n.utils.parametrize.remove_parametrizations(
            n.utils.parametrizations.weight_norm(n.Linear(2, 2)), "weight", False
        ),
        "leave_parametrized=True",
    ),
    "spectral norm of nothing": (
        lambda n, t: n.utils.parametrizations.spectral_norm(n.Linear(2, 2), "w"),
        "weight, bias",
    ),
    "spectral norm's axis": (
        lambda n, t: n.utils.parametrizations.spectral_norm(n.Linear(2, 2), dim=2),
        "from -2 to 1",
    ),
    "spectral norm's steps": (
        lambda n, t: n.utils.parametrizations.spectral_norm(n.Linear(2, 2), n_power_iterations=0),
        "at least 1",
    ),
    "weight norm's axis": (
        lambda n, t: n.utils.parametrizations.weight_norm(n.Linear(2, 2), dim=3),
        "from 0 to 1",
    ),
    "fusing in train mode": (
        lambda n, t: n.utils.fuse_conv_bn_eval(n.Conv2d(1, 1, 1), n.BatchNorm2d(1)),
        "eval",
    ),
    "fusing without statistics": (
        lambda n, t: n.utils.fuse_linear_bn_eval(
            n.Linear(2, 2).eval(), n.BatchNorm1d(2, track_running_stats=False).eval()
        ),
        "track_running_stats",
    ),
    "fusing other sizes": (
        lambda n, t: n.utils.fuse_linear_bn_eval(n.Linear(2, 2).eval(), n.BatchNorm1d(3).eval()),
        "out_features=2",
    ),
    "a vector that is a list": (
        lambda n, t: n.utils.vector_to_parameters([1.0], n.Linear(1, 1).parameters()),
        "minigrad.tensor",
    ),
    "a short vector": (
        lambda n, t: n.utils.vector_to_parameters(t.ones(1), n.Linear(1, 1).parameters()),
        "2 elements",
    ),
    "a state dict that is a list": (lambda n, t: n.Linear(1, 1).load_state_dict([1]), "minigrad"),
    "missing keys": (lambda n, t: n.Linear(1, 1).load_state_dict({}), "missing: weight"),
    "a value that is a list": (
        lambda n, t: n.Linear(1, 1).load_state_dict({"weight": [[1.0]], "bias": [1.0]}),
        "no tensor but list",
    ),
    "other shapes": (
        lambda n, t: n.Linear(1, 1).load_state_dict({"weight": t.ones(2, 2), "bias": t.ones(1)}),
        r"\(2, 2\)",
    ),
    "a name that is a number": (lambda n, t: n.Linear(1, 1).register_buffer(3, None), "string"),
    "a name with a dot": (lambda n, t: n.Linear(1, 1).register_buffer("a.b", None), "dots"),
    "a module that is none": (lambda n, t: n.Linear(1, 1).get_submodule("weight"), "not a module"),
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse(name):
    call, says = MISUSE[name]
    with pytest.raises(Exception) as theirs:
        call(torch.nn, torch)
    with pytest.raises(theirs.type, match=says):
        call(nn, mg)
