"""mg.compile: a captured step does what the step does, to the last bit, or is not used."""

from __future__ import annotations

import copy
import threading
import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F


@pytest.fixture(autouse=True)
def _no_fallback():
    """A step that is run as it is says so; no test may overlook it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="compile:")
        yield


def mlp(*norms):
    return nn.Sequential(nn.Linear(6, 16), *norms, nn.ReLU(), nn.Linear(16, 3))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv(x.reshape(-1, 1, 2, 3))))
        x = F.relu(x + self.drop(self.bn2(self.conv2(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn = kind(2, 5, batch_first=True)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(self.rnn(x.reshape(-1, 3, 2))[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.1, batch_first=True)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(self.layer(x.unsqueeze(1))[:, 0])


MODELS = {
    "mlp": mlp,
    "batch norm": lambda: mlp(nn.BatchNorm1d(16)),
    "batch renorm": lambda: mlp(nn.BatchRenorm1d(16)),
    "debiased": lambda: mlp(nn.BatchNorm1d(16, debias=True)),
    "cumulative": lambda: mlp(nn.BatchNorm1d(16, momentum=None)),
    "layer norm, dropout": lambda: mlp(nn.LayerNorm(16), nn.Dropout(0.5)),
    "composed": lambda: mlp(nn.BatchNorm1d(16, fused=False)),
    "instance norm": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 3)),
        nn.InstanceNorm1d(2, affine=True, track_running_stats=True),
        nn.Flatten(),
        nn.Linear(6, 3),
    ),
    "residual": Residual,
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "attention": Attention,
    "spectral norm": lambda: nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(6, 16)), nn.Tanh(), nn.Linear(16, 3)
    ),
    "weight norm": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(6, 16)), nn.GELU(), nn.Linear(16, 3)
    ),
    "activations": lambda: nn.Sequential(
        nn.Linear(6, 16), nn.SiLU(), nn.Linear(16, 16), nn.PReLU(), nn.Softplus(), nn.Linear(16, 3)
    ),
}

OPTIMIZERS = {
    "SGD": lambda p: mg.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Momentum": lambda p: mg.optim.Momentum(p, lr=0.1),
    "RMSprop": lambda p: mg.optim.RMSprop(p, lr=0.01),
    "Adam": lambda p: mg.optim.Adam(p, lr=0.01),
    "AdamW": lambda p: mg.optim.AdamW(p, lr=0.01, amsgrad=True),
    "Adagrad": lambda p: mg.optim.Adagrad(p, lr=0.01),
    "NAdam": lambda p: mg.optim.NAdam(p, lr=0.01),
    "RAdam": lambda p: mg.optim.RAdam(p, lr=0.01),
}


def data(rows=8, dtype=mg.float32):
    rng = np.random.default_rng(3)
    x = mg.tensor(rng.normal(size=(rows, 6)), dtype=dtype)
    return x, mg.tensor(rng.integers(0, 3, rows))


def trainer(model, optimizer, scheduler=None, clip=None):
    """A step as people write it."""

    def step(x, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        return loss

    return step


def everything(model, optimizer, losses):
    state = optimizer.state_dict()["state"]
    return {
        **{name: t.array for name, t in model.state_dict().items()},
        **{f"{name}.grad": p.grad.array for name, p in model.named_parameters()},
        **{f"{i}.{k}": np.asarray(v.array) for i, s in state.items() for k, v in s.items()},
        "losses": np.array([loss.item() for loss in losses]),
        "random": mg.rand(3).array,
    }


def run(make_model, make_optimizer, compiled, steps=6, schedule=None, **options):
    mg.manual_seed(0)
    model = make_model()
    optimizer = make_optimizer(model.parameters())
    scheduler = None if schedule is None else schedule(optimizer)
    step = trainer(model, optimizer, scheduler, **options)
    if compiled:
        step = mg.compile(step)
    x, labels = data()
    losses = [step(x * (1 + i), labels) for i in range(steps)]
    if compiled:
        assert step.captures == 1 and step.replays[0].checked and step.plain is None
    return everything(model, optimizer, losses)


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name, strict=True)


@pytest.mark.parametrize("numba", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_training_is_the_same_to_the_last_bit(model, numba):
    if numba:
        pytest.importorskip("numba")
    before = mg.backends.numpy.numba
    mg.backends.numpy.use_numba(numba)
    try:
        plain = run(MODELS[model], OPTIMIZERS["Adam"], compiled=False)
        assert_same(run(MODELS[model], OPTIMIZERS["Adam"], compiled=True), plain)
    finally:
        mg.backends.numpy.use_numba(before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_goes_on_as_it_would(optimizer):
    make = MODELS["batch norm"]
    plain = run(make, OPTIMIZERS[optimizer], compiled=False)
    assert_same(run(make, OPTIMIZERS[optimizer], compiled=True), plain)


def test_schedules_and_clipping_go_on():
    options = {
        "clip": 0.1,
        "schedule": lambda o: mg.optim.lr_scheduler.StepLR(o, step_size=2, gamma=0.1),
    }
    plain = run(mlp, OPTIMIZERS["SGD"], compiled=False, **options)
    assert_same(run(mlp, OPTIMIZERS["SGD"], compiled=True, **options), plain)


def test_weight_averages_go_on():
    def train(compiled):
        mg.manual_seed(0)
        model = mlp(nn.BatchNorm1d(16))
        average = mg.optim.swa_utils.AveragedModel(model)
        train = trainer(model, mg.optim.SGD(model.parameters(), lr=0.1))

        def step(*given):
            train(*given)
            average.update_parameters(model)

        step = mg.compile(step) if compiled else step
        for _ in range(5):
            step(*data())
        return {n: t.array for n, t in average.state_dict().items()}

    assert_same(train(True), train(False))


def test_a_learning_rate_that_is_changed_counts():
    def train(compiled):
        mg.manual_seed(0)
        model = mlp()
        optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
        step = trainer(model, optimizer)
        step = mg.compile(step) if compiled else step
        for i in range(6):
            optimizer.param_groups[0]["lr"] = 0.1 / (i + 1)
            step(*data())
        return {n: p.array for n, p in model.named_parameters()}

    assert_same(train(True), train(False))


def test_gradients_add_up_where_nobody_forgets_them():
    w = mg.tensor([1.0, 2.0], requires_grad=True)

    @mg.compile
    def step(x):
        (w * x).sum().backward()

    for i in range(4):
        step(mg.tensor([1.0, float(i)]))
    np.testing.assert_array_equal(w.grad.array, [4, 6])


@pytest.mark.parametrize("where", ["first", "last"])
def test_gradients_that_are_set_to_none_are_forgotten(where):
    w = mg.tensor([1.0, 2.0], requires_grad=True)

    @mg.compile
    def step(x):
        if where == "first":
            w.grad = None
        (w * x).sum().backward()
        grad = w.grad * 1
        if where == "last":
            w.grad = None
        return grad

    for i in range(4):
        np.testing.assert_array_equal(step(mg.tensor([1.0, float(i)])).array, [1, i])


def test_the_gradient_of_an_argument_arrives_at_that_argument():
    @mg.compile
    def step(x):
        (x * x).sum().backward()

    for i in range(4):
        x = mg.tensor([1.0, float(i)], requires_grad=True)
        step(x)
        np.testing.assert_array_equal(x.grad.array, [2, 2 * i])


def test_a_gradient_penalty_is_captured():
    def train(compiled):
        mg.manual_seed(0)
        model = mlp(nn.BatchNorm1d(16))
        optimizer = mg.optim.Adam(model.parameters(), lr=0.01)

        def step(x):
            optimizer.zero_grad()
            x = x.detach().requires_grad_()
            (slope,) = mg.grad(model(x).sum(), x, create_graph=True)
            (slope**2).mean().backward()
            optimizer.step()

        step = mg.compile(step) if compiled else step
        for _ in range(4):
            step(data()[0])
        return {n: p.array for n, p in model.named_parameters()}

    assert_same(train(True), train(False))


def test_inference_of_a_module():
    mg.manual_seed(0)
    model = MODELS["residual"]().eval()
    fast = mg.compile(model)
    assert fast.fc is model.fc
    x, _ = data()
    with mg.no_grad():
        for i in range(4):
            np.testing.assert_array_equal(fast(x * i).array, model(x * i).array)
            assert fast(x).grad_fn is None


def test_what_is_returned_keeps_its_form():
    w = mg.tensor(2.0)

    @mg.compile
    def step(x, *, options):
        return {"sum": [x + options["shift"], w], "x": (x, None, "name")}

    for i in range(4):
        x = mg.tensor([float(i)])
        result = step(x, options={"shift": mg.tensor(1.0)})
        assert result["sum"][0].tolist() == [i + 1]
        assert result["sum"][1] is w and result["x"] == (x, None, "name")
        assert type(result["sum"][0].array) is np.ndarray


def test_other_shapes_dtypes_and_values_are_captured_anew():
    @mg.compile
    def double(x, n=2):
        return x * n

    for x in (mg.ones(3), mg.ones(4), mg.ones(3, dtype=mg.float64), mg.ones(2, 3).T):
        for _ in range(3):
            np.testing.assert_array_equal(double(x).array, 2 * x.array, strict=True)
    assert double.captures == 4
    for n in (2, 3, 2.0):
        for _ in range(3):
            np.testing.assert_array_equal(double(mg.ones(3), n).array, np.float32([n] * 3))
    assert double.captures == 4 + 3


def test_only_so_many_captures_are_kept():
    @mg.compile(limit=2)
    def double(x):
        return x * 2

    for n in range(1, 6):
        for _ in range(2):
            assert double(mg.ones(n)).tolist() == [2] * n
    assert double.captures == 5 and len(double.replays) == 2


def test_the_same_tensor_twice_is_not_two():
    @mg.compile
    def step(x, y):
        return x * 2 + y

    x, y = mg.ones(3), mg.zeros(3)
    for _ in range(3):
        assert step(x, x).tolist() == [3, 3, 3]
        assert step(x, y).tolist() == [2, 2, 2]


def test_switching_between_train_and_eval_captures_anew():
    mg.manual_seed(0)
    model = mlp(nn.BatchNorm1d(16), nn.Dropout(0.5))
    predict = mg.compile(lambda x: model(x).detach())
    x, _ = data()
    for _ in range(3):
        model.train()
        predict(x)
        model.eval()
        found = predict(x)
        np.testing.assert_array_equal(found.array, model(x).array)


def test_guards_on_what_was_constant():
    model, other = nn.Dropout(0.0), mg.tensor([5.0])
    w = mg.tensor([1.0])
    factor = 2.0

    @mg.compile
    def step(x):
        return model(x) * w * factor

    x = mg.tensor([1.0])

    def check(expected):
        for _ in range(3):
            assert step(x).tolist() == [expected]

    check(2)
    factor = 3.0
    check(3)
    w.array = np.float32([2])  # another array in place of the one captured
    check(6)
    w.array[0] = 4  # the same array
    check(12)
    w = other
    check(15)
    model.eval()
    check(15)
    assert step.captures == 5


def test_freezing_a_parameter_captures_anew():
    model = mlp()
    step = mg.compile(trainer(model, mg.optim.SGD(model.parameters(), lr=0.1)))
    for _ in range(3):
        step(*data())
    model[0].weight.requires_grad_(False)
    before = model[0].weight.array.copy()
    for _ in range(3):
        step(*data())
    np.testing.assert_array_equal(model[0].weight.array, before)
    assert step.captures == 2


def falls_back(step, message, *args):
    with pytest.warns(UserWarning, match=message):
        for _ in range(8):
            result = step(*args)
    return result


def test_a_step_that_looks_at_values_is_run_as_it_is():
    @mg.compile
    def step(x):
        return x * 2 if x.sum() > 0 else x

    falls_back(step, "step is run as it is: it looks at the values", mg.ones(2))
    assert step(mg.ones(2)).tolist() == [2, 2]
    assert step(-mg.ones(2)).tolist() == [-1, -1]


def test_a_result_whose_gradient_is_to_come_is_not_captured():
    w = mg.ones(2, requires_grad=True)
    step = mg.compile(lambda x: (w * x).sum())
    loss = falls_back(step, "gradient is still to come; put backward", mg.ones(2))
    loss.backward()
    assert w.grad.tolist() == [1, 1]


def test_an_argument_with_a_graph_is_not_captured():
    w = mg.ones(2, requires_grad=True)
    step = mg.compile(lambda x: (x * 2).sum())
    with pytest.warns(UserWarning, match="gradient is still to come"):
        step(w * 1).backward()
    assert w.grad.tolist() == [2, 2]


def test_what_goes_past_the_tensors_is_found_at_the_second_call():
    memory = np.zeros(2, "f")
    state = mg.from_numpy(memory)

    @mg.compile
    def step(x):
        memory[...] += 1  # no tensor operation
        return x + state

    result = falls_back(step, "a captured call differs", mg.zeros(2))
    assert result.tolist() == [8, 8]


def test_python_state_that_changes_inside_is_found_at_the_second_call():
    class Counter(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    counter = Counter()
    result = falls_back(mg.compile(counter), "differs: result.0 differs by 1", mg.ones(1))
    assert result.tolist() == [8]


def test_a_setting_that_changes_from_call_to_call_ends_capturing():
    model = nn.Dropout(0.5)
    step = mg.compile(model)
    with pytest.warns(UserWarning, match="as it is: p of Dropout changed in each of 9 calls"):
        for i in range(10):
            model.p = i / 10
            step(mg.ones(3))


def test_random_numbers_of_numpy_are_noticed():
    rng = np.random.default_rng(0)
    step = mg.compile(lambda x: x + mg.tensor(rng.normal(size=2)))
    falls_back(step, "differs", mg.zeros(2))


def test_an_error_while_replaying_leaves_the_step_usable():
    model = mlp()
    step = mg.compile(trainer(model, mg.optim.SGD(model.parameters(), lr=0.1)))
    x, labels = data()
    for _ in range(3):
        step(x, labels)
    with pytest.raises(IndexError):
        step(x, labels + 7)
    assert np.isfinite(step(x, labels).item())


def test_an_error_while_capturing_leaves_no_trace():
    @mg.compile
    def step(x):
        x * 2
        raise KeyError("mine")

    for _ in range(2):
        with pytest.raises(KeyError, match="mine"):
            step(mg.ones(2))
    assert mg.backends.capture.active is None
    assert type((mg.ones(2) * 2).array) is np.ndarray


def test_other_threads_are_not_captured():
    w = mg.ones(3, requires_grad=True)
    v = mg.ones(3, requires_grad=True)

    def elsewhere():
        (v * mg.rand(3).clamp(2, 2)).sum().backward()
        with mg.no_grad():
            v.add_(1)

    @mg.compile
    def step(x):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        (w * x).sum().backward()

    step(mg.ones(3))
    assert v.tolist() == [2, 2, 2] and v.grad.tolist() == [2, 2, 2]
    assert "clamp" not in step.source and "uniform" not in step.source
    assert step.source.count("accumulate") == 1


def test_objects_are_arguments_too():
    step = mg.compile(lambda x, model: model(x))
    for model in (nn.ReLU(), nn.Tanh()):
        for _ in range(3):
            np.testing.assert_array_equal(step(mg.ones(2), model).array, model(mg.ones(2)).array)
    assert step.captures == 2


def test_compile_within_compile_is_part_of_it():
    inner = mg.compile(lambda x: x * 2)
    outer = mg.compile(lambda x: inner(x) + 1)
    for _ in range(3):
        assert outer(mg.ones(1)).tolist() == [3]
    assert "multiply" in outer.source and "add" in outer.source


def test_the_source_can_be_read():
    model = mlp()
    step = mg.compile(trainer(model, mg.optim.SGD(model.parameters(), lr=0.1)))
    assert step.source == ""
    step(*data())
    assert "def replay(t0, t1):" in step.source
    assert "dot(x0, c" in step.source and "maximum(" in step.source


def images(model):
    """A function of a batch, to train a model of images with."""
    optimizer = mg.optim.Adam(model.parameters(), lr=0.01)

    def step(x, t):
        optimizer.zero_grad()
        hidden = model[:4](x)
        loss = F.cross_entropy(model[4:](hidden), t)
        loss.backward()
        optimizer.step()
        return loss.detach(), hidden.detach()

    return step


def test_kernels_of_one_loop_are_called_without_their_python():
    pytest.importorskip("numba")
    mg.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Sigmoid(), nn.MaxPool2d(3, 2)),
        *(nn.Flatten(), nn.Linear(288, 60), nn.BatchNorm1d(60), nn.ReLU(), nn.Linear(60, 3)),
    )
    twin = copy.deepcopy(model)
    plain, step, infer = images(twin), mg.compile(images(model)), mg.compile(model)
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(6):
        x, t = mg.tensor(rng.standard_normal((16, 2, 27, 28)).astype("f")), mg.arange(16) % 3
        kept += zip(step(x, t), plain(x, t), strict=True)
    model.eval(), twin.eval()
    with mg.no_grad():
        for _ in range(4):
            x = mg.tensor(rng.standard_normal((4, 2, 27, 28)).astype("f"))
            kept.append((infer(x), twin(x)))
    for found, expected in kept:  # at the end: no result is overwritten by a later call
        np.testing.assert_array_equal(found.numpy(), expected.numpy())
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), twin.state_dict()[name].numpy(), name)
    for name in ("column_norm(", "column_norm_backward(", "largest_of_four(", "to_winners("):
        assert name in step.source, name
    assert "column_inference(" in infer.source


@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
def test_numbers_among_the_results_of_a_kernel_are_computed_anew(dtype):
    scores = mg.tensor([[1.0, 2.0, 0.5]] * 3, dtype=dtype)
    step = mg.compile(lambda t: F.cross_entropy(scores, t, ignore_index=0))  # how many count
    for classes in ([1, 2, 1], [1, 2, 1], [0, 0, 1], [2, 0, 1]):
        t = mg.tensor(classes)
        expected = F.cross_entropy(scores, t, ignore_index=0)
        np.testing.assert_array_equal(step(t).numpy(), expected.numpy())


OF_VALUES = """(x > 0).float().sum() ; x == 1 ; x != y ; x.logical_and(y) ; x.isclose(y)
x.argmax() ; x.argmin(0) ; x.argsort() ; x.argsort(descending=True) ; x.sort(descending=True)[0]
x.topk(2)[0] ; x.max(0)[1] ; x.any() ; x.all() ; x.isnan().any() ; x.sign() ; x.round()
x.int() + 1 ; mg.where(x > 0, x, -x) ; x * (x > 0) ; x.masked_fill(x > 0, 0.0)
x.gather(0, (x > 0).long()) ; x.cumsum(0).flip(0)
x.flip(0) ; x.roll(1) ; x.detach() * 2 ; x.clone() ; x.to(mg.float64) + 1 ; x[(x > 0).long()]
x.index_select(0, (x > 0).long()) ; x.scatter(0, (x > 0).long(), 5.0) ; x.median(0)[0]
F.one_hot(x.abs().long(), 5) ; mg.stack([x, y]).T ; x.cumsum(0) ; x.std() ; x.unsqueeze(0) @ y"""
CALLS = [call.strip() for line in OF_VALUES.splitlines() for call in line.split(";")]


@pytest.mark.parametrize("call", CALLS)
def test_what_depends_on_values_is_computed_anew(call):
    function = eval(f"lambda x, y: {call}", {"mg": mg, "F": F})
    step = mg.compile(function)
    first, second = mg.tensor([1.0, -3.0, 2.0]), mg.tensor([1.0, 0.0, 1.0])
    for x, y in ((first, second), (first, second), (-first, second), (second, first)):
        np.testing.assert_array_equal(step(x, y).numpy(), function(x, y).numpy())
    assert step.captures == 1


def test_what_depends_on_values_of_other_tensors_is_computed_anew():
    weight = mg.tensor([1.0, -1.0, 2.0], requires_grad=True)
    optimizer = mg.optim.SGD([weight], lr=1.0)

    @mg.compile
    def step(x, places):
        optimizer.zero_grad()
        chosen = weight.gather(0, places) * x * (weight > 0)
        chosen.sum().backward()
        optimizer.step()
        return weight.argmax(), weight.grad.clone()

    twin = mg.tensor([1.0, -1.0, 2.0], requires_grad=True)
    for places in ([0, 1, 2], [0, 1, 2], [2, 2, 0], [1, 0, 1], [0, 0, 0]):
        x, index = mg.tensor([1.0, 2.0, 3.0]), mg.tensor(places)
        largest, slope = step(x, index)
        (twin.gather(0, index) * x * (twin > 0)).sum().backward()
        np.testing.assert_array_equal(slope.numpy(), twin.grad.numpy())
        with mg.no_grad():
            twin -= twin.grad
        twin.grad = None
        assert largest == twin.argmax()
        np.testing.assert_array_equal(weight.detach().numpy(), twin.detach().numpy())


def test_memory_seen_past_the_protocols_ends_capturing():
    @mg.compile
    def step(x):
        y = x * 2
        return mg.from_numpy(np.ascontiguousarray(y.array)[:2]) + 1

    with pytest.warns(UserWarning, match="ascontiguousarray"):
        step(mg.ones(3))
    np.testing.assert_array_equal(step(mg.zeros(3)).numpy(), [1, 1])


OF_IMAGES = {
    "batch norm": lambda: nn.BatchNorm2d(4),
    "batch norm without gamma": lambda: nn.BatchNorm2d(4, affine=False),
    "batch norm of volumes": lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.BatchNorm3d(2)),
    "batch norm of sequences": lambda: nn.Sequential(nn.Flatten(2), nn.BatchNorm1d(4)),
    "instance norm": lambda: nn.InstanceNorm2d(4),
    "layer norm": lambda: nn.LayerNorm([4, 20, 20]),
    "group norm": lambda: nn.GroupNorm(2, 4),
    "max pool": lambda: nn.MaxPool2d(2),
    "max pool, a border": lambda: nn.MaxPool2d(3, 2, 1),
    "max pool, apart": lambda: nn.MaxPool2d(2, 2, 0, 2),
    "max pool, over the end": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "average pool": lambda: nn.AvgPool2d(2),
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
}


@pytest.mark.parametrize("numba", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", OF_IMAGES)
def test_layers_of_images_are_captured(name, channels_last, numba):
    """Large enough for compiled kernels; a convolution before them leaves channels last."""
    if numba:
        pytest.importorskip("numba")
    mg.manual_seed(0)
    first = nn.Conv2d(4, 4, 1) if channels_last else nn.Identity()
    model = nn.Sequential(first, OF_IMAGES[name]())
    twin = copy.deepcopy(model)

    def trained(model):
        def step(x):
            model.zero_grad()
            y = model(x)
            (y * y).sum().backward()
            return y.detach(), *[p.grad.clone() for p in (x, *model.parameters())]

        return step

    before = mg.backends.numpy.numba
    mg.backends.numpy.use_numba(numba)
    try:
        plain, step = trained(twin), mg.compile(trained(model))
        rng = np.random.default_rng(0)
        for _ in range(4):
            x = mg.tensor(rng.standard_normal((8, 4, 20, 20)).astype("f"), requires_grad=True)
            y = x.detach().clone().requires_grad_()
            for found, expected in zip(step(x), plain(y), strict=True):
                np.testing.assert_array_equal(found.numpy(), expected.numpy())
        assert step.captures == 1
    finally:
        mg.backends.numpy.use_numba(before)


def test_kernels_that_share_their_work_are_not_opened():
    pytest.importorskip("numba")
    mg.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 16, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
    twin = copy.deepcopy(model)

    def trained(model):
        def step(x):
            model.zero_grad()
            y = model(x)
            (y * y).mean().backward()
            return y.detach(), *[p.grad.clone() for p in model.parameters()]

        return step

    plain, step = trained(twin), mg.compile(trained(model))
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = mg.tensor(rng.standard_normal((64, 2, 28, 28)).astype("f"))  # 800,000 numbers inside
        for found, expected in zip(step(x), plain(x), strict=True):
            np.testing.assert_array_equal(found.numpy(), expected.numpy())
    assert step.captures == 1


def test_results_nobody_uses_are_left_out():
    @mg.compile
    def step(x):
        mg.exp(x)
        return x + 1

    step(mg.ones(3))
    assert "exp" not in step.source


def test_ones_that_nobody_changes_are_made_once():
    w = mg.tensor([1.0, 2.0], requires_grad=True)

    @mg.compile
    def slope(x):
        ((w * x).sum() * 1.0).backward()  # from dL/dL = 1 on

    @mg.compile
    def counted(x):
        ones, tens = mg.ones_like(x), mg.tensor(np.full(2, 10.0, "f"))
        ones += x  # another array each time
        tens -= 9
        return ones * tens

    for k in range(1, 5):
        x = mg.tensor([1.0, 3.0]) * k
        w.grad = None
        slope(x)
        np.testing.assert_array_equal(w.grad.numpy(), x.numpy())
        result = counted(x)
        np.testing.assert_array_equal(result.numpy(), x.numpy() + 1)
        result.zero_()  # the caller's own
    assert "ones_like" not in slope.source
    assert counted.source.count("anew(") == 2


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 8, 3)])
def test_a_gradient_that_is_a_kernels_only_view_is_handed_over(layer):
    x, seeds = (
        mg.randn(3, 4, 8, 8, requires_grad=True),
        [mg.randn(layer(mg.zeros(3, 4, 8, 8)).shape)],
    )
    seeds.append(2 * seeds[0])

    def run(seed):
        x.grad = None
        layer.zero_grad()
        layer(x).backward(seed)

    step, found = mg.compile(run), []
    for seed in (*seeds, *seeds):
        step(seed)
        found.append((x.grad, x.grad.numpy().copy()))
    assert "copy(" not in step.source
    for kept, values in found:  # a later run leaves the gradient of an earlier one alone
        np.testing.assert_array_equal(kept.numpy(), values)
    run(seeds[1])
    np.testing.assert_array_equal(x.grad.numpy(), found[-1][1])


def test_a_change_through_detach_reaches_the_tensor():
    count = mg.zeros(2)

    @mg.compile
    def step(x):
        count.detach().add_(x)
        return count + 0

    for k in range(1, 5):
        np.testing.assert_array_equal(step(mg.ones(2)).numpy(), [k, k])
    np.testing.assert_array_equal(count.numpy(), [4, 4])


def test_an_array_of_numpy_as_an_argument_ends_capturing():
    memory = np.ones(3, "f")
    step = mg.compile(lambda batch: mg.tensor(batch["x"]) * 2)
    with pytest.warns(UserWarning, match="array of NumPy.*pass a tensor"):
        step({"x": memory})
    for _ in range(3):
        memory += 1
        np.testing.assert_array_equal(step({"x": memory}).numpy(), memory * 2)


@pytest.mark.parametrize("limit", [0, "a", 2.5])
def test_the_limit_is_a_number(limit):
    with pytest.raises(ValueError, match="limit of at least 1"):
        mg.compile(lambda x: x, limit=limit)


def test_it_takes_functions_only():
    with pytest.raises(TypeError, match="takes a function or a module, got int"):
        mg.compile(3)


def test_a_compiled_function_keeps_its_name_and_is_not_copied_state():
    @mg.compile
    def step(x):
        """Doc."""
        return x

    assert step.__name__ == "step" and step.__doc__ == "Doc."
    assert copy.copy(step).function is step.function


# ---- chains of elementwise calls (backends/fusion.py) --------------------------------------------


@pytest.fixture
def _with_numba():
    pytest.importorskip("numba")
    before = mg.backends.numpy.numba
    mg.backends.numpy.use_numba(True)
    yield
    mg.backends.numpy.use_numba(before)


def exposed(x, y):
    """A value that others read between two chains, and after them."""
    for _ in range(5):
        x = x * y + 1
    total, turned = x.sum(), x.T
    for _ in range(5):
        x = x / 2 - y
    return x, total, turned


def in_place(x, y):
    """Changes in place of what only the chain sees, and of what others have seen."""
    a = x * 2
    for _ in range(6):
        a += y
        a *= 0.5
    view = a.reshape(-1)
    for _ in range(6):
        a -= y
    return a, view, a.sum()


def two_shapes(x, y):
    """Chains of different shapes that read one another; operands of one element."""
    small = x.sum(dim=1)
    for _ in range(6):
        x = -((x + 1) * y).abs()
    for _ in range(6):
        small = (small * 0.5 - 3).square().sqrt()
    one = small.mean()
    for _ in range(5):
        x = x * one + small.mean()
    return x, small


def order(x, y):
    """Many values alive at once, read in another order than they were made."""
    values = [x]
    for i in range(12):
        values.append(values[-1] * y + i)
    for v in reversed(values):
        x = x - v
    return x, values[3]


@pytest.mark.usefixtures("_with_numba")
@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
@pytest.mark.parametrize("function", [exposed, in_place, two_shapes, order])
def test_a_fused_chain_has_the_bits_of_its_parts(function, dtype):
    mg.manual_seed(0)
    step = mg.compile(lambda x, y: [t.clone() for t in function(x, y)])
    for _ in range(4):
        x, y = mg.randn(3, 5, dtype=dtype), mg.rand(3, 5, dtype=dtype)
        before = x.clone()
        for found, expected in zip(step(x, y), function(x, y), strict=True):
            np.testing.assert_array_equal(found.array, expected.array, strict=True)
        np.testing.assert_array_equal(x.array, before.array)
    assert ("run_chain" in step.source) == (function is not in_place)


@pytest.mark.usefixtures("_with_numba")
def test_a_chain_in_train_mode_has_the_gradients_of_its_parts():
    w = mg.rand(4, 4, requires_grad=True)

    def loss(x):
        y = x
        for _ in range(20):
            y = y * w + x
        return y.sum()

    @mg.compile
    def step(x):
        loss(x).backward()

    for _ in range(4):
        x, w.grad = mg.rand(4, 4), None
        step(x)
        found, w.grad = w.grad, None
        loss(x).backward()
        np.testing.assert_array_equal(found.array, w.grad.array)
    assert step.source.count("run_chain") == 2


def test_without_numba_nothing_is_fused():
    before = mg.backends.numpy.numba
    mg.backends.numpy.use_numba(False)
    try:
        step = mg.compile(lambda x: exposed(x, x)[0])
        step(mg.ones(3, 3))
        assert "run_chain" not in step.source
    finally:
        mg.backends.numpy.use_numba(before)
