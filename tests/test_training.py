"""fit and evaluate."""

import minigrad as mg
from minigrad import nn
from minigrad.data import DataLoader, TensorDataset
from minigrad.training import evaluate, fit


def problem():
    mg.manual_seed(0)
    x = mg.randn(200, 2)
    data = TensorDataset(x, (x[:, 0] > x[:, 1]).long())
    net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    return net, DataLoader(data, 20, shuffle=True), DataLoader(data, 200)


def test_fit_learns_and_keeps_a_history():
    net, train, test = problem()
    seen = []
    history = fit(
        net,
        train,
        test,
        optimizer=mg.optim.Adam(net.parameters(), lr=0.02),
        epochs=5,
        progress=False,
        each_epoch=seen.append,
    )
    assert history.epochs == seen
    assert [e.epoch for e in seen] == [1, 2, 3, 4, 5]
    assert seen[-1].test_accuracy > 0.95
    assert seen[-1].train_loss < seen[0].train_loss
    assert not history.interrupted
    assert net.training


def test_evaluate_leaves_modes_and_statistics_as_they_were():
    net, _, test = problem()
    net[1].eval()
    before = [b.clone() for b in net.buffers()]
    loss, accuracy = evaluate(net, test)
    assert 0 <= accuracy <= 1
    assert loss > 0
    assert [m.training for m in net.modules()] == [True, True, False, True, True]
    assert all(a.equal(b) for a, b in zip(before, net.buffers(), strict=True))
