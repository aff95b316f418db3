"""summary: the table of a model's layers, counted by hand; and that looking changes nothing."""

import pytest

import minigrad as mg
from minigrad import models, nn, ops
from minigrad.ops.costs import multiply_adds
from tests.fingerprint import fingerprint


@pytest.fixture(autouse=True)
def _seed():
    mg.manual_seed(0)


def adds(model, x):
    return mg.summary(model, x).total_mult_adds


# ---- multiply-adds by hand -------------------------------------------------------------------


def test_linear():
    assert adds(nn.Linear(4, 8), (16, 4)) == 16 * 8 * 4
    assert adds(nn.Linear(4, 8), (2, 16, 4)) == 2 * 16 * 8 * 4


@pytest.mark.parametrize("bias", [True, False])
def test_conv2d(bias):
    # 32 images, 16 channels of 14 x 14 results, each a sum over 3 channels of 5 x 5
    assert adds(nn.Conv2d(3, 16, 5, stride=2, padding=2, bias=bias), (32, 3, 28, 28)) == (
        32 * 16 * 14 * 14 * 3 * 5 * 5
    )
    assert adds(nn.Conv2d(8, 8, 3, groups=8), (2, 8, 10, 10)) == 2 * 8 * 8 * 8 * 9  # depthwise
    assert adds(nn.Conv1d(2, 4, 3), (5, 2, 10)) == 5 * 4 * 8 * 2 * 3
    # every value of x meets the kernel of its channel: 6 channels of 3 x 3
    assert adds(nn.ConvTranspose2d(4, 6, 3, stride=2), (2, 4, 5, 5)) == 2 * 4 * 25 * 6 * 9


def test_norms():
    bn = nn.BatchNorm2d(8)
    assert adds(bn, (4, 8, 5, 5)) == 3 * 4 * 8 * 25
    assert adds(bn.eval(), (4, 8, 5, 5)) == 4 * 8 * 25
    assert adds(nn.LayerNorm(10), (4, 10)) == 4 * 40
    assert adds(nn.LayerNorm(10, elementwise_affine=False), (4, 10)) == 3 * 40
    assert adds(nn.GroupNorm(2, 4), (3, 4, 5)) == 4 * 60
    assert adds(nn.RMSNorm(10), (4, 10)) == 3 * 40


def test_attention():
    n, t, e = 2, 7, 16
    model = nn.MultiheadAttention(e, 4, batch_first=True)
    x = mg.randn(n, t, e)
    projections = 4 * n * t * e * e  # of query, key, value, and of the output
    scores = n * t * t * e  # every query with every key: 4 heads of 4
    mixing = n * t * t * e
    assert adds(model, (x, x, x)) == projections + scores + mixing


def test_lstm():
    n, t, i, h = 3, 5, 8, 24
    each = 4 * h * (i + h)  # four gates of input and state
    assert adds(nn.LSTM(i, h, batch_first=True), (n, t, i)) == n * t * each
    assert adds(nn.GRU(i, h), (t, n, i)) == n * t * 3 * h * (i + h)


def test_products():
    class Product(nn.Module):
        def forward(self, a, b):
            return mg.einsum("bij,bjk->bik", a, b) + a @ b

    assert adds(Product(), [(2, 3, 4), (2, 4, 5)]) == 2 * (2 * 3 * 4 * 5)
    a, b = mg.ones(2, 3).array, mg.ones(3, 4).array
    assert multiply_adds(ops.Einsum("ij,jk->ik"), [a, b], a @ b) == 24
    assert multiply_adds(ops.Add(), [a, a], a) == 0


# ---- the table -------------------------------------------------------------------------------


def test_the_table_of_a_small_network():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    made = mg.summary(model, (16, 4))
    assert made.table().splitlines() == [
        "Sequential · train mode · input (16, 4)",
        "layer                 output   parameters  multiply-adds  memory",
        "Sequential            (16, 3)           –              –       –",
        "├─ 0: Linear(4 → 8)   (16, 8)          40            512   512 B",
        "├─ 1: BatchNorm1d(8)  (16, 8)          16            384   608 B",
        "├─ 2: ReLU            (16, 8)           –              –   512 B",
        "└─ 3: Linear(8 → 3)   (16, 3)          27            384   192 B",
        "parameters: 83 (83 trainable, 0 frozen), 404 B with 17 numbers in buffers",
        "multiply-adds: 1.28 k; values made: 1.82 kB, kept for backward: 1.38 kB",
    ]
    assert str(made) == repr(made) == model.summary((16, 4)).table()
    assert (made.total_params, made.trainable_params, made.buffers) == (83, 83, 17)
    assert made.total_mult_adds == sum(r.mult_adds for r in made.rows) == 512 + 384 + 384
    assert made.total_output_bytes == sum(r.bytes for r in made.rows)


