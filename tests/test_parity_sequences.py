"""Recurrent layers and attention against PyTorch: values, states, gradients, keys and repr."""

import copy
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

rng = np.random.default_rng(3)


def draw(*shape):
    return rng.standard_normal(shape)


def pair(make):
    """One module in both frameworks, float64, with equal parameters."""
    torch = pytest.importorskip("torch")
    theirs, ours = make(torch.nn).double(), make(nn).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [p for p, _ in ours.named_parameters()] == [p for p, _ in theirs.named_parameters()]
    shapes = {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    assert {k: v.shape for k, v in ours.state_dict().items()} == shapes
    ours.load_state_dict({k: mg.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    assert repr(ours) == repr(theirs)
    return theirs, ours


def flat(nest):
    """The tensors of nested tuples, in order, without None."""
    if isinstance(nest, (tuple, list)):
        return [t for n in nest for t in flat(n)]
    return [] if nest is None else [nest]


def convert(nest, make):
    if isinstance(nest, tuple):
        return tuple(convert(n, make) for n in nest)
    if not isinstance(nest, np.ndarray):
        return nest
    return make(nest).requires_grad_() if nest.dtype.kind == "f" else make(nest)


def same(theirs, ours, *args, tolerance=1e-9, **options):
    """Equal outputs, and equal gradients of inputs and parameters."""
    torch = pytest.importorskip("torch")
    t_args, m_args = convert(args, torch.tensor), convert(args, mg.tensor)
    t_out = flat(theirs(*t_args, **{k: convert(v, torch.tensor) for k, v in options.items()}))
    m_out = flat(ours(*m_args, **{k: convert(v, mg.tensor) for k, v in options.items()}))
    assert len(t_out) == len(m_out)
    t_sum, m_sum = 0, 0
    for a, b in zip(t_out, m_out, strict=True):
        np.testing.assert_allclose(
            b.detach().numpy(), a.detach().numpy(), rtol=tolerance, atol=tolerance
        )
        weight = draw(*a.shape)
        if a.requires_grad:
            t_sum = t_sum + (a * torch.tensor(weight)).sum()
            m_sum = m_sum + (b * mg.tensor(weight)).sum()
    t_sum.backward()
    m_sum.backward()
    t_leaves, m_leaves = flat(t_args), flat(m_args)
    if hasattr(ours, "parameters"):
        t_leaves += list(theirs.parameters())
        m_leaves += list(ours.parameters())
    for a, b in zip(t_leaves, m_leaves, strict=True):
        if isinstance(b, mg.Tensor) and a.requires_grad:
            assert (a.grad is None) == (b.grad is None)
            if a.grad is not None:
                np.testing.assert_allclose(
                    b.grad.numpy(), a.grad.numpy(), rtol=tolerance, atol=tolerance
                )


KINDS = {
    "RNN": (lambda n, **o: n.RNN(3, 4, **o), 1),
    "RNN-relu": (lambda n, **o: n.RNN(3, 4, nonlinearity="relu", **o), 1),
    "LSTM": (lambda n, **o: n.LSTM(3, 4, **o), 2),
    "LSTM-projected": (lambda n, **o: n.LSTM(3, 4, proj_size=2, **o), 2),
    "GRU": (lambda n, **o: n.GRU(3, 4, **o), 1),
}


@pytest.mark.parity
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2, "bidirectional": True},
        {"bias": False, "batch_first": True},
        {"num_layers": 3, "batch_first": True, "bidirectional": True, "bias": False},
    ],
)
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("given", [True, False])
def test_recurrent_layers(kind, options, batched, given):
    make, states = KINDS[kind]
    theirs, ours = pair(lambda n: make(n, **options))
    layers = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    x = draw(5, 3) if not batched else draw(2, 5, 3) if ours.batch_first else draw(5, 2, 3)
    args = (x,)
    if given:
        sizes = (ours.proj_size or 4, 4)[:states]
        state = tuple(draw(layers, 2, n) if batched else draw(layers, n) for n in sizes)
        args = (x, state if states == 2 else state[0])
    same(theirs, ours, *args)


@pytest.mark.parity
@pytest.mark.parametrize("length", [1, 2, 7, 16])
def test_recurrent_layers_of_other_lengths(length):
    same(*pair(lambda n: n.LSTM(3, 4, bidirectional=True)), draw(length, 2, 3))


@pytest.mark.parity
def test_an_empty_batch_gives_an_empty_output():
    same(*pair(lambda n: n.GRU(3, 4, 2)), draw(5, 0, 3))


