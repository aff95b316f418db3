"""Folding a model's BatchNorms, beginning residual blocks with gamma 0, groups with a rate."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn.utils import fold

rng = np.random.default_rng(0)


def draw(*shape):
    return mg.tensor(rng.standard_normal(shape))


def trained(model, *shape):
    """With statistics, gammas and betas of its own, in eval mode."""
    model = model.double()
    with mg.no_grad():
        for _ in range(3):
            model(draw(*shape) * 2 + 1)
        for m in model.modules():
            if isinstance(m, nn.norm._BatchNorm):
                for p in m.parameters(recurse=False):
                    p += draw(*p.shape) / 2
    return model.eval()


class Block(nn.Module):
    def __init__(self, into, out):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out)
        self.short = nn.Sequential(nn.Conv2d(into, out, 1), nn.BatchNorm2d(out))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.short(x)).relu()


CHAINS = {
    "perceptron": (
        lambda: nn.Sequential(
            nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3), nn.BatchNorm1d(3)
        ),
        (8, 4),
        [("0", "1"), ("3", "4")],
    ),
    "images": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3, groups=2, padding=1, padding_mode="reflect"),
            nn.BatchNorm2d(6, affine=False),
            nn.ConvTranspose2d(6, 4, 3, stride=2, bias=False),
            nn.BatchNorm2d(4, bias=False),
        ),
        (3, 4, 5, 5),
        [("0", "1"), ("2", "3")],
    ),
    "sequences": (
        lambda: nn.Sequential(
            nn.Sequential(nn.Conv1d(2, 3, 2), nn.Sequential(nn.BatchNorm1d(3), nn.ReLU())),
            nn.ConvTranspose1d(3, 3, 2),
            nn.BatchNorm1d(3),
        ),
        (4, 2, 6),
        [("0.0", "0.1.0"), ("1", "2")],
    ),
    "frozen": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5).freeze(updates=False)),
        (8, 4),
        [("0", "1")],
    ),
}


@pytest.mark.parametrize("shown", [False, True], ids=["by place", "by graph"])
@pytest.mark.parametrize("name", CHAINS)
def test_every_pair_of_a_sequential(name, shown):
    make, shape, pairs = CHAINS[name]
    model, x = trained(make(), *shape), draw(*shape)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    made, folded, left = fold(model, *([x] if shown else []))
    assert (folded, left) == (pairs, [])
    assert not any(isinstance(m, nn.norm._BatchNorm) for m in made.modules())
    np.testing.assert_allclose(
        made(x).detach().numpy(), model(x).detach().numpy(), rtol=1e-10, atol=1e-12
    )
    assert all(before[k].equal(v) for k, v in model.state_dict().items())
    assert not made.training


def test_any_forward_by_its_graph():
    model = trained(nn.Sequential(Block(2, 4), Block(4, 4)), 3, 2, 6, 6)
    x = draw(3, 2, 6, 6)
    made, folded, left = fold(model, x)
    names = [("conv1", "bn1"), ("conv2", "bn2"), ("short.0", "short.1")]
    assert folded == [(f"{i}.{a}", f"{i}.{b}") for i in "01" for a, b in names]
    assert left == []
    np.testing.assert_allclose(
        made(x).detach().numpy(), model(x).detach().numpy(), rtol=1e-10, atol=1e-12
    )
    # without the example only what stands in a Sequential is known
    _, folded, left = fold(model)
    assert [n for _, n in folded] == ["0.short.1", "1.short.1"]
    assert {n: "pass an example" in why for n, why in left} == dict.fromkeys(
        ["0.bn1", "0.bn2", "1.bn1", "1.bn2"], True
    )


def hooked():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model[0].register_forward_hook(lambda m, i, o: o * 2)
    return model


def by_batch():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model[1].normalize_by = "batch"
    return model


def shared():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.BatchNorm1d(4), layer)


class Twice(nn.Module):
    """Its Linear's output goes to the BatchNorm and around it."""

    def __init__(self, hidden=False):
        super().__init__()
        self.linear, self.bn, self.hidden = nn.Linear(4, 4), nn.BatchNorm1d(4), hidden

    def forward(self, x):
        y = self.linear(x)
        return self.bn(y) + (y.detach() if self.hidden else y)