def test_without_an_input():
    made = models.cnn((1, 8, 8)).summary()
    assert "output" not in made.table() and "multiply-adds" not in made.table()
    assert made.total_mult_adds is made.total_output_bytes is made.kept_bytes is None
    assert made.total_params == sum(p.numel() for p in models.cnn((1, 8, 8)).parameters())


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
        self.scale = nn.Parameter(mg.ones(4))

    def forward(self, x):
        return self.a(x) * self.scale


def test_depth():
    model = Nested()
    shown = {depth: mg.summary(model, (2, 4), depth=depth) for depth in (None, 0, 1, 2)}
    paths = {depth: [r.path for r in s.rows] for depth, s in shown.items()}
    assert paths == {
        None: ["", "a", "a.0", "a.1", "a.1.0", "a.1.1"],
        0: [""],
        1: ["", "a"],
        2: ["", "a", "a.0", "a.1"],
    }
    for made in shown.values():  # what is closed keeps what is in it
        assert sum(r.params for r in made.rows) == made.total_params == 44
        assert sum(r.mult_adds for r in made.rows) == made.total_mult_adds == 2 * 2 * 16
        assert sum(r.bytes for r in made.rows) == made.total_output_bytes
    assert [r.params for r in shown[2].rows] == [4, 0, 20, 20]  # the model's own: scale
    assert "│  └─ 1: Sequential" not in shown[2].table()
    assert "   └─ 1: Sequential" in shown[2].table()
    with pytest.raises(ValueError, match="counts from 0"):
        mg.summary(model, depth=-1)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = self.a
        self.spare = nn.Linear(2, 2)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.a.weight

    def forward(self, x, y):
        return {"x": self.a(self.a(x)), "rest": (self.b(y), self.tied(x))}


def test_what_is_shared_counts_once():
    made = mg.summary(Shared(), [(3, 4), (2, 4)])
    rows = {r.path: r for r in made.rows}
    assert made.total_params == sum(r.params for r in made.rows) == 20 + 6
    assert (rows["a"].calls, rows["b"].shared, rows["tied"].params) == (3, "a", 0)
    assert rows["a"].mult_adds == (3 + 3 + 2) * 16
    text = made.table()
    assert "b: Linear(4 → 4)" in text and "see a" in text
    assert "not called" in text  # spare
    assert "x: (3, 4), rest: [(2, 4), (3, 4)]" in text


def test_frozen_parameters():
    model = Nested()
    model.a[0].weight.requires_grad_(False)
    model.a[1].requires_grad_(False)
    made = mg.summary(model, (2, 4))
    assert made.trainable_params == 8
    assert "20 (16 frozen)" in made.table() and "20 frozen" in made.table()
    assert "(8 trainable, 36 frozen)" in made.table()


def test_several_outputs_and_containers():
    text = mg.summary(nn.LSTM(8, 24), (5, 3, 8)).table()
    assert "[(5, 3, 24), [(1, 3, 24), (1, 3, 24)]]" in text
    block = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
    text = mg.summary(block, (5, 3, 8)).table()
    assert "layers: ModuleList" in text
    assert "not called" not in text
    assert "[(5, 3, 8), –]" in text  # attention without weights


@pytest.mark.parametrize("mode", [True, False])
def test_a_summary_changes_nothing(mode):
    model = nn.Sequential(models.cnn((1, 8, 8)), nn.Dropout(0.5)).train(mode)
    (model(mg.randn(8, 1, 8, 8)) ** 2).sum().backward()
    before = fingerprint(model)
    made = mg.summary(model, (8, 1, 8, 8))
    assert made.table().startswith(f"Sequential · {'train' if mode else 'eval'} mode")
    with pytest.raises(ValueError):
        mg.summary(model, (8, 2, 8, 8))
    assert fingerprint(model) == before
    assert mg.no_grad()(mg.summary)(model, (8, 1, 8, 8)).kept_bytes == made.kept_bytes


def test_modes_are_told():
    model = nn.Sequential(nn.BatchNorm1d(2).eval(), nn.Dropout(0.1))
    assert "train and eval mode" in model.summary().table()


def test_kinds_of_inputs():
    double = nn.Linear(3, 2).double()
    assert mg.summary(double, (4, 3)).rows[0].output == (4, 2)
    ids = mg.randint(0, 9, (2, 5))
    assert mg.summary(nn.Embedding(9, 3), ids).rows[0].output == (2, 5, 3)
    for wrong in ("x", 3, [], [(2, 3), 4]):
        with pytest.raises(TypeError, match="a shape with the batch"):
            mg.summary(double, wrong)
    with pytest.raises(TypeError, match=r"an nn\.Module, got str"):
        mg.summary("model")