CELLS = {
    "RNNCell": lambda n, **o: n.RNNCell(3, 4, **o),
    "RNNCell-relu": lambda n, **o: n.RNNCell(3, 4, nonlinearity="relu", **o),
    "LSTMCell": lambda n, **o: n.LSTMCell(3, 4, **o),
    "GRUCell": lambda n, **o: n.GRUCell(3, 4, **o),
}


@pytest.mark.parity
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_cells(kind, bias, batch):
    theirs, ours = pair(lambda n: CELLS[kind](n, bias=bias))
    x, h = draw(*batch, 3), draw(*batch, 4)
    same(theirs, ours, x)
    theirs.zero_grad(), ours.zero_grad()
    same(theirs, ours, x, (h, draw(*batch, 4)) if kind == "LSTMCell" else h)


@pytest.mark.parametrize("kind", CELLS)
def test_cells_to_second_order(kind):
    cell = CELLS[kind](nn).double()
    x, h = mg.tensor(draw(2, 3), requires_grad=True), mg.tensor(draw(2, 4), requires_grad=True)

    def step(x, h, weight):
        cell.weight_hh.array = weight.array
        return cell(x, (h, h * 0.5) if kind == "LSTMCell" else h)

    assert mg.gradcheck(step, [x, h, cell.weight_hh])
    assert mg.gradgradcheck(lambda x, h: step(x, h, cell.weight_hh), [x, h])


@pytest.mark.parametrize("kind", KINDS)
def test_layers_to_second_order(kind):
    layer = KINDS[kind][0](nn, num_layers=2, bidirectional=True).double()
    x = mg.tensor(draw(3, 1, 3), requires_grad=True)
    assert mg.gradgradcheck(lambda x: layer(x)[0], [x])


def test_dropout_acts_between_layers_in_train_mode_only():
    mg.manual_seed(0)
    layer = nn.GRU(3, 4, num_layers=2, dropout=0.5)
    x = mg.tensor(draw(5, 2, 3).astype("float32"))
    assert not layer(x)[0].equal(layer(x)[0])
    assert layer(x)[1][0].equal(layer(x)[1][0]), "the first layer sees no dropout"
    layer.eval()
    assert layer(x)[0].equal(layer(x)[0])
    with pytest.warns(UserWarning, match="num_layers=1"):
        nn.LSTM(3, 4, dropout=0.5)
    assert "dropout=0.5" in repr(layer)


def test_the_weights_of_a_layer_by_layer_and_direction():
    layer = nn.LSTM(3, 4, 2, bidirectional=True)
    assert [[p.shape for p in way] for way in layer.all_weights][2] == [
        (16, 8),
        (16, 4),
        (16,),
        (16,),
    ]
    assert layer.flatten_parameters() is None
    bound = 1 / np.sqrt(4)
    assert all(abs(p.detach().numpy()).max() <= bound for p in layer.parameters())


MISUSE = {
    "sizes are whole": (lambda n, t: n.RNN(3.0, 4), "int"),
    "sizes are positive": (lambda n, t: n.GRU(3, 0), "at least 1"),
    "layers are positive": (lambda n, t: n.GRU(3, 4, 0), "at least 1"),
    "bias is a bool": (lambda n, t: n.LSTM(3, 4, bias=1), "bool"),
    "batch_first is a bool": (lambda n, t: n.LSTM(3, 4, batch_first=1), "bool"),
    "dropout is a chance": (lambda n, t: n.LSTM(3, 4, 2, dropout=1.5), "between 0 and 1"),
    "dropout is no bool": (lambda n, t: n.LSTM(3, 4, 2, dropout=True), "between 0 and 1"),
    "tanh or relu": (lambda n, t: n.RNN(3, 4, nonlinearity="elu"), "'tanh' or 'relu'"),
    "no projection": (lambda n, t: n.GRU(3, 4, proj_size=2), "leave it out"),
    "small projection": (lambda n, t: n.LSTM(3, 4, proj_size=4), "below hidden_size"),
    "mode": (lambda n, t: n.RNNBase("ELU", 3, 4), "one of"),
    "axes": (lambda n, t: n.RNN(3, 4)(t.ones(3)), "1 axes"),
    "input size": (lambda n, t: n.RNN(3, 4)(t.ones(5, 2, 4)), "input_size=3"),
    "steps": (lambda n, t: n.RNN(3, 4)(t.ones(0, 2, 3)), "one step"),
    "state": (lambda n, t: n.GRU(3, 4)(t.ones(5, 2, 3), t.ones(1, 3, 4)), r"\(1, 2, 4\)"),
    "state's axes": (lambda n, t: n.GRU(3, 4)(t.ones(5, 3), t.ones(1, 1, 4)), r"\(1, 4\)"),
    "dtype": (lambda n, t: n.GRU(3, 4)(t.ones(5, 2, 3).double()), "convert one"),
    "cell's axes": (lambda n, t: n.GRUCell(3, 4)(t.ones(5, 2, 3)), "whole sequence goes to GRU"),
    "cell's input": (lambda n, t: n.LSTMCell(3, 4)(t.ones(2, 4)), r"\(N, 3\)"),
    "cell's state": (lambda n, t: n.RNNCell(3, 4)(t.ones(2, 3), t.ones(2, 3)), r"\(2, 4\)"),
    "cell's kind": (lambda n, t: n.RNNCell(3, 4, nonlinearity="elu")(t.ones(2, 3)), "'tanh'"),
}