@pytest.mark.parametrize(
    ("make", "shape", "example", "why"),
    [
        (lambda: nn.Sequential(nn.BatchNorm1d(4)), (8, 4), False, "nothing stands before"),
        (lambda: nn.Sequential(nn.BatchNorm1d(4)), (8, 4), True, "after an input of the model"),
        (lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm1d(4)), (8, 4), False, "after a ReLU"),
        (lambda: nn.Sequential(nn.Tanh(), nn.BatchNorm1d(4)), (8, 4), True, "after a Tanh"),
        (
            lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(3)),
            (8, 3, 4),
            True,
            "normalises 3 channels, the layer before it gives 6",
        ),
        (
            lambda: nn.Sequential(nn.ConvTranspose1d(4, 4, 2, groups=2), nn.BatchNorm1d(4)),
            (2, 4, 5),
            False,
            "groups",
        ),
        (
            lambda: nn.Sequential(
                nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.BatchNorm1d(4)
            ),
            (8, 4),
            True,
            "parametrized",
        ),
        (
            lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)),
            (8, 4),
            False,
            "the batch's statistics",
        ),
        (by_batch, (8, 4), False, "the batch's statistics"),
        (hooked, (8, 4), False, "hooks"),
        (shared, (8, 4), False, "several places"),
        (Twice, (8, 4), True, "used elsewhere"),
    ],
)
def test_what_cannot_be_folded_stays_and_says_why(make, shape, example, why):
    model, x = trained(make(), *shape), draw(*shape)
    found = fold(model, *([x] if example else []))
    assert found.folded == []
    assert why in found.left[0][1]
    assert found.left[0][0] + " left: " in str(found)
    assert np.array_equal(found.model(x).detach().numpy(), model(x).detach().numpy())


def test_a_wrong_fold_is_noticed_on_the_example():
    model, x = trained(Twice(hidden=True), 8, 4), draw(8, 4)
    with pytest.raises(RuntimeError, match=r"off by .* on the example"):
        fold(model, x)


def test_linear_of_sequences_is_told_apart_by_an_example():
    """BatchNorm1d of (N, C, L) normalises axis 1, Linear gives the last: as many do not help."""
    model, x = trained(nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)), 8, 3, 5), draw(8, 3, 5)
    with pytest.raises(RuntimeError, match="off by"):
        fold(model, x)


def test_only_in_eval_mode():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match=r"eval mode.*model\.eval"):
        fold(model)
    with pytest.raises(ValueError, match="'1' is in train mode"):
        model.eval()[1].train()
        fold(model)
    assert str(fold(nn.Sequential(nn.ReLU()).eval())) == "no BatchNorm"


# ---- residual blocks that begin as nothing ------------------------------------------------------


def test_a_block_begins_as_its_short_cut():
    blocks = [Block(2, 2).double() for _ in range(2)]
    nn.init.zero_gamma_(*(b.bn2 for b in blocks))
    x = mg.tensor(rng.standard_normal((3, 2, 4, 4)))
    for block in blocks:
        assert block(x).equal((block.bn2.bias.reshape(2, 1, 1) + block.short(x)).relu())
        block(x).square().sum().backward()
        assert block.bn2.weight.grad.abs().max() > 0
        assert block.conv2.weight.grad.abs().max() == 0  # until gamma has moved


def test_gamma_is_wanted():
    with pytest.raises(ValueError, match="takes normalization layers, got Linear"):
        nn.init.zero_gamma_(nn.Linear(2, 2))
    bn = nn.BatchNorm1d(2)
    with pytest.raises(ValueError, match="without gamma"):
        nn.init.zero_gamma_(bn, nn.BatchNorm1d(2, affine=False))
    assert bn.weight.tolist() == [1, 1]
    nn.init.zero_gamma_(bn, nn.LayerNorm(3), nn.RMSNorm(3))
    assert bn.weight.tolist() == [0, 0]


# ---- parameter groups ---------------------------------------------------------------------------


def test_groups_with_a_learning_rate():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    groups = optim.param_groups(model, lr=0.5, weight_decay=0.1, no_decay=("bias", "norm"))
    optimizer = optim.SGD(groups, lr=0.01)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.5, 0.1), (0.5, 0)]
    assert "lr" not in optim.param_groups(model, 0.1)[0]
    with pytest.raises(ValueError, match="lr must be at least 0"):
        optim.param_groups(model, 0.1, lr=-1)
