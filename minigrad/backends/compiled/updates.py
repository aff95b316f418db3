"""The optimizers' updates, each array read and written once; the bits are the reference's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.compiled.numba_kernels import exact_kernel
from minigrad.backends.cpu.layout import WORTH_SHARING, share_kernel
from minigrad.backends.reference import updates as reference

# The numbers come in one array of the parameter's dtype, so that nothing is computed in float64.


@exact_kernel
def sgd_step(p: Array, g: Array, v: Array, numbers: Array, nesterov: bool, first: bool) -> None:
    """v <- mu v + (1 - dampening) g;  p <- p - lr v. Without momentum v is empty."""
    lr, momentum, taken, weight_decay = numbers[0], numbers[1], numbers[2], numbers[3]
    if v.size == 0:
        for i in range(p.size):
            p[i] -= lr * (g[i] + weight_decay * p[i])
    else:
        for i in range(p.size):
            d = g[i] + weight_decay * p[i]
            v[i] = d if first else momentum * v[i] + taken * d
            p[i] -= lr * (d + momentum * v[i] if nesterov else v[i])


@exact_kernel
def momentum_step(p: Array, g: Array, v: Array, numbers: Array, form: int) -> None:
    """The three textbook forms: 0 velocity, 1 heavy-ball, 2 average."""
    lr, beta, rate, weight_decay, taken = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    for i in range(p.size):
        d = g[i] + weight_decay * p[i]
        if form == 0:
            v[i] = beta * v[i] - lr * d
            p[i] += v[i]
        else:
            v[i] = beta * v[i] + (d if form == 1 else taken * d)
            p[i] -= rate * v[i]


@exact_kernel
def rmsprop_step(
    p: Array, g: Array, s: Array, mean: Array, v: Array, numbers: Array, eps_inside: bool
) -> None:
    """s <- alpha s + (1 - alpha) g^2;  p <- p - lr g / (sqrt(s) + eps)."""
    lr, alpha, eps, beta, weight_decay = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    taken, zero = numbers[5], numbers[6]
    centered, moving = mean.size > 0, v.size > 0
    for i in range(p.size):
        d = g[i] + weight_decay * p[i]
        s[i] = alpha * s[i] + taken * (d * d)
        square = s[i]
        if centered:
            mean[i] = alpha * mean[i] + taken * d
            square = max(square - mean[i] * mean[i], zero)
        d /= math.sqrt(square + eps) if eps_inside else math.sqrt(square) + eps
        if moving:
            v[i] = beta * v[i] + d
            d = v[i]
        p[i] -= lr * d


@exact_kernel
def adam_step(p: Array, g: Array, m: Array, v: Array, v_max: Array, numbers: Array) -> None:
    """m <- b1 m + (1-b1) g;  v <- b2 v + (1-b2) g^2;  p <- p - rate m / (sqrt(v) + eps)."""
    rate, beta1, beta2, eps = numbers[0], numbers[1], numbers[2], numbers[3]
    weight_decay, kept, taken1, taken2 = numbers[4], numbers[5], numbers[6], numbers[7]
    if v_max.size == 0:
        for i in range(p.size):
            d = g[i] + weight_decay * p[i]
            m[i] = beta1 * m[i] + taken1 * d
            v[i] = beta2 * v[i] + taken2 * (d * d)
            p[i] = kept * p[i] - rate * (m[i] / (math.sqrt(v[i]) + eps))
    else:
        for i in range(p.size):
            d = g[i] + weight_decay * p[i]
            m[i] = beta1 * m[i] + taken1 * d
            v[i] = beta2 * v[i] + taken2 * (d * d)
            v_max[i] = max(v_max[i], v[i])
            p[i] = kept * p[i] - rate * (m[i] / (math.sqrt(v_max[i]) + eps))


@exact_kernel
def adam_counted(
    p: Array, g: Array, m: Array, v: Array, v_max: Array, step: Array, settings: Array
) -> None:
    """Count the step, find the numbers of ``adam_step`` in float64, and do it."""
    step[0] += 1
    lr, beta1, beta2, eps = settings[0], settings[1], settings[2], settings[3]
    weight_decay, decoupled, eps_hat = settings[4], settings[5], settings[6]
    t = np.float64(step[0])
    root = (1 - beta2**t) ** 0.5
    numbers = np.empty(8, p.dtype)
    numbers[0], numbers[1], numbers[2] = lr * root / (1 - beta1**t), beta1, beta2
    numbers[3], numbers[4] = eps if eps_hat else root * eps, 0 if decoupled else weight_decay
    numbers[5], numbers[6] = 1 - lr * weight_decay if decoupled else 1.0, 1 - beta1
    numbers[7] = 1 - beta2
    adam_step(p, g, m, v, v_max, numbers)


class Updates(reference.Updates):
    """SGD, momentum, RMSprop and Adam; the rest as in the reference."""

    numba: bool

    def _compiles(self, param: Array) -> bool:
        """From a few numbers on: NumPy takes ten calls and more, 20 us."""
        return self.numba and param.size >= _FEW and param.dtype.char in "fd"

    def sgd_update(
        self,
        param: Array,
        grad: Array,
        velocity: Array | None,
        lr: float,
        momentum: float,
        dampening: float,
        nesterov: bool,
        first: bool,
        weight_decay: float = 0.0,
    ) -> None:
        if not (self._compiles(param) and alike(param, grad, velocity)):
            super().sgd_update(
                param, grad, velocity, lr, momentum, dampening, nesterov, first, weight_decay
            )
            return
        numbers = _numbers(param.dtype, lr, momentum, 1 - dampening, weight_decay)
        _run(sgd_step, (numbers, nesterov, first), param, grad, velocity)

    def momentum_update(
        self,
        param: Array,
        grad: Array,
        velocity: Array,
        lr: float,
        momentum: float,
        form: str,
        correction: float,
        weight_decay: float = 0.0,
    ) -> None:
        if not (self._compiles(param) and alike(param, grad, velocity)):
            super().momentum_update(
                param, grad, velocity, lr, momentum, form, correction, weight_decay
            )
            return
        number = ("velocity", "heavy-ball", "ema").index(form)
        numbers = _numbers(param.dtype, lr, momentum, lr / correction, weight_decay, 1 - momentum)
        _run(momentum_step, (numbers, number), param, grad, velocity)

    def rmsprop_update(
        self,
        param: Array,
        grad: Array,
        square: Array,
        average: Array | None,
        velocity: Array | None,
        lr: float,
        alpha: float,
        eps: float,
        momentum: float,
        weight_decay: float = 0.0,
        eps_inside: bool = False,
    ) -> None:
        if not (self._compiles(param) and alike(param, grad, square, average, velocity)):
            super().rmsprop_update(
                param,
                grad,
                square,
                average,
                velocity,
                lr,
                alpha,
                eps,
                momentum,
                weight_decay,
                eps_inside,
            )
            return
        numbers = _numbers(param.dtype, lr, alpha, eps, momentum, weight_decay, 1 - alpha, 0.0)
        _run(rmsprop_step, (numbers, eps_inside), param, grad, square, average, velocity)

    def adam_update(
        self,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        v_max: Array | None,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        t: float,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        eps_hat: bool = False,
    ) -> None:
        if not (self._compiles(param) and alike(param, grad, m, v, v_max)):
            super().adam_update(
                *(param, grad, m, v, v_max, lr, beta1, beta2, eps, t),
                *(weight_decay, decoupled, eps_hat),
            )
            return
        numbers = _of_adam(param.dtype, lr, beta1, beta2, eps, t, weight_decay, decoupled, eps_hat)
        _run(adam_step, (numbers,), param, grad, m, v, v_max)

    def adam_updates(self, arrays: Sequence[tuple[Any, ...]], **settings: Any) -> None:
        for param, grad, m, v, v_max, step in arrays:
            step += 1
            kept = (m, v) if v_max is None else (m, v, v_max)
            if self._compiles(param) and alike(param, grad, *kept):
                numbers = _of_adam(param.dtype, t=float(step), **settings)
                _run(adam_step, (numbers,), param, grad, m, v, v_max)
            else:
                reference.Updates.adam_update(
                    self, param, grad, m, v, v_max, t=float(step), **settings
                )

    def adam_again(self, arrays: Sequence[tuple[Any, ...]]) -> Any:
        flat = []
        for param, m, v, v_max, step in arrays:
            kept = (m, v) if v_max is None else (m, v, v_max)
            if not (self._compiles(param) and param.size < WORTH_SHARING and alike(param, *kept)):
                return None
            nothing = _NOTHING[param.dtype.char]
            parts = [nothing if a is None else a.reshape(-1) for a in (m, v, v_max)]
            flat.append((param.reshape(-1), *parts, step.reshape(1)))

        def with_settings(**settings: Any) -> Callable[[Sequence[Array]], None]:
            numbers = _numbers(np.float64, *settings.values())

            def again(grads: Sequence[Array]) -> None:
                for (p, m, v, v_max, step), g in zip(flat, grads, strict=True):
                    adam_counted(p, g if g.ndim == 1 else g.reshape(-1), m, v, v_max, step, numbers)

            return again

        return with_settings


_FEW = 8


@lru_cache(64)
def _of_adam(
    dtype: Any,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    t: float,
    weight_decay: float,
    decoupled: bool,
    eps_hat: bool,
) -> Any:
    """The numbers of ``adam_step``."""
    root = (1 - beta2**t) ** 0.5
    rate = lr * root / (1 - beta1**t)
    kept, l2 = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    eps = eps if eps_hat else root * eps
    return _numbers(dtype, rate, beta1, beta2, eps, l2, kept, 1 - beta1, 1 - beta2)


@lru_cache(64)  # the same for every parameter of a group: 2 us each
def _numbers(dtype: Any, *numbers: float) -> Array:
    return np.array(numbers, dtype)


def alike(param: Array, *arrays: Array | None) -> bool:
    """Whether the arrays of one parameter lie alike, in one dtype."""
    if not param.flags.c_contiguous:
        return False
    dtype, strides = param.dtype, param.strides
    for a in arrays:
        if a is not None and a.strides != strides and not a.flags.c_contiguous:
            return False  # strides of axes of length 1 may differ
        if a is not None and a.dtype != dtype:
            return False
    return True


_NOTHING = {char: np.empty(0, char) for char in "fd"}


def _run(
    update: Callable[..., Any], numbers: tuple[Any, ...], param: Array, *arrays: Array | None
) -> None:
    """``update`` on the arrays of one parameter, flat; an absent one is empty."""
    nothing = _NOTHING[param.dtype.char]
    flat = [nothing if a is None else a if a.ndim == 1 else a.reshape(-1) for a in (param, *arrays)]
    if param.size < WORTH_SHARING:
        update(*flat, *numbers)
    else:
        share_kernel(lambda i, j: partial(update, *[a[i:j] for a in flat], *numbers), flat[0])