# ---- attention ----------------------------------------------------------------------------------


def attend(torch_or_mg):
    functional = torch_or_mg.nn.functional
    return functional.scaled_dot_product_attention


SDPA = {
    "plain": ((4, 3), (5, 3), (5, 2), {}),
    "batch": ((2, 3, 4, 6), (2, 3, 5, 6), (2, 3, 5, 2), {}),
    "broadcast": ((2, 1, 4, 6), (1, 3, 5, 6), (1, 3, 5, 2), {}),
    "causal": ((2, 4, 6), (2, 4, 6), (2, 4, 6), {"is_causal": True}),
    "causal, long": ((2, 3, 6), (2, 5, 6), (2, 5, 6), {"is_causal": True}),
    "causal, short": ((2, 5, 6), (2, 3, 6), (2, 3, 6), {"is_causal": True}),
    "scale": ((2, 4, 6), (2, 5, 6), (2, 5, 3), {"scale": 0.3}),
    "bool": ((2, 3, 4, 6), (2, 3, 5, 6), (2, 3, 5, 2), {"attn_mask": rng.random((4, 5)) > 0.4}),
    "bool, wide": (
        (2, 3, 4, 6),
        (2, 3, 5, 6),
        (2, 3, 5, 2),
        {"attn_mask": rng.random((2, 1, 4, 5)) > 0.4},
    ),
    "blind rows": (
        (2, 4, 6),
        (2, 5, 6),
        (2, 5, 3),
        {"attn_mask": np.array([[True] * 5, [False] * 5, [True] * 5, [False] * 5])},
    ),
    "float": ((2, 4, 6), (2, 5, 6), (2, 5, 3), {"attn_mask": rng.standard_normal((4, 5))}),
    "groups": (
        (2, 6, 4, 8),
        (2, 2, 5, 8),
        (2, 2, 5, 8),
        {"enable_gqa": True, "is_causal": True},
    ),
}


@pytest.mark.parity
@pytest.mark.parametrize("name", SDPA)
def test_scaled_dot_product_attention(name):
    torch = pytest.importorskip("torch")
    *shapes, options = SDPA[name]
    same(attend(torch), attend(mg), *(draw(*s) for s in shapes), **options)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}])
def test_attention_to_second_order(options):
    q, k, v = (mg.tensor(draw(2, 3, 2), requires_grad=True) for _ in range(3))
    assert mg.gradcheck(lambda *x: attend(mg)(*x, **options), [q, k, v])
    assert mg.gradgradcheck(lambda *x: attend(mg)(*x, **options), [q, k, v])


@pytest.mark.parametrize("weights", [True, False])
def test_multihead_attention_to_second_order(weights):
    layer = nn.MultiheadAttention(4, 2, batch_first=True).double()
    x = mg.tensor(draw(1, 3, 4), requires_grad=True)
    mask = mg.tensor(~np.tri(3, dtype=bool))
    assert mg.gradgradcheck(
        lambda x: flat(layer(x, x, x, attn_mask=mask, need_weights=weights)), [x], atol=1e-4
    )


def test_blind_queries_to_second_order():
    q, k, v = (mg.tensor(draw(3, 2), requires_grad=True) for _ in range(3))
    mask = mg.tensor([[True, True, False], [False] * 3, [True] * 3])
    assert mg.gradgradcheck(lambda *x: attend(mg)(*x, attn_mask=mask), [q, k, v])


def test_copies_and_pickles():
    x = mg.ones(3, 2, 4)
    for module in (
        nn.LSTM(4, 4, 2, bidirectional=True),
        nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 2).eval(),
    ):
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            for a, b in zip(flat(module(x)), flat(twin(x)), strict=True):
                assert a.equal(b)
            assert list(twin.state_dict()) == list(module.state_dict())


