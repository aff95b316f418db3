"""The same workloads by hand in JAX: each step is one ``jax.jit``, its state given away and back.

Images are (N, H, W, C), as JAX's users keep them. Running statistics of BatchNorm are updated.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax, random
from workloads import Work

keys = iter(random.split(random.key(0), 10_000))


def randn(*shape):
    return random.normal(next(keys), shape)


# ---- layers -------------------------------------------------------------------------------------
# A layer is (parameters, running statistics, function); the function takes both and x, and returns
# y and the new statistics.


def dense(into, out, bias=True):
    p = {"w": randn(into, out) / into**0.5}
    if bias:
        p["b"] = jnp.zeros(out)
    return p, {}, lambda p, s, x, train: (x @ p["w"] + p.get("b", 0), s)


def convolve(x, w, stride=1, padding="SAME"):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, w, (stride, stride), padding, dimension_numbers=dimensions)


def conv2d(into, out, size=3, stride=1, bias=True):
    p = {"w": randn(size, size, into, out) / (into * size * size) ** 0.5}
    if bias:
        p["b"] = jnp.zeros(out)
    pad = [(size // 2, size // 2)] * 2
    return p, {}, lambda p, s, x, train: (convolve(x, p["w"], stride, pad) + p.get("b", 0), s)


def normalized(p, s, x, train):
    """BatchNorm over all axes but the last, as PyTorch has it: eps 1e-5, momentum 0.1."""
    if not train:
        mean, var = s["mean"], s["var"]
    else:
        axes = tuple(range(x.ndim - 1))
        mean, var = jnp.mean(x, axes), jnp.var(x, axes)
        n = x.size // x.shape[-1]
        s = {
            "mean": 0.9 * s["mean"] + 0.1 * mean,
            "var": 0.9 * s["var"] + 0.1 * var * n / (n - 1),
            "count": s["count"] + 1,
        }
    return (x - mean) * (lax.rsqrt(var + 1e-5) * p["gamma"]) + p["beta"], s


def batch_norm(features):
    p = {"gamma": jnp.ones(features), "beta": jnp.zeros(features)}
    stats = {"mean": jnp.zeros(features), "var": jnp.ones(features), "count": jnp.zeros((), "i4")}
    return p, stats, normalized


def plain(function):
    return {}, {}, lambda p, s, x, train: (function(x), s)


relu, sigmoid = plain(jax.nn.relu), plain(jax.nn.sigmoid)
flatten = plain(lambda x: x.reshape(len(x), -1))


def _pooled(x):
    # 2 x 2 windows without overlap as an axis of their own: the gradient of reduce_window is slower
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


max_pool = plain(_pooled)


def sequential(*layers):
    params, stats, functions = zip(*layers, strict=True)

    def run(p, s, x, train):
        new = []
        for function, own_p, own_s in zip(functions, p, s, strict=True):
            x, kept = function(own_p, own_s, x, train)
            new.append(kept)
        return x, tuple(new)

    return params, stats, run


def block(into, out, stride):
    body = sequential(
        conv2d(into, out, 3, stride, bias=False),
        batch_norm(out),
        relu,
        conv2d(out, out, 3, 1, bias=False),
        batch_norm(out),
    )
    short = plain(lambda x: x)
    if stride > 1 or into != out:
        short = sequential(conv2d(into, out, 1, stride, bias=False), batch_norm(out))

    def run(p, s, x, train):
        y, kept = body[2](p[0], s[0], x, train)
        z, kept_short = short[2](p[1], s[1], x, train)
        return jax.nn.relu(y + z), (kept, kept_short)

    return (body[0], short[0]), (body[1], short[1]), run


def cross_entropy(logits, labels):
    taken = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
    return -taken.mean()


def adam_update(params, grads, m, v, t):
    """PyTorch's Adam, lr 1e-3."""
    t = t + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
    rate, root = 1e-3 / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
    params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + 1e-8), params, m, v)
    return params, m, v, t


# ---- steps --------------------------------------------------------------------------------------


class Stepper:
    """A jitted function of state and inputs that returns (new state, anything); waits for both."""

    def __init__(self, function, state, inputs):
        self.state, self.inputs = state, inputs
        self.function = jax.jit(function, donate_argnums=0)
        self.inputs = jax.block_until_ready(self.inputs)

    def __call__(self):
        self.state, result = jax.block_until_ready(self.function(self.state, *self.inputs))
        return result


