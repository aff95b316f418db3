"""nn.init and the containers against PyTorch: distributions, exact values, names, repr."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

RANDOM = [
    ("uniform_", (300, 200), {"a": -1.0, "b": 3.0}),
    ("normal_", (300, 200), {"mean": 1.0, "std": 0.5}),
    ("trunc_normal_", (300, 200), {"mean": 0.0, "std": 2.0, "a": -1.0, "b": 3.0}),
    ("xavier_uniform_", (300, 200), {"gain": 2.0}),
    ("xavier_normal_", (40, 30, 3, 3), {}),
    ("kaiming_uniform_", (40, 30, 3, 3), {"a": 0.3, "mode": "fan_out"}),
    ("kaiming_uniform_", (300, 200), {"nonlinearity": "relu"}),
    ("kaiming_normal_", (300, 200), {"mode": "fan_out", "nonlinearity": "tanh"}),
    ("sparse_", (300, 200), {"sparsity": 0.33, "std": 0.2}),
    ("orthogonal_", (60, 40), {"gain": 1.5}),
    ("orthogonal_", (40, 60, 2), {}),
]
EXACT = [
    ("constant_", (3, 4), {"val": 0.3}),
    ("ones_", (3, 4), {}),
    ("zeros_", (3, 4), {}),
    ("eye_", (3, 4), {}),
    ("dirac_", (4, 3, 3, 3), {}),
    ("dirac_", (4, 3, 2), {"groups": 2}),
]


@pytest.mark.parametrize(("name", "shape", "options"), RANDOM)
def test_random_values_have_the_same_distribution(name, shape, options):
    mg.manual_seed(0), torch.manual_seed(0)
    ours, theirs = mg.empty(shape), torch.empty(shape)
    assert getattr(nn.init, name)(ours, **options) is ours
    getattr(torch.nn.init, name)(theirs, **options)
    a, b = ours.numpy(), theirs.numpy()
    spread = b.std()
    assert abs(a.mean() - b.mean()) < 0.05 * spread
    assert abs(a.std() / spread - 1) < 0.05
    assert abs((a == 0).mean() - (b == 0).mean()) < 1e-3
    if "normal" not in name and name != "sparse_" and name != "orthogonal_":
        assert abs(a.min() - b.min()) < 0.05 * spread
        assert abs(a.max() - b.max()) < 0.05 * spread
    if name == "orthogonal_":
        rows = a.reshape(len(a), -1)
        rows = rows if rows.shape[0] <= rows.shape[1] else rows.T
        gain = options.get("gain", 1.0)
        np.testing.assert_allclose(rows @ rows.T, gain**2 * np.eye(len(rows)), atol=1e-5)


@pytest.mark.parametrize(("name", "shape", "options"), EXACT)
def test_exact_values(name, shape, options):
    ours, theirs = mg.empty(shape), torch.empty(shape)
    getattr(nn.init, name)(ours, **options)
    getattr(torch.nn.init, name)(theirs, **options)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize("name", ["linear", "conv2d", "sigmoid", "tanh", "relu", "selu"])
def test_gains(name):
    assert nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    slope = nn.init.calculate_gain("leaky_relu", 0.2)
    assert slope == torch.nn.init.calculate_gain("leaky_relu", 0.2)


def contained(n, array):
    parameter = n.Parameter(array((2, 3)))
    layers = [n.Linear(2, 3), n.ReLU(), n.Linear(3, 1)]

    class Net(n.Module):
        def __init__(self):
            super().__init__()
            self.list = n.ModuleList(layers)
            self.list.append(n.Identity())
            self.list.insert(1, n.Tanh())
            self.dict = n.ModuleDict({"a": n.Linear(1, 1), "b": n.Sigmoid()})
            self.dict["c"] = n.Sequential(n.Linear(2, 2), n.ReLU())
            self.values = n.ParameterList([parameter, array((4,))])
            self.values.append(n.Parameter(array((1,))))
            self.named = n.ParameterDict({"x": array((2,)), "y": parameter})

    return Net()


def test_containers_hold_the_same_under_the_same_names():
    ours, theirs = contained(nn, mg.zeros), contained(torch.nn, torch.zeros)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert repr(ours.list) == repr(theirs.list)
    assert repr(ours.dict) == repr(theirs.dict)
    for a, b in ((ours, theirs),):
        assert len(a.list) == len(b.list)
        assert [type(m).__name__ for m in a.list[1:3]] == [type(m).__name__ for m in b.list[1:3]]
        assert list(a.dict.keys()) == list(b.dict.keys())
        assert len(a.values) == len(b.values)
        assert "x" in a.named
        assert tuple(a.values[-1].shape) == tuple(b.values[-1].shape)
    for wrong in (lambda n: n.list[9], lambda n: n.dict["z"]):
        with pytest.raises((IndexError, KeyError)) as caught:
            wrong(theirs)
        with pytest.raises(caught.type):
            wrong(ours)
    with pytest.raises(KeyError):
        ours.named["z"]  # PyTorch's is an AttributeError