def test_attention_drops_weights():
    mg.manual_seed(0)
    x = mg.ones(2, 50, 4)
    y = attend(mg)(x, x, x, dropout_p=0.5)
    assert 0.5 < y.mean().item() < 1.5
    assert not y.equal(x)


def mask_of(*shape):
    mask = rng.random(shape) > 0.6
    mask[..., 0] = False
    return mask


@pytest.mark.parity
@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"kdim": 3, "vdim": 5},
        {"batch_first": True, "kdim": 6},
        {"add_bias_kv": True},
        {"add_zero_attn": True, "add_bias_kv": True, "bias": False},
    ],
)
@pytest.mark.parametrize("masks", ["none", "padding", "both", "each head", "float"])
@pytest.mark.parametrize("batched", [True, False])
def test_multihead_attention(options, masks, batched, weights):
    theirs, ours = pair(lambda n: n.MultiheadAttention(6, 2, **options))
    n, length, size = 3, 4, 5
    arrays = []
    for steps, width in ((length, 6), (size, ours.kdim), (size, ours.vdim)):
        shape = (steps, n, width) if not ours.batch_first else (n, steps, width)
        arrays.append(draw(*shape) if batched else draw(steps, width))
    lead = (n,) if batched else ()
    heads = 2 * (n if batched else 1)
    more = {
        "none": {},
        "padding": {"key_padding_mask": mask_of(*lead, size)},
        "both": {"key_padding_mask": mask_of(*lead, size), "attn_mask": mask_of(length, size)},
        "each head": {"attn_mask": mask_of(heads, length, size), "average_attn_weights": False},
        "float": {"attn_mask": draw(length, size), "key_padding_mask": draw(*lead, size)},
    }[masks]
    same(theirs, ours, *arrays, need_weights=weights, **more)


@pytest.mark.parity
@pytest.mark.parametrize("weights", [True, False])
def test_self_attention(weights):
    theirs, ours = pair(lambda n: n.MultiheadAttention(6, 3, batch_first=True))
    x, causal = draw(2, 4, 6), ~np.tri(4, dtype=bool)

    def own(module):
        return lambda x, m: module(x, x, x, attn_mask=m, is_causal=True, need_weights=weights)

    same(own(theirs), own(ours), x, causal)
    for p, q in zip(theirs.parameters(), ours.parameters(), strict=True):
        np.testing.assert_allclose(q.grad.numpy(), p.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parity
@pytest.mark.parametrize("weights", [True, False])
def test_queries_that_may_look_at_nothing(weights):
    torch = pytest.importorskip("torch")
    theirs, ours = pair(lambda n: n.MultiheadAttention(6, 3))
    x = draw(4, 2, 6)
    mask = np.zeros((4, 4), bool)
    mask[1] = True
    ty = theirs(*[torch.tensor(x)] * 3, attn_mask=torch.tensor(mask), need_weights=weights)
    my = ours(*[mg.tensor(x)] * 3, attn_mask=mg.tensor(mask), need_weights=weights)
    for a, b in zip(flat(ty), flat(my), strict=True):
        np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=1e-9)


@pytest.mark.parity
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("options", [{}, {"batch_first": True, "bias": False}])
def test_transformer_encoder(norm_first, activation, options):
    def make(n):
        layer = n.TransformerEncoderLayer(
            6, 2, 8, 0.0, activation, 1e-3, norm_first=norm_first, **options
        )
        kept = {"enable_nested_tensor": False}
        return n.TransformerEncoder(layer, 2, n.LayerNorm(6), **kept)

    theirs, ours = pair(make)
    x = draw(4, 3, 6)
    n, length = (4, 3) if options else (3, 4)
    same(theirs, ours, x)
    theirs.zero_grad(), ours.zero_grad()
    causal = ~np.tri(length, dtype=bool)
    same(theirs, ours, x, mask=causal, src_key_padding_mask=mask_of(n, length))
    theirs.zero_grad(), ours.zero_grad()
    same(theirs.eval(), ours.eval(), x, mask=causal, is_causal=True)
    assert repr(ours) == repr(theirs)


@pytest.mark.parity
def test_an_encoder_layer_with_functions_and_modules():
    for make in (
        lambda n: n.TransformerEncoderLayer(6, 2, 8, 0.0, n.functional.relu),
        lambda n: n.TransformerEncoderLayer(6, 2, 8, 0.0, n.Tanh()),
    ):
        theirs, ours = pair(make)
        same(theirs, ours, draw(4, 6))