def training(net, x):
    params, stats, run = net
    labels = random.randint(next(keys), (len(x),), 0, 10)
    zeros = partial(jax.tree.map, jnp.zeros_like)

    def step(state, x, labels):
        params, stats, m, v, t = state

        def loss(params):
            logits, new = run(params, stats, x, True)
            return cross_entropy(logits, labels), new

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
        params, m, v, t = adam_update(params, grads, m, v, t)
        return (params, stats, m, v, t), value

    return Stepper(step, (params, stats, zeros(params), zeros(params), jnp.zeros(())), (x, labels))


def both_ways(function, params, x, seed, state=()):
    """Output and all gradients of y = function(params, state, x) for dL/dy = seed."""

    def step(state, params, x, seed):
        y, back, state = jax.vjp(lambda p, x: function(p, state, x), params, x, has_aux=True)
        return state, (y, back(seed))

    return Stepper(step, state, (params, x, seed))


def ops():
    def step(state, x, w):
        def forward(x, w):
            y = x
            for _ in range(500):
                y = y * w
                y = y + x
            return y.sum()

        return state, jax.value_and_grad(forward, (0, 1))(x, w)

    return Stepper(step, (), (jnp.full((16, 16), 0.999), jnp.full((16, 16), 0.999)))


def tinymlp():
    return training(sequential(dense(64, 32), relu, dense(32, 10)), randn(32, 64))


def mlp():
    net = sequential(dense(784, 512), relu, dense(512, 256), relu, dense(256, 10))
    return training(net, randn(128, 784))


def mlpbn():
    net = sequential(
        dense(784, 512), batch_norm(512), relu,
        dense(512, 256), batch_norm(256), relu,
        dense(256, 10),
    )  # fmt: skip
    return training(net, randn(128, 784))


def papermlp():
    layers, into = [], 784
    for _ in range(3):
        layers += [dense(into, 100, bias=False), batch_norm(100), sigmoid]
        into = 100
    return training(sequential(*layers, dense(100, 10)), randn(60, 784))


def _cnn(norm=batch_norm):
    return sequential(
        conv2d(1, 32), norm(32), relu, max_pool,
        conv2d(32, 64), norm(64), relu, max_pool,
        flatten, dense(64 * 49, 128), relu, dense(128, 10),
    )  # fmt: skip


def cnn():
    return training(_cnn(), randn(64, 28, 28, 1))


def resnet():
    net = sequential(
        conv2d(3, 16, bias=False),
        batch_norm(16),
        relu,
        block(16, 16, 1),
        block(16, 32, 2),
        block(32, 64, 2),
        plain(lambda x: x.mean((1, 2))),
        dense(64, 10),
    )
    return training(net, randn(32, 32, 32, 3))


def conv():
    params, _, run = conv2d(64, 64)
    return both_ways(
        lambda p, s, x: run(p, s, x, True), params, randn(32, 32, 32, 64), randn(32, 32, 32, 64)
    )


def bn2d():
    params, stats, run = batch_norm(64)
    x, seed = randn(64, 32, 32, 64), randn(64, 32, 32, 64)
    return both_ways(lambda p, s, x: run(p, s, x, True), params, x, seed, stats)


def ln():
    def layer_norm(p, s, x):
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) * lax.rsqrt(var + 1e-5) * p["gamma"] + p["beta"], s

    params = {"gamma": jnp.ones(768), "beta": jnp.zeros(768)}
    return both_ways(layer_norm, params, randn(4096, 768), randn(4096, 768))


def linear():
    params, _, run = dense(1024, 1024)
    return both_ways(lambda p, s, x: run(p, s, x, True), params, randn(512, 1024), randn(512, 1024))


def adam():
    def several(*shape):
        return [randn(*shape) for _ in range(20)]

    def step(state, grads):
        return adam_update(state[0], grads, *state[1:]), ()

    zeros = [jnp.zeros((1000, 1000)) for _ in range(20)]
    state = several(1000, 1000), zeros, [z.copy() for z in zeros], jnp.zeros(())
    return Stepper(step, state, (several(1000, 1000),))


def infer(norm=batch_norm):
    params, stats, run = _cnn(norm)

    def step(state, params, stats, x):
        return state, run(params, stats, x, False)[0]

    return Stepper(step, (), (params, stats, randn(1, 28, 28, 1)))


def folded():
    return infer(lambda channels: plain(lambda x: x))


NOTES = {
    "ops": "XLA fuses the chain into few loops; the arithmetic stays",
    "conv": "most of it is the kernel's gradient, for which XLA has no fast path",
}


def builder(row):
    return Work(globals()[row](), (), lambda: None), NOTES.get(row, "")
