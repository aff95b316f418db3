"""Code as tutorials for PyTorch write it runs with only the import changed."""

import numpy as np
import pytest

TUTORIAL = """
def batch_norm(X, gamma, beta, moving_mean, moving_var, eps, momentum, is_training):
    if not is_training:
        X_hat = (X - moving_mean) / torch.sqrt(moving_var + eps)
    else:
        assert len(X.shape) in (2, 4)
        if len(X.shape) == 2:
            mean = X.mean(dim=0)
            var = ((X - mean) ** 2).mean(dim=0)
        else:
            mean = X.mean(dim=0, keepdim=True).mean(dim=2, keepdim=True).mean(dim=3, keepdim=True)
            var = ((X - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
        X_hat = (X - mean) / torch.sqrt(var + eps)
        moving_mean = momentum * moving_mean + (1.0 - momentum) * mean
        moving_var = momentum * moving_var + (1.0 - momentum) * var
    Y = gamma * X_hat + beta
    return Y, moving_mean, moving_var


class BatchNorm(nn.Module):
    def __init__(self, num_features, num_dims):
        super(BatchNorm, self).__init__()
        shape = (1, num_features) if num_dims == 2 else (1, num_features, 1, 1)
        self.gamma = nn.Parameter(torch.ones(shape))
        self.beta = nn.Parameter(torch.zeros(shape))
        self.moving_mean = torch.zeros(shape)
        self.moving_var = torch.ones(shape)
        self.is_training = True

    def forward(self, X):
        if self.moving_mean.device != X.device:
            self.moving_mean = self.moving_mean.to(X.device)
            self.moving_var = self.moving_var.to(X.device)
        Y, self.moving_mean, self.moving_var = batch_norm(
            X, self.gamma, self.beta, self.moving_mean.data, self.moving_var.data,
            eps=1e-5, momentum=0.9, is_training=self.is_training)
        return Y


net = nn.Sequential(
    nn.Conv2d(1, 6, kernel_size=5), BatchNorm(6, num_dims=4), nn.Sigmoid(),
    nn.MaxPool2d(kernel_size=2, stride=2),
    nn.Conv2d(6, 16, kernel_size=5), BatchNorm(16, num_dims=4), nn.Sigmoid(),
    nn.MaxPool2d(kernel_size=2, stride=2), nn.Flatten(),
    nn.Linear(256, 120), BatchNorm(120, num_dims=2), nn.Sigmoid(),
    nn.Linear(120, 84), BatchNorm(84, num_dims=2), nn.Sigmoid(),
    nn.Linear(84, 10))

X = torch.rand(8, 1, 28, 28)
y = torch.randint(0, 10, (8,))
assert X.size() == (8, 1, 28, 28) and X.size(0) == 8
if weights is not None:
    with torch.no_grad():
        for p, w in zip(net.parameters(), weights):
            p.copy_(torch.from_numpy(w))
        X.copy_(torch.from_numpy(image))
        y.copy_(torch.from_numpy(label))
loss_fn = nn.CrossEntropyLoss()
losses = []
for step in range(3):
    for p in net.parameters():
        p.grad = None
    loss = loss_fn(net(X), y)
    loss.backward()
    with torch.no_grad():
        for p in net.parameters():
            p -= 0.5 * p.grad
    losses.append(loss.item())
gamma = net[1].gamma.view((-1,))
for m in net:
    if isinstance(m, BatchNorm):
        m.is_training = False
scores = net(X)
"""


def run(torch, nn, weights=None, image=None, label=None):
    names = {"torch": torch, "nn": nn, "weights": weights, "image": image, "label": label}
    exec(compile(TUTORIAL, "tutorial", "exec"), names)
    return names


def test_batch_norm_from_scratch_runs_with_only_the_import_changed():
    import minigrad as torch
    from minigrad import nn

    torch.manual_seed(0)
    names = run(torch, nn)
    assert names["losses"][-1] < names["losses"][0]
    assert names["gamma"].shape == (6,)
    assert np.isfinite(names["scores"].detach().numpy()).all()


@pytest.mark.parity
def test_batch_norm_from_scratch_gives_pytorchs_numbers():
    torch = pytest.importorskip("torch")
    import minigrad

    torch.manual_seed(0)
    made = run(torch, torch.nn)
    start = [p.detach().numpy().copy() for p in made["net"].parameters()]
    data = {"image": made["X"].numpy(), "label": made["y"].numpy()}
    theirs = run(torch, torch.nn, start, **data)
    ours = run(minigrad, minigrad.nn, start, **data)
    np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=1e-4)
    np.testing.assert_allclose(
        ours["scores"].detach().numpy(), theirs["scores"].detach().numpy(), rtol=1e-2, atol=1e-3
    )