def test_encoder_layers_start_equal_and_learn_apart():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 2)
    first, second = (list(layer.parameters()) for layer in encoder.layers)
    assert all(p.equal(q) and p is not q for p, q in zip(first, second, strict=True))
    assert len(list(encoder.parameters())) == 24


def sdpa(t, *shapes, **options):
    return attend(t)(*(t.ones(*s) for s in shapes), **options)


def heads(n, t, q, k, v, **options):
    return n.MultiheadAttention(6, 2)(t.ones(*q), t.ones(*k), t.ones(*v), **options)


MISUSE |= {
    "attention's sizes": (lambda n, t: sdpa(t, (4, 3), (5, 2), (5, 3)), "project one"),
    "attention's values": (lambda n, t: sdpa(t, (4, 3), (5, 3), (4, 3)), "5 keys and 4 values"),
    "attention's axes": (lambda n, t: sdpa(t, (3,), (3,), (3,)), "unsqueeze"),
    "attention's dtypes": (
        lambda n, t: attend(t)(t.ones(4, 3), t.ones(4, 3).double(), t.ones(4, 3)),
        "one dtype",
    ),
    "two masks": (
        lambda n, t: sdpa(t, (4, 3), (4, 3), (4, 3), attn_mask=t.ones(4, 4), is_causal=True),
        "not both",
    ),
    "a mask of integers": (
        lambda n, t: sdpa(t, (4, 3), (4, 3), (4, 3), attn_mask=t.ones(4, 4).long()),
        "bool",
    ),
    "groups of heads": (
        lambda n, t: sdpa(t, (1, 3, 4, 2), (1, 2, 4, 2), (1, 2, 4, 2), enable_gqa=True),
        "multiples",
    ),
    "heads that do not divide": (lambda n, t: n.MultiheadAttention(6, 4), "divisors of 6"),
    "no heads": (lambda n, t: n.MultiheadAttention(6, 0), "at least 1"),
    "query's size": (lambda n, t: heads(n, t, (4, 2, 5), (4, 2, 5), (4, 2, 5)), "last axis is 6"),
    "query's axes": (lambda n, t: heads(n, t, (6,), (6,), (6,)), "1 axes"),
    "key's axes": (lambda n, t: heads(n, t, (4, 2, 6), (4, 6), (4, 6)), "as many axes"),
    "key and value": (lambda n, t: heads(n, t, (4, 2, 6), (5, 2, 6), (4, 2, 6)), "as many values"),
    "causal without a mask": (
        lambda n, t: heads(n, t, (4, 2, 6), (4, 2, 6), (4, 2, 6), is_causal=True),
        "attn_mask",
    ),
    "the mask's shape": (
        lambda n, t: heads(n, t, (4, 2, 6), (4, 2, 6), (4, 2, 6), attn_mask=t.ones(3, 4)),
        r"\(4, 4\)",
    ),
    "the mask's dtype": (
        lambda n, t: heads(n, t, (4, 2, 6), (4, 2, 6), (4, 2, 6), attn_mask=t.ones(4, 4).long()),
        "bool",
    ),
    "padding's axes": (
        lambda n, t: heads(n, t, (4, 2, 6), (4, 2, 6), (4, 2, 6), key_padding_mask=t.ones(4)),
        r"\(N, S\)",
    ),
    "padding's shape": (
        lambda n, t: heads(n, t, (4, 2, 6), (4, 2, 6), (4, 2, 6), key_padding_mask=t.ones(2, 3)),
        r"\(2, 4\)",
    ),
    "activation": (
        lambda n, t: n.TransformerEncoderLayer(6, 2, activation="elu"),
        "'relu', 'gelu'",
    ),
}


@pytest.mark.parity
@pytest.mark.parametrize("name", MISUSE)
def test_misuse(name):
    torch = pytest.importorskip("torch")
    call, says = MISUSE[name]
    with pytest.raises(Exception) as theirs:
        call(torch.nn, torch)
    with pytest.raises(theirs.type, match=says):
        call(nn, mg)


def test_states_and_sequences_of_the_wrong_kind():
    with pytest.raises(TypeError, match=r"pair of tensors \(h, c\)"):
        nn.LSTM(3, 4)(mg.ones(5, 2, 3), mg.ones(1, 2, 4))
    with pytest.raises(TypeError, match="pad the sequences"):
        nn.LSTM(3, 4)((mg.ones(5, 3), [1]))
    with pytest.raises(TypeError, match="pair of tensors"):
        nn.LSTMCell(3, 4)(mg.ones(2, 3), mg.ones(2, 4))
    with pytest.raises(TypeError, match="unexpected"):
        nn.GRU(3, 4, layers=2)
