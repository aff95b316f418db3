"""Captured steps on a GPU: CUDA graphs that do what the step does, to the last bit, or none."""

from __future__ import annotations

import gc
import itertools
import threading
import warnings
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.backends.cuda import graph
from minigrad.nn import functional as F
from tests.gpu import device, emulator
from tests.gpu.mockcupy import counting
from tests.test_compilation import MODELS, OPTIMIZERS, mlp, trainer

only_standin = pytest.mark.skipif(device.REAL, reason="looks into the stand-in")
needs_kernels = pytest.mark.skipif(
    emulator.COMPILER is None and not device.REAL, reason="needs g++, or a GPU"
)
OPTIMIZERS = {
    **OPTIMIZERS,
    "plain SGD": lambda p: mg.optim.SGD(p, lr=0.1),
    "velocity": lambda p: mg.optim.Momentum(p, lr=0.1, form="velocity"),
    "corrected": lambda p: mg.optim.Momentum(p, lr=0.1, form="ema", bias_correction=True),
    "centered": lambda p: mg.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "eps hat": lambda p: mg.optim.Adam(p, lr=0.01, eps_hat=True, weight_decay=0.1, maximize=True),
    "Adadelta": lambda p: mg.optim.Adadelta(p),
    "Adamax": lambda p: mg.optim.Adamax(p, lr=0.01),
}
#: Those whose kernels read their numbers from memory: their steps are in the graph.
READING = (
    *("SGD", "plain SGD", "Momentum", "velocity", "corrected", "RMSprop", "centered"),
    *("Adam", "eps hat", "AdamW"),
)


