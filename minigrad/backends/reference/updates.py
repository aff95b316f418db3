"""The updates of the optimizers, in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minigrad.averages import ExponentialAverage
from minigrad.backends.base import Array, Backend


class Updates(Backend):
    """One parameter, one step."""

    # Each rule is elementwise and writes on what it is given: the parameter, its running averages,
    # and two scratch arrays ``a, b``. ``grad`` is only read.

    #: Elements a block. Adam on 20 arrays of 1000 x 1000: 53 ms at 32768, 67 ms in one piece.
    block = 32768

    def in_blocks(
        self, rule: Callable[..., None], param: Array, grad: Array, *kept: Array | None
    ) -> None:
        """``rule(param, grad, *kept, a, b)`` for one block of all the arrays after another.

        So a block stays in the cache from the first line of the rule to the last, and scratch
        memory is small. A backend whose memory asks for something else overrides this.
        """
        arrays = (param, grad, *kept)
        size, shape, dtype = param.size, param.shape, grad.dtype
        if size <= self.block or not all(x is None or x.flags.c_contiguous for x in arrays):
            rule(*arrays, self.empty(shape, dtype=dtype), self.empty(shape, dtype=dtype))
            return
        flat = [None if x is None else x.reshape(-1) for x in arrays]
        a, b = self.empty((2, self.block), dtype=dtype)
        for start in range(0, size, self.block):
            stop = min(start + self.block, size)
            parts = [None if x is None else x[start:stop] for x in flat]
            rule(*parts, a[: stop - start], b[: stop - start])

    def move_average(self, value: Array, x: Array, keep: float, share: float) -> None:
        """v <- keep v + share x: a running statistic towards a batch's."""
        value *= keep
        value += share * x

    def decayed(self, g: Array, p: Array, weight_decay: float, out: Array) -> Array:
        """g + weight_decay p: the gradient with that of the L2 penalty weight_decay/2 |p|^2."""
        if not weight_decay:
            return g
        self.multiply(p, weight_decay, out=out, dtype=out.dtype)
        return self.add(out, g, out=out)

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
        """v <- mu v + (1 - dampening) g, at first v <- g;  p <- p - lr v.

        Without ``velocity`` p <- p - lr g; with Nesterov p <- p - lr (g + mu v).
        """

        def rule(p: Array, g: Array, v: Array | None, a: Array, b: Array) -> None:
            g = self.decayed(g, p, weight_decay, out=b)
            if v is not None:
                if first:
                    v[...] = g
                else:
                    v *= momentum
                    v += self.multiply(g, 1 - dampening, out=a) if dampening else g
                g = self.add(g, self.multiply(v, momentum, out=a), out=a) if nesterov else v
            p -= self.multiply(g, lr, out=a)

        self.in_blocks(rule, param, grad, velocity)

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
        """The three textbook forms; ``correction`` is 1 - beta^t of the corrected average, or 1."""
        average = ExponentialAverage(momentum)

        def rule(p: Array, g: Array, v: Array, a: Array, b: Array) -> None:
            g = self.decayed(g, p, weight_decay, out=b)
            if form == "velocity":  # v = mu v - lr g;  p = p + v
                v *= momentum
                v -= self.multiply(g, lr, out=a)
                p += v
                return
            if form == "heavy-ball":  # v = mu v + g
                v *= momentum
                v += g
            else:  # ema: v = beta v + (1 - beta) g
                average.move(v, g, xp=self, out=a)
            p -= self.multiply(v, lr / correction, out=a)

        self.in_blocks(rule, param, grad, velocity)

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
        """s <- alpha s + (1 - alpha) g^2;  p <- p - lr g / (sqrt(s) + eps), or g / sqrt(s + eps).

        With ``average`` (centered), the mean of g squared is taken off s. It can exceed s by
        rounding where the gradient hardly changes, hence the maximum with 0.
        """
        mean_square = ExponentialAverage(alpha)

        def rule(
            p: Array, g: Array, s: Array, mean: Array | None, v: Array | None, a: Array, b: Array
        ) -> None:
            g = self.decayed(g, p, weight_decay, out=b)
            mean_square.move(s, self.multiply(g, g, out=a), xp=self, out=a)
            if mean is not None:
                mean_square.move(mean, g, xp=self, out=a)
                self.subtract(s, self.multiply(mean, mean, out=a), out=a)
                s = self.maximum(a, 0, out=a)
            if eps_inside:
                self.sqrt(self.add(s, eps, out=a), out=a)
            else:
                self.sqrt(s, out=a)
                a += eps
            self.divide(g, a, out=a)
            if v is not None:
                v *= momentum
                v += a
                self.multiply(v, lr, out=a)
            else:
                a *= lr
            p -= a

        self.in_blocks(rule, param, grad, square, average, velocity)

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
        """m <- b1 m + (1-b1) g;  v <- b2 v + (1-b2) g^2;  p <- p - lr m_hat / (sqrt(v_hat) + eps).

        m_hat = m / (1 - b1^t), v_hat = v / (1 - b2^t). With r = sqrt(1 - b2^t) the step is also
        lr r / (1 - b1^t) m / (sqrt(v) + r eps): the corrections are numbers, not arrays. With
        ``eps_hat`` eps stands for r eps, the paper's eps hat.
        Source: Kingma and Ba (2015), arXiv:1412.6980, algorithm 1 and the remark that follows it.
        """
        first, second = ExponentialAverage(beta1), ExponentialAverage(beta2)
        root = second.correction(t) ** 0.5
        rate = lr * root / first.correction(t)

        def rule(
            p: Array, g: Array, m: Array, v: Array, v_max: Array | None, a: Array, b: Array
        ) -> None:
            if decoupled and weight_decay:
                p *= 1 - lr * weight_decay
            else:
                g = self.decayed(g, p, weight_decay, out=b)
            first.move(m, g, xp=self, out=a)
            second.move(v, self.multiply(g, g, out=a), xp=self, out=a)
            if v_max is not None:  # amsgrad
                self.maximum(v_max, v, out=v_max)
            self.sqrt(v if v_max is None else v_max, out=a)
            a += eps if eps_hat else root * eps
            self.divide(m, a, out=a)
            p -= self.multiply(a, rate, out=a)

        self.in_blocks(rule, param, grad, m, v, v_max)

    @staticmethod
    def adam_numbers_of(
        t: float,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        eps_hat: bool = False,
    ) -> tuple[float, float, float]:
        """(rate, eps, share of p to keep) of step t: p <- keep p - rate m / (sqrt(v) + eps)."""
        root = (1 - beta2**t) ** 0.5
        return (
            lr * root / (1 - beta1**t),
            eps if eps_hat else root * eps,
            1 - lr * weight_decay if decoupled else 1.0,
        )

    def adam_updates(self, arrays: Sequence[tuple[Any, ...]], **settings: Any) -> None:
        """``adam_update`` of the parameters of a group: (param, grad, m, v, v_max, step) each, with
        ``step`` counted up."""
        for param, grad, m, v, v_max, step in arrays:
            step += 1
            self.adam_update(param, grad, m, v, v_max, t=float(step), **settings)

    def adam_again(self, arrays: Sequence[tuple[Any, ...]]) -> Any:
        """A function of the settings that gives one of the gradients, which does ``adam_updates``
        of the same arrays, (param, m, v, v_max, step) each; None where there is no shorter way.
        """
        return None

    def adagrad_update(
        self,
        param: Array,
        grad: Array,
        total: Array,
        lr: float,
        eps: float,
        weight_decay: float = 0.0,
    ) -> None:
        """s <- s + g^2;  p <- p - lr g / (sqrt(s) + eps)."""

        def rule(p: Array, g: Array, s: Array, a: Array, b: Array) -> None:
            g = self.decayed(g, p, weight_decay, out=b)
            s += self.multiply(g, g, out=a)
            self.sqrt(s, out=a)
            a += eps
            self.divide(g, a, out=a)
            p -= self.multiply(a, lr, out=a)

        self.in_blocks(rule, param, grad, total)

    def adadelta_update(
        self,
        param: Array,
        grad: Array,
        square: Array,
        delta_square: Array,
        lr: float,
        rho: float,
        eps: float,
        weight_decay: float = 0.0,
    ) -> None:
        """p <- p - lr d,  d = g sqrt(u + eps) / sqrt(s + eps);  s, u: running means of g^2, d^2."""
        average = ExponentialAverage(rho)

        def rule(p: Array, g: Array, s: Array, u: Array, a: Array, b: Array) -> None:
            g = self.decayed(g, p, weight_decay, out=b)
            average.move(s, self.multiply(g, g, out=a), xp=self, out=a)
            self.sqrt(self.add(s, eps, out=a), out=a)
            self.divide(g, a, out=b)
            self.sqrt(self.add(u, eps, out=a), out=a)
            a *= b  # d
            average.move(u, self.multiply(a, a, out=b), xp=self, out=b)
            p -= self.multiply(a, lr, out=a)

        self.in_blocks(rule, param, grad, square, delta_square)

    def adamax_update(
        self,
        param: Array,
        grad: Array,
        m: Array,
        u: Array,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        t: float,
        weight_decay: float = 0.0,
    ) -> None:
        """m <- b1 m + (1-b1) g;  u <- max(b2 u, |g| + eps);  p <- p - lr / (1 - b1^t) m / u."""
        first = ExponentialAverage(beta1)
        rate = lr / first.correction(t)

        def rule(p: Array, g: Array, m: Array, u: Array, a: Array, b: Array) -> None:
            g = self.decayed(g, p, weight_decay, out=b)
            first.move(m, g, xp=self, out=a)
            u *= beta2
            self.abs(g, out=a)
            a += eps
            self.maximum(u, a, out=u)
            self.divide(m, u, out=a)
            p -= self.multiply(a, rate, out=a)

        self.in_blocks(rule, param, grad, m, u)

    def nadam_update(
        self,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        beta1: float,
        beta2: float,
        eps: float,
        t: float,
        grad_rate: float,
        mean_rate: float,
        shrink: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        """p <- p - (grad_rate g + mean_rate m) / (sqrt(v_hat) + eps), with m and v of Adam.

        ``shrink`` is the share of p that decoupled decay takes off first.
        """
        first, second = ExponentialAverage(beta1), ExponentialAverage(beta2)
        root = second.correction(t) ** 0.5

        def rule(p: Array, g: Array, m: Array, v: Array, a: Array, b: Array) -> None:
            if shrink:
                p *= 1 - shrink
            g = self.decayed(g, p, weight_decay, out=b)
            first.move(m, g, xp=self, out=a)
            second.move(v, self.multiply(g, g, out=a), xp=self, out=a)
            self.multiply(g, grad_rate, out=b)
            b += self.multiply(m, mean_rate, out=a)
            self.sqrt(v, out=a)
            a *= 1 / root
            a += eps
            p -= self.divide(b, a, out=a)

        self.in_blocks(rule, param, grad, m, v)

    def radam_update(
        self,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        beta1: float,
        beta2: float,
        eps: float,
        rate: float,
        adaptive: bool,
        shrink: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        """p <- p - rate m / (sqrt(v) + eps), or rate m while v is not to be trusted.

        ``rate`` holds lr and every correction; ``shrink`` as in ``nadam_update``.
        """
        first, second = ExponentialAverage(beta1), ExponentialAverage(beta2)

        def rule(p: Array, g: Array, m: Array, v: Array, a: Array, b: Array) -> None:
            if shrink:
                p *= 1 - shrink
            g = self.decayed(g, p, weight_decay, out=b)
            first.move(m, g, xp=self, out=a)
            second.move(v, self.multiply(g, g, out=a), xp=self, out=a)
            if adaptive:
                self.sqrt(v, out=a)
                a += eps
                self.divide(m, a, out=a)
                a *= rate
            else:
                self.multiply(m, rate, out=a)
            p -= a

        self.in_blocks(rule, param, grad, m, v)