@pytest.fixture(autouse=True)
def _no_fallback():
    """A step that is run as it is says so; no test may overlook it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="compile:")
        yield


@pytest.fixture
def gpu():
    with device.cuda(captures=True) as backend:
        yield backend


@pytest.fixture
def kernels():
    """A GPU whose kernels are ours: emulated, or real."""
    with device.cuda(captures=True, kernels=True) as backend:
        yield backend


def batches(rows=8):
    rng = np.random.default_rng(3)
    while True:
        x = mg.tensor(rng.normal(size=(rows, 6)), dtype=mg.float32).cuda()
        yield x, mg.tensor(rng.integers(0, 3, rows)).cuda()


def train(make_model, make_optimizer, compiled, steps=50, schedule=None, seed=0, **options):
    """All that is left after so many steps, as NumPy arrays."""
    mg.manual_seed(seed)
    model = make_model().cuda()
    optimizer = make_optimizer(model.parameters())
    scheduler = None if schedule is None else schedule(optimizer)
    step = trainer(model, optimizer, scheduler, **options)
    if compiled:
        step = mg.compile(step)
    losses = [step(*batch) for _, batch in zip(range(steps), batches(), strict=False)]
    if compiled:
        assert step.captures == 1 and step.plain is None and step.replays[0].checked
        assert len(step.replays[0].parts) == 1 + (
            type(optimizer).numbers is mg.optim.Optimizer.numbers
            or not mg.backends.cuda_backend().kernels
        )
    state = optimizer.state_dict()["state"]
    return {
        **{name: t.cpu().numpy() for name, t in model.state_dict().items()},
        **{f"{name}.grad": p.grad.cpu().numpy() for name, p in model.named_parameters()},
        **{f"{i}.{k}": v.cpu().numpy() for i, s in state.items() for k, v in s.items()},
        "losses": np.array([loss.item() for loss in losses]),
        "random": mg.rand(3).numpy(),
        "dropout": F.dropout(mg.ones(9, device="cuda")).cpu().numpy(),
    }


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name, strict=True)


WITHOUT = {
    "debiased": "its step count is a number of the host",
    "cumulative": "its step count is a number of the host",
    "residual": "its convolution is CuPy's; see the next test",
}


@pytest.mark.parametrize("model", [m for m in MODELS if m not in WITHOUT])
def test_training_is_the_same_to_the_last_bit(gpu, model):
    results = [train(MODELS[model], OPTIMIZERS["Adam"], compiled) for compiled in (False, True)]
    assert_same(*results)


@needs_kernels
@pytest.mark.parametrize("model", ["residual", "batch norm", "attention"])
def test_training_with_kernels_of_our_own(kernels, model):
    results = [
        train(MODELS[model], OPTIMIZERS["AdamW"], compiled, steps=12) for compiled in (False, True)
    ]
    assert_same(*results)


@pytest.mark.parametrize("model", ["debiased", "cumulative"])
def test_numbers_of_the_host_are_not_recorded(gpu, model):
    net = MODELS[model]().cuda()
    step = mg.compile(trainer(net, OPTIMIZERS["SGD"](net.parameters())))
    with pytest.warns(UserWarning, match="looks at the values"):
        step(*next(batches()))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_goes_on_as_it_would(gpu, optimizer):
    make = MODELS["batch norm"]
    results = [train(make, OPTIMIZERS[optimizer], compiled) for compiled in (False, True)]
    assert_same(*results)


@needs_kernels
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_kernels_that_read_their_numbers(kernels, optimizer):
    make = MODELS["layer norm, dropout"]
    schedule = lambda o: mg.optim.lr_scheduler.ExponentialLR(o, 0.9)  # noqa: E731
    results = [
        train(make, OPTIMIZERS[optimizer], compiled, steps=12, schedule=schedule)
        for compiled in (False, True)
    ]
    assert_same(*results)


@needs_kernels
@pytest.mark.parametrize("name", READING)
def test_steps_in_the_graph(kernels, name):
    model = mlp().cuda()
    step = mg.compile(trainer(model, OPTIMIZERS[name](model.parameters())))
    for _, batch in zip(range(4), batches(), strict=False):
        step(*batch)
    assert step.source.splitlines()[1:] == [
        f"{type(OPTIMIZERS[name]([mg.ones(1)])).__name__}.numbers()  # by the host",
        "launch()",
    ]


def test_schedules_and_clipping_go_on(gpu):
    options = {
        "clip": 0.1,
        "schedule": lambda o: mg.optim.lr_scheduler.StepLR(o, step_size=2, gamma=0.5),
    }
    results = [train(mlp, OPTIMIZERS["SGD"], compiled, **options) for compiled in (False, True)]
    assert_same(*results)


@needs_kernels
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_a_learning_rate_that_is_changed_counts(kernels, optimizer):
    def run(compiled):
        mg.manual_seed(0)
        model = mlp().cuda()
        optim = OPTIMIZERS[optimizer](model.parameters())
        step = trainer(model, optim)
        step = mg.compile(step) if compiled else step
        for i, batch in zip(range(8), batches(), strict=False):
            optim.param_groups[0]["lr"] = 0.1 / (i + 1)
            step(*batch)
        assert not compiled or step.captures == 1
        return {n: p.detach().cpu().numpy() for n, p in model.named_parameters()}

    assert_same(run(True), run(False))


@needs_kernels
def test_groups_count_for_themselves(kernels):
    """The same numbers at first, other ones later."""

    def run(compiled):
        mg.manual_seed(0)
        model = mlp().cuda()
        groups = [{"params": [p]} for p in model.parameters()]
        optim = mg.optim.Adam(groups, lr=0.01)
        step = trainer(model, optim)
        step = mg.compile(step) if compiled else step
        for i, batch in zip(range(8), batches(), strict=False):
            optim.param_groups[1]["lr"] = 0.01 * (i + 1)
            step(*batch)
        return {n: p.detach().cpu().numpy() for n, p in model.named_parameters()}

    assert_same(run(True), run(False))


@needs_kernels
def test_settings_that_kernels_are_given_record_anew(kernels):
    def run(compiled):
        mg.manual_seed(0)
        model = mlp().cuda()
        optim = mg.optim.Adam(model.parameters(), lr=0.01)
        step = trainer(model, optim)
        step = mg.compile(step) if compiled else step
        for i, batch in zip(range(15), batches(), strict=False):
            if i == 5:
                optim.param_groups[0]["weight_decay"] = 0.1
            if i == 10:
                optim.load_state_dict(optim.state_dict())  # other memory
            step(*batch)
        assert not compiled or step.captures == 3
        return {n: p.detach().cpu().numpy() for n, p in model.named_parameters()}

    assert_same(run(True), run(False))


@needs_kernels
def test_a_hook_of_a_later_time_is_called(kernels):
    model = mlp().cuda()
    optim = mg.optim.Adam(model.parameters())
    step = mg.compile(trainer(model, optim), check=False)
    calls = []
    for i, batch in zip(range(12), batches(), strict=False):
        if i == 6:
            optim.register_step_post_hook(lambda *given: calls.append(1))
        step(*batch)
    assert len(calls) == 6 and step.captures == 2


def test_hooks_averages_and_subclasses_run_between_graphs(gpu):
    class Own(mg.optim.SGD):
        def update(self, param, grad, state, group):
            super().update(param, grad * 0.5, state, group)

    def run(compiled):
        mg.manual_seed(0)
        model = mlp(nn.BatchNorm1d(16)).cuda()
        average = mg.optim.swa_utils.AveragedModel(model)
        optim = Own(model.parameters(), lr=0.1)
        seen = []
        optim.register_step_pre_hook(lambda o, a, k: seen.append(model[0].bias.grad.clone()))
        train = trainer(model, optim)

        def step(*given):
            loss = train(*given)
            average.update_parameters(model)
            return loss.detach() * 2

        step = mg.compile(step) if compiled else step
        losses = [step(*b).item() for _, b in zip(range(8), batches(), strict=False)]
        state = {n: t.cpu().numpy() for n, t in average.state_dict().items()}
        if compiled:
            assert len(step.replays[0].parts) == 4
            del seen[4]  # the fourth call was run both ways
        seen = np.array([grad.tolist() for grad in seen])
        return {**state, "seen": seen, "losses": np.array(losses)}

    assert_same(run(True), run(False))


# ---- gradients ----------------------------------------------------------------------------------


def test_gradients_add_up_where_nobody_forgets_them(gpu):
    w = mg.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    step = mg.compile(lambda x: (w * x).sum().backward())
    for i in range(7):
        step(mg.tensor([1.0, float(i)]).cuda())
    assert w.grad.tolist() == [7, 21] and len(step.replays) > 0
    w.grad = None
    for i in range(7):
        step(mg.tensor([1.0, float(i)]).cuda())
    assert w.grad.tolist() == [7, 21] and step.plain is None


@pytest.mark.parametrize("where", ["first", "last"])
def test_gradients_that_are_set_to_none_are_forgotten(gpu, where):
    w = mg.tensor([1.0, 2.0], device="cuda", requires_grad=True)

    @mg.compile
    def step(x):
        if where == "first":
            w.grad = None
        (w * x).sum().backward()
        grad = w.grad * 1
        if where == "last":
            w.grad = None
        return grad

    for i in range(7):
        assert step(mg.tensor([1.0, float(i)]).cuda()).tolist() == [1, i]
        assert (w.grad is None) == (where == "last")
    assert step.captures == 1


def test_the_gradient_of_an_argument_arrives_at_that_argument(gpu):
    step = mg.compile(lambda x: (x * x).sum().backward())
    given = [mg.tensor([1.0, float(i)]).cuda().requires_grad_() for i in range(7)]
    for x in given:
        step(x)
    assert [x.grad.tolist() for x in given] == [[2, 2 * i] for i in range(7)]
    step(given[-1])  # adds
    assert given[-1].grad.tolist() == [4, 24]


def test_gradients_from_outside_are_clipped_and_used(gpu):
    """backward() outside of the captured part."""

    def run(compiled):
        mg.manual_seed(0)
        model = mlp().cuda()
        optim = OPTIMIZERS["SGD"](model.parameters())

        def step():
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optim.step()

        step = mg.compile(step) if compiled else step
        for _, (x, t) in zip(range(8), batches(), strict=False):
            model.zero_grad()
            F.cross_entropy(model(x), t).backward()
            step()
        assert not compiled or (step.plain is None and step.captures == 1)
        state = {n: p.detach().cpu().numpy() for n, p in model.named_parameters()}
        return state | {f"{n}.grad": p.grad.cpu().numpy() for n, p in model.named_parameters()}

    assert_same(run(True), run(False))


@needs_kernels
def test_the_step_of_an_optimizer_alone(kernels):
    def run(compiled):
        mg.manual_seed(0)
        params = [mg.randn(3).cuda().requires_grad_() for _ in range(3)]
        optim = mg.optim.Adam(params, lr=0.01)
        step = mg.compile(optim.step) if compiled else optim.step
        for i in range(10):
            for p in params:
                p.grad = p.detach() * i
            step()
        assert not compiled or len(step.replays[-1].parts) == 1
        return {str(i): p.detach().cpu().numpy() for i, p in enumerate(params)}

    assert_same(run(True), run(False))


def test_accumulation_over_several_calls(gpu):
    def run(compiled):
        mg.manual_seed(0)
        model = mlp().cuda()
        optim = OPTIMIZERS["Adam"](model.parameters())

        def step(x, t):
            F.cross_entropy(model(x), t).backward()

        step = mg.compile(step) if compiled else step
        for i, batch in zip(range(15), batches(), strict=False):
            step(*batch)
            if i % 3 == 2:
                optim.step()
                optim.zero_grad(set_to_none=False)
        return {n: p.detach().cpu().numpy() for n, p in model.named_parameters()}

    assert_same(run(True), run(False))


def test_two_steps_have_memory_of_their_own(gpu):
    models = [mlp().cuda(), mlp(nn.LayerNorm(16)).cuda()]

    def gradients(model):
        def step(x, t):
            model.zero_grad()
            F.cross_entropy(model(x), t).backward()

        return mg.compile(step)

    first, second = map(gradients, models)
    for _, batch in zip(range(5), batches(), strict=False):
        first(*batch)
        left = [p.grad.tolist() for p in models[0].parameters()]
        second(*batch)
        assert [p.grad.tolist() for p in models[0].parameters()] == left
        left = [p.grad.tolist() for p in models[1].parameters()]
        first(*batch)
        assert [p.grad.tolist() for p in models[1].parameters()] == left


# ---- arguments and results ----------------------------------------------------------------------


def test_results_survive_the_next_call(gpu):
    mg.manual_seed(0)
    model = MODELS["layer norm, dropout"]().cuda().eval()
    fast = mg.compile(model)
    with mg.no_grad():
        given = [x for _, (x, _) in zip(range(8), batches(), strict=False)]
        found = [fast(x) for x in given]
        for x, y in zip(given, found, strict=True):
            assert y.tolist() == model(x).tolist() and y.grad_fn is None
    assert fast.captures == 1 and fast.replays[0].parts


def test_an_argument_changed_in_place_is(gpu):
    @mg.compile
    def step(x):
        return x.mul_(2) + 1

    for i in range(7):
        x = mg.tensor([float(i)]).cuda()
        assert step(x).tolist() == [2 * i + 1] and x.tolist() == [2 * i]


def test_what_is_returned_keeps_its_form(gpu):
    w = mg.tensor(2.0, device="cuda")

    @mg.compile
    def step(x, *, options):
        return {"sum": [x + options["shift"], w], "x": (x, None, "name")}

    shift = mg.ones(1, device="cuda")
    for i in range(7):
        x = mg.tensor([float(i)]).cuda()
        result = step(x, options={"shift": shift})
        assert result["sum"][0].tolist() == [i + 1]
        assert result["sum"][1] is w and result["x"] == (x, None, "name")


def test_without_arguments(gpu):
    w = mg.ones(3, device="cuda")
    step = mg.compile(lambda: w * 2)
    for i in range(7):
        w.fill_(float(i))
        assert step().tolist() == [2 * i] * 3
    assert step.replays[0].parts


def test_buffers_stay_where_they_are(gpu):
    mg.manual_seed(0)
    model = mlp(nn.BatchNorm1d(16)).cuda()
    step = mg.compile(trainer(model, OPTIMIZERS["Adam"](model.parameters())), check=False)
    places = set()
    for i, batch in zip(range(10), batches(), strict=False):
        step(*batch)
        if i > 2:
            tensors = [*model.parameters(), *(p.grad for p in model.parameters())]
            places.add(tuple(t.array.data.ptr for t in tensors))
    assert len(places) == 1


@only_standin
def test_a_replay_waits_for_nothing_and_sends_nothing(gpu):
    model = mlp(nn.Dropout(0.5)).cuda()
    step = mg.compile(trainer(model, OPTIMIZERS["Adam"](model.parameters())), check=False)
    for i, batch in zip(range(6), batches(), strict=False):
        with counting() as found:
            step(*batch)
        if i > 2:
            assert (found["waits"], found["uploads"], found["mallocs"]) == (0, 0, 0)
            assert found["launches"] == 2


@only_standin
def test_constants_that_others_forget_are_kept(gpu, monkeypatch):
    """An index that the backend keeps for a while, and the graph for as long as it lives."""
    monkeypatch.setattr("minigrad.backends.cupy_backend.CONSTANTS", 1)
    pad = nn.ReflectionPad1d(2)
    step = mg.compile(pad, check=False)
    x = mg.arange(5.0).cuda().reshape(1, 5)
    expected = pad(x).tolist()
    for _ in range(4):
        assert step(x).tolist() == expected
    nn.ReflectionPad1d(3)(mg.ones(1, 7).cuda())  # another one in its place
    held = [mg.ones(n).cuda() for n in range(1, 40)]
    assert step(x).tolist() == expected and held


@pytest.mark.parametrize(
    "equation",
    [
        *("ij,jk->ik", "ij,jk->ki", "bij,bjk->bik", "i,i->", "i,j->ij", "ij,ij->ij", "ij,j->i"),
        *("ij,kj->ik", "bhqd,bhkd->bhqk", "bi,oij,bj->bo", "ij,jk,kl->il", "a,b,c,d->dbca"),
        *("ab,b,bc,c->ac", "ij->ji", "ii->i"),
    ],
)
def test_sums_of_products_can_be_recorded(gpu, equation):
    sizes = dict(zip("abcdhijkloq", [2, 3, 4, 5, 2, 3, 4, 5, 2, 3, 4], strict=True))
    sizes["i"] = 4 if equation.startswith("ii") else sizes["i"]
    mg.manual_seed(0)
    terms = equation.split("->")[0].split(",")
    here = [mg.randn(*(sizes[c] for c in t), dtype=mg.float64) for t in terms]
    expected = mg.einsum(equation, *here)
    there = [x.cuda().requires_grad_() for x in here]
    step = mg.compile(lambda *given: mg.einsum(equation, *given).sum().backward())
    for _ in range(5):
        for x in there:
            x.grad = None
        step(*there)
    with mg.no_grad():
        found = mg.einsum(equation, *there)
    np.testing.assert_allclose(found.cpu().numpy(), expected.numpy(), atol=1e-12)
    for x in here:
        x.requires_grad_()
    mg.einsum(equation, *here).sum().backward()
    for x, y in zip(here, there, strict=True):
        np.testing.assert_allclose(y.grad.cpu().numpy(), x.grad.numpy(), atol=1e-12)
    assert step.plain is None


# ---- guards -------------------------------------------------------------------------------------


def test_guards_on_what_was_constant(gpu):
    model, other = nn.Dropout(0.0), mg.tensor([5.0]).cuda()
    w = mg.tensor([1.0]).cuda()
    factor = 2.0

    @mg.compile
    def step(x):
        return model(x) * w * factor

    x = mg.tensor([1.0]).cuda()

    def check(expected):
        for _ in range(6):
            assert step(x).tolist() == [expected]

    check(2)
    factor = 3.0
    check(3)
    w.array = (w + 1).array  # another array in place of the one recorded
    check(6)
    w.fill_(4.0)  # the same array
    check(12)
    w = other
    check(15)
    model.eval()
    check(15)
    mg.set_float32_matmul_precision("high")
    try:
        check(15)
    finally:
        mg.set_float32_matmul_precision("highest")
    assert step.captures == 6


@pytest.mark.parametrize(
    "use",
    [
        lambda x, i: x[i],
        lambda x, i: x.gather(0, i),
        lambda x, i: x.index_select(0, i),
        lambda x, i: F.embedding(i, x.reshape(-1, 1)),
        lambda x, i: x.scatter(0, i, x[:3]),
    ],
    ids=["index", "gather", "index_select", "embedding", "scatter"],
)
def test_an_index_of_other_memory_records_anew(gpu, use):
    index = [mg.tensor([0, 2, 1]).cuda()]
    x = mg.tensor([1.0, 2.0, 3.0, 4.0]).cuda()
    step = mg.compile(lambda x: use(x, index[0]))
    for places in ([0, 2, 1], [3, 0, 2]):
        index[0].array = mg.tensor(places).cuda().array
        for _ in range(6):
            assert step(x).tolist() == use(x, index[0]).tolist()
    assert step.captures == 2


def test_train_and_eval_take_turns(gpu):
    mg.manual_seed(0)
    model = mlp(nn.BatchNorm1d(16), nn.Dropout(0.5)).cuda()
    predict = mg.compile(lambda x: model(x).detach())
    for _, (x, _) in zip(range(7), batches(), strict=False):
        model.train()
        predict(x)
        model.eval()
        np.testing.assert_array_equal(predict(x).cpu().numpy(), model(x).detach().cpu().numpy())
    assert predict.captures == 2 and all(r.parts for r in predict.replays)


def test_other_shapes_and_dtypes_are_recorded_anew(gpu):
    double = mg.compile(lambda x: x * 2)
    for x in (mg.ones(3), mg.ones(4), mg.ones(3, dtype=mg.float64), mg.ones(2, 3).T):
        for _ in range(5):
            found = double(x.cuda()).cpu()
            np.testing.assert_array_equal(found.array, 2 * x.array, strict=True)
    assert double.captures == 4


def test_freezing_a_parameter_records_anew(gpu):
    model = mlp().cuda()
    step = mg.compile(trainer(model, OPTIMIZERS["SGD"](model.parameters())))
    for _, batch in zip(range(5), batches(), strict=False):
        step(*batch)
    model[0].weight.requires_grad_(False)
    model.zero_grad()
    before = model[0].weight.tolist()
    for _, batch in zip(range(5), batches(), strict=False):
        step(*batch)
    assert model[0].weight.tolist() == before
    assert step.captures == 2


def test_memory_of_dropped_graphs_is_freed(gpu):
    @mg.compile(limit=2)
    def double(x):
        return x * 2

    pools = []
    for n in range(1, 6):
        for _ in range(4):
            assert double(mg.ones(n).cuda()).tolist() == [2] * n
        pools.append(weakref.ref(double.replays[-1]._recording.pool))
    gc.collect()
    assert [pool() is not None for pool in pools] == [False] * 3 + [True] * 2


# ---- what is refused ----------------------------------------------------------------------------


def falls_back(step, message, *args, calls=8):
    with pytest.warns(UserWarning, match=message):
        for _ in range(calls):
            result = step(*args)
    return result


count = itertools.count()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * mg.tensor(2.0) + mg.tensor([1.0, 2.0], device="cuda"),
        lambda x: mg.full((2,), 3.0, device="cuda").add_(x),
        lambda x: mg.arange(2, device="cuda") + x[[1, 0]],
        lambda x: (mg.eye(2, device="cuda") @ x.reshape(2, 1)).mul_(2),
    ],
)
def test_values_that_are_the_same_in_every_call(gpu, function):
    step = mg.compile(function)
    for i in range(7):
        x = mg.tensor([1.0, float(i)]).cuda()
        assert step(x).tolist() == function(x).tolist()
    assert step.plain is None and step.captures == 1


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: x * 2 if x.sum() > 0 else x, "looks at the values"),
        (lambda x: x * x.sum().item(), "looks at the values"),
        (lambda x: x[x > 0], "cannot hold it"),
        (lambda x: x + mg.rand(2).cuda(), "draws random numbers on the host"),
        (lambda x: x + mg.rand(2, device="cuda"), "draws random numbers on the host"),
        (lambda x: x + mg.tensor([1.0, float(next(count))]).cuda(), "sends other values"),
        (lambda x: x + mg.tensor([next(count), 2.0], device="cuda"), "sends other values"),
        (lambda x: (x.cpu() * 2).cuda(), "looks at the values"),
        (lambda x: mg.einsum("i->", x).item() + x, "looks at"),
    ],
)
def test_what_a_graph_cannot_hold_runs_as_it_is(gpu, function, why):
    mg.manual_seed(0)
    step = mg.compile(function)
    x = mg.tensor([1.0, 2.0]).cuda()
    falls_back(step, why, x)
    assert step.replays == []


def test_arguments_of_the_cpu_are_to_be_moved_before(gpu):
    w = mg.ones(2, device="cuda")
    falls_back(mg.compile(lambda x, w: x.cuda() * w), "move it to the GPU before", mg.ones(2), w)


@only_standin
def test_arguments_are_let_go(gpu):
    w = mg.ones(2, device="cuda", requires_grad=True)
    scale = nn.Dropout(0.0)

    @mg.compile
    def step(x):
        w.grad = None
        (scale(x) * w).sum().backward()
        return x.detach() + 1

    given = []
    for _ in range(6):
        x = mg.ones(2).cuda().requires_grad_()
        step(x)
        given.append(weakref.ref(x.array))
        del x
    gc.collect()
    assert [r() for r in given] == [None] * 6


def test_work_on_both_runs_as_it_is(gpu):
    here = mg.ones(2)

    @mg.compile
    def step(x):
        here.add_(1)
        return x * 2

    falls_back(step, "on the CPU as well as on a GPU", mg.ones(2).cuda())
    assert here.tolist() == [9, 9]


def test_a_result_whose_gradient_is_to_come_is_not_recorded(gpu):
    w = mg.ones(2, device="cuda", requires_grad=True)
    loss = falls_back(
        mg.compile(lambda x: (w * x).sum()), "still to come", mg.ones(2, device="cuda")
    )
    loss.backward()
    assert w.grad.tolist() == [1, 1]
    with pytest.warns(UserWarning, match="still to come"):
        mg.compile(lambda x: (x * 2).sum())(w * 1)


def test_an_error_while_recording_leaves_everything_as_it_was(gpu):
    """What the third call has done by then, host and device, is put back."""

    def run(compiled):
        mg.manual_seed(0)
        model = mlp(nn.BatchNorm1d(16), nn.Dropout(0.3)).cuda()
        optim = mg.optim.Adagrad(model.parameters(), lr=0.1)  # between two graphs
        scheduler = mg.optim.lr_scheduler.StepLR(optim, 1, 0.5)
        calls = []

        def step(x, t):
            loss = trainer(model, optim, scheduler)(x, t).detach()
            calls.append(1)
            return loss + (x[x > 0].sum() if len(calls) == 3 else 0)

        step = mg.compile(step) if compiled else step
        if compiled:
            with pytest.warns(UserWarning, match="cannot hold it"):
                losses = [step(*b).item() for _, b in zip(range(3), batches(), strict=False)]
            assert calls == [1] * 4  # recorded, and then as it is
            losses = losses[:2]
        else:
            losses = [step(*b).item() for _, b in zip(range(3), batches(), strict=False)][:2]
        state = {n: t.cpu().numpy() for n, t in model.state_dict().items()}
        state |= {f"{n}.grad": p.grad.cpu().numpy() for n, p in model.named_parameters()}
        kept = {
            f"{i}.{k}": v.cpu().numpy()
            for i, s in optim.state_dict()["state"].items()
            for k, v in s.items()
        }
        numbers = {"lr": np.array(scheduler.get_last_lr()), "losses": np.array(losses)}
        return {**state, **kept, **numbers, "epoch": np.array(scheduler.last_epoch)}

    assert_same(run(True), run(False))
    assert (mg.ones(2, device="cuda") * 2).tolist() == [2, 2]  # nothing captures any more


def test_an_error_of_the_step_itself_is_the_users(gpu):
    fail = [False]

    @mg.compile
    def step(x):
        y = x * 2
        if fail[0]:
            raise KeyError("mine")
        return y

    x = mg.ones(2, device="cuda")
    for i in range(6):
        fail[0] = i == 2
        if fail[0]:
            with pytest.raises(KeyError, match="mine"):
                step(x)
        else:
            assert step(x).tolist() == [2, 2]
    assert step.plain is None
    assert mg.backends.capture.active is None


def test_what_goes_past_the_tensors_is_found_at_the_first_replay(gpu):
    count = [0]

    @mg.compile
    def step(x):
        count[0] += 1
        return x * count[0]

    result = falls_back(step, "a replayed call differs: result.0 differs", mg.ones(1).cuda())
    assert result.tolist() == [8]


def test_compile_within_compile_is_part_of_it(gpu):
    inner = mg.compile(lambda x: x * 2)
    outer = mg.compile(lambda x: inner(x) + 1)
    for _ in range(6):
        assert outer(mg.ones(1).cuda()).tolist() == [3]
    assert outer.replays[0].parts


def test_other_threads_are_not_recorded(gpu):
    w = mg.ones(3, device="cuda", requires_grad=True)
    v = mg.ones(3, device="cuda", requires_grad=True)

    def elsewhere():
        (v * 2).sum().backward()

    @mg.compile(check=False)
    def step(x):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        (w * x).sum().backward()

    for _ in range(5):
        step(mg.ones(3).cuda())
    assert w.grad.tolist() == [5, 5, 5] and v.grad.tolist() == [6, 6, 6]


def test_several_threads_share_a_step(gpu):
    w = mg.ones(3, device="cuda")
    steps = [mg.compile(lambda x: (x * w).exp().sum()), mg.compile(lambda x: x * w * 2)]
    wrong = []

    def call(number):
        for i in range(12):
            x = mg.tensor([float(i), number, 1.0]).cuda()
            for step in steps:
                if step(x).tolist() != step.function(x).tolist():
                    wrong.append((number, i))

    threads = [threading.Thread(target=call, args=(float(n),)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and all(step.plain is None for step in steps)


@pytest.mark.usefixtures("gpu")
def test_calls_from_other_streams_come_after_each_other():
    cupy = mg.backends.cuda_backend().module
    double = mg.compile(lambda x: x * 2, check=False)
    x = mg.ones(3).cuda()
    for i in range(6):
        stream = cupy.cuda.Stream(non_blocking=True) if i % 2 else cupy.cuda.Stream.null
        with stream:
            assert double(x).tolist() == [2, 2, 2]


@only_standin
def test_the_graph_belongs_to_the_device_of_its_tensors():
    with device.cuda(2, captures=True):
        step = mg.compile(lambda x: x * 2)
        for _ in range(5):
            for place in ("cuda:1", "cuda:0"):
                y = step(mg.ones(2, device=place))
                assert y.tolist() == [2, 2] and y.device == place
        assert step.captures == 2 and {r.device for r in step.replays} == {0, 1}
        both = mg.compile(lambda x, y: (x * 2, y * 2))
        falls_back(both, "several GPUs", mg.ones(2, device="cuda:0"), mg.ones(2, device="cuda:1"))
    graph.mode = graph.RELAXED
