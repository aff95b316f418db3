"""Normalization by kernels/norm.cu."""

from __future__ import annotations

from typing import Any

from minigrad.backends.base import Array
from minigrad.backends.cuda.base import Launching
from minigrad.backends.cuda.launch import channels, rows
from minigrad.backends.reference import normalization as reference
from minigrad.backends.reference.normalization import Running
from minigrad.shapes import prod

#: No running estimates, as the kernels take it.
STILL = Running(None, None, 0.0, 1.0)


class Normalization(Launching, reference.Normalization):
    """One kernel for a norm, two where a channel is too long for one block."""

    def batch_norm(
        self,
        x: Array,
        gamma: Array | None,
        beta: Array | None,
        eps: float,
        running: Running | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        """As the reference; the running estimates are moved by the same kernel."""
        if not self.takes(x):
            return super().batch_norm(x, gamma, beta, eps, running)
        moved = running if running is not None and self._moves(running, x) else STILL
        x = self.plain(x)
        y = self.empty(x.shape, dtype=x.dtype)
        mean, var, inv_std = (self.empty((x.shape[1],), dtype=self.wide(x)) for _ in range(3))
        self._launch_channels(
            ("norm.batch_norm", "norm.batch_norm_moments", "norm.batch_norm_normalize"),
            ("part_mean", "part_squares"),
            x,
            {"x": x},
            gamma=self.parameter(gamma, x),
            beta=self.parameter(beta, x),
            y=y,
            mean=mean,
            var=var,
            inv_std=inv_std,
            running_mean=moved.mean,
            running_var=moved.var,
            eps=eps,
            momentum=moved.share,
            bessel=moved.correction,
        )
        if running is not None and moved is STILL:
            self.move_running(running, mean, var)
        return y, mean, var, inv_std

    def _moves(self, running: Running, x: Array) -> bool:
        """Whether the kernel itself can move these: contiguous, in its dtype of statistics."""
        return all(
            a is None or (a.dtype == self.wide(x) and a.flags.c_contiguous)
            for a in (running.mean, running.var)
        )

    def batch_norm_backward(
        self,
        grad: Array,
        x: Array,
        gamma: Array | None,
        mean: Array,
        inv_std: Array,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        if not self.takes(x):
            return super().batch_norm_backward(grad, x, gamma, mean, inv_std, needs)
        x = self.plain(x)
        dx = self.empty(x.shape, dtype=x.dtype) if needs[0] else None
        dgamma, dbeta = (
            self.empty((x.shape[1],), dtype=self.wide(x)) if need else None for need in needs[1:]
        )
        name = "norm.batch_norm_backward"
        self._launch_channels(
            (name, f"{name}_sums", f"{name}_input"),
            ("part_dy", "part_dy_x_hat"),
            x,
            {
                "grad": self.plain(grad, x.dtype),
                "x": x,
                "mean": self.parameter(mean, x),
                "inv_std": self.parameter(inv_std, x),
            },
            gamma=self.parameter(gamma, x),
            dx=dx,
            dgamma=dgamma,
            dbeta=dbeta,
        )
        return dx, self._like(dgamma, x, gamma), self._like(dbeta, x, gamma)

    def batch_norm_inference(
        self,
        x: Array,
        gamma: Array | None,
        beta: Array | None,
        mean: Array | None,
        var: Array,
        eps: float,
    ) -> Array:
        if not self.takes(x):
            return super().batch_norm_inference(x, gamma, beta, mean, var, eps)
        x = self.plain(x)
        n, c, s = x.shape[0], x.shape[1], prod(x.shape[2:])
        grid, part, _ = channels(n, c, s)
        y = self.empty(x.shape, dtype=x.dtype)
        self.launch(
            "norm.batch_norm_inference",
            grid,
            x.dtype.char,
            x=x,
            gamma=self.parameter(gamma, x),
            beta=self.parameter(beta, x),
            mean=self.parameter(mean, x),
            var=self.parameter(var, x),
            y=y,
            count=n * s,
            C=c,
            S=s,
            part=part,
            eps=eps,
        )
        return y

    def batch_norm_inference_backward(
        self,
        grad: Array,
        x: Array,
        gamma: Array | None,
        mean: Array,
        var: Array,
        eps: float,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        if not self.takes(x):
            return super().batch_norm_inference_backward(grad, x, gamma, mean, var, eps, needs)
        dx = dgamma = dbeta = None
        if needs[0]:  # gamma / std dy: an inference on dy
            dx = self.batch_norm_inference(self.plain(grad, x.dtype), gamma, None, None, var, eps)
        if needs[1] or needs[2]:
            inv_std = 1.0 / self.sqrt(self._wide(var) + eps)
            _, dgamma, dbeta = self.batch_norm_backward(
                grad, x, gamma, mean, inv_std, (False, needs[1], needs[2])
            )
        return dx, dgamma, dbeta

    def _launch_channels(
        self,
        names: tuple[str, str, str],
        partial: tuple[str, str],
        x: Array,
        given: dict[str, Any],
        **rest: Any,
    ) -> None:
        """One kernel where a block takes a whole channel. Where several share it, two: from
        ``given`` the sums of each part, by the names ``partial``, and from these the result.
        """
        n, c, s = x.shape[0], x.shape[1], prod(x.shape[2:])
        grid, part, parts = channels(n, c, s)
        one, first, second = names
        given = given | {"count": n * s, "C": c, "S": s}
        if parts == 1:
            self.launch(one, grid, x.dtype.char, **given, **rest)
            return
        sums = {name: self.empty((parts, c), dtype=self.wide(x)) for name in partial}
        given |= sums | {"part": part, "parts": parts}
        self.launch(first, grid, x.dtype.char, **given)
        self.launch(second, grid, x.dtype.char, **given, **rest)

    def layer_norm(
        self, x: Array, gamma: Array | None, beta: Array | None, axes: tuple[int, ...], eps: float
    ) -> tuple[Array, Array, Array]:
        if not (self.takes(x) and _last(axes, x)):
            return super().layer_norm(x, gamma, beta, axes, eps)
        width = prod(x.shape[len(x.shape) - len(axes) :])
        y, mean, _, inv_std = self._row_norm(x, gamma, beta, width, 1, 1, eps)
        kept = _kept(x, axes)
        return y, mean.reshape(kept), inv_std.reshape(kept)

    def layer_norm_backward(
        self,
        grad: Array,
        x: Array,
        gamma: Array | None,
        mean: Array,
        inv_std: Array,
        axes: tuple[int, ...],
        needs: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        if not (self.takes(x) and _last(axes, x)):
            return super().layer_norm_backward(grad, x, gamma, mean, inv_std, axes, needs)
        width = prod(x.shape[len(x.shape) - len(axes) :])
        dx, dgamma, dbeta = self._row_norm_backward(
            grad, x, gamma, mean, inv_std, (x.size // width, width, 1, 1), width, needs
        )
        shape = x.shape[len(x.shape) - len(axes) :]
        return (
            dx,
            None if dgamma is None else dgamma.reshape(shape),
            None if dbeta is None else dbeta.reshape(shape),
        )

    def group_norm(
        self, x: Array, gamma: Array | None, beta: Array | None, groups: int, eps: float
    ) -> tuple[Array, Array, Array, Array]:
        if not self.takes(x):
            return super().group_norm(x, gamma, beta, groups, eps)
        n, s = x.shape[0], prod(x.shape[2:])
        width = prod(x.shape[1:]) // groups
        y, *statistics = self._row_norm(x, gamma, beta, width, groups, s, eps)
        mean, var, inv_std = (a.reshape(n, groups) for a in statistics)
        return y, mean, var, inv_std

    def group_norm_backward(
        self,
        grad: Array,
        x: Array,
        gamma: Array | None,
        mean: Array,
        inv_std: Array,
        groups: int,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        if not self.takes(x):
            return super().group_norm_backward(grad, x, gamma, mean, inv_std, groups, needs)
        n, c, s = x.shape[0], x.shape[1], prod(x.shape[2:])
        return self._row_norm_backward(
            grad, x, gamma, mean, inv_std, (n, c, s, groups), c * s // groups, needs
        )

    def rms_norm(
        self, x: Array, gamma: Array | None, axes: tuple[int, ...], eps: float
    ) -> tuple[Array, Array]:
        if not (self.takes(x) and _last(axes, x)):
            return super().rms_norm(x, gamma, axes, eps)
        x = self.plain(x)
        width = prod(x.shape[len(x.shape) - len(axes) :])
        y = self.empty(x.shape, dtype=x.dtype)
        inv_rms = self.empty(_kept(x, axes), dtype=self.wide(x))
        self._launch_rows(
            "norm.rms_norm", x, width, gamma=self.parameter(gamma, x), y=y, inv_rms=inv_rms, eps=eps
        )
        return y, inv_rms

    def rms_norm_backward(
        self,
        grad: Array,
        x: Array,
        gamma: Array | None,
        inv_rms: Array,
        axes: tuple[int, ...],
        needs: tuple[bool, bool],
    ) -> tuple[Array | None, Array | None]:
        if not (self.takes(x) and _last(axes, x)):
            return super().rms_norm_backward(grad, x, gamma, inv_rms, axes, needs)
        x, shape = self.plain(x), x.shape[len(x.shape) - len(axes) :]
        grad, width = self.plain(grad, x.dtype), prod(shape)
        inv_rms = self.parameter(inv_rms, x)
        dx = dgamma = None
        if needs[0]:
            dx = self.empty(x.shape, dtype=x.dtype)
            self._launch_rows(
                "norm.rms_norm_backward",
                x,
                width,
                grad=grad,
                gamma=self.parameter(gamma, x),
                inv_rms=inv_rms,
                dx=dx,
            )
        if needs[1]:
            dgamma, _ = self._parameter_gradients(
                grad, x, None, inv_rms, (x.size // width, width, 1, 1), (True, False)
            )
            dgamma = self._like(dgamma, x, gamma).reshape(shape)
        return dx, dgamma

    # ---- rows -----------------------------------------------------------------------------------

    def _launch_rows(self, name: str, x: Array, width: int, **rest: Any) -> None:
        """A kernel on the rows of x, ``width`` values each."""
        count = x.size // width
        grid = rows(count, width)
        self.launch(name, grid, x.dtype.char, x=x, rows=count, width=width, **rest)

    def _row_norm(
        self,
        x: Array,
        gamma: Array | None,
        beta: Array | None,
        width: int,
        groups: int,
        s: int,
        eps: float,
    ) -> tuple[Array, Array, Array, Array]:
        """y, mean, var and inv_std of rows; ``s`` values of a row share a gamma."""
        x = self.plain(x)
        count = x.size // width
        y = self.empty(x.shape, dtype=x.dtype)
        mean, var, inv_std = (self.empty((count,), dtype=self.wide(x)) for _ in range(3))
        self._launch_rows(
            "norm.layer_norm",
            x,
            width,
            gamma=self.parameter(gamma, x),
            beta=self.parameter(beta, x),
            y=y,
            mean=mean,
            var=var,
            inv_std=inv_std,
            groups=groups,
            S=s,
            eps=eps,
        )
        return y, mean, var, inv_std

    def _row_norm_backward(
        self,
        grad: Array,
        x: Array,
        gamma: Array | None,
        mean: Array,
        inv_std: Array,
        sizes: tuple[int, int, int, int],
        width: int,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The three gradients; ``sizes`` are those of (N, C, S) and the groups."""
        _, _, s, groups = sizes
        x = self.plain(x)
        grad = self.plain(grad, x.dtype)
        mean, inv_std = self.parameter(mean, x), self.parameter(inv_std, x)
        dx = dgamma = dbeta = None
        if needs[0]:
            dx = self.empty(x.shape, dtype=x.dtype)
            self._launch_rows(
                "norm.layer_norm_backward",
                x,
                width,
                grad=grad,
                gamma=self.parameter(gamma, x),
                mean=mean,
                inv_std=inv_std,
                dx=dx,
                groups=groups,
                S=s,
            )
        if needs[1] or needs[2]:
            dgamma, dbeta = self._parameter_gradients(grad, x, mean, inv_std, sizes, needs[1:])
        return dx, self._like(dgamma, x, gamma), self._like(dbeta, x, gamma)

    def _parameter_gradients(
        self,
        grad: Array,
        x: Array,
        mean: Array | None,
        inv_std: Array,
        sizes: tuple[int, int, int, int],
        needs: tuple[bool, bool],
    ) -> tuple[Array | None, Array | None]:
        """dgamma and dbeta (C,), summed over parts of the channels first where they are long."""
        n, c, s, groups = sizes
        grid, part, parts = channels(n, c, s)
        dgamma, dbeta = (
            self.empty((parts, c), dtype=self.wide(x)) if need else None for need in needs
        )
        self.launch(
            "norm.norm_parameter_gradients",
            grid,
            x.dtype.char,
            grad=grad,
            x=x,
            mean=mean,
            inv_std=inv_std,
            dgamma=dgamma,
            dbeta=dbeta,
            count=n * s,
            C=c,
            S=s,
            groups=groups,
            part=part,
            parts=parts,
        )
        return self._summed(dgamma), self._summed(dbeta)

    def _summed(self, parts: Array | None) -> Array | None:
        """The sum of partial sums (parts, C), as (C,)."""
        if parts is None:
            return None
        return parts[0] if len(parts) == 1 else parts.sum(axis=0)

    def _like(self, dgamma: Array | None, x: Array, gamma: Array | None) -> Any:
        """A parameter's gradient in the dtype of the parameter."""
        like = x if gamma is None else gamma
        return None if dgamma is None else dgamma.astype(like.dtype, copy=False)


def _last(axes: tuple[int, ...], x: Array) -> bool:
    """Whether ``axes`` are the last ones of x, in order."""
    return tuple(axes) == tuple(range(x.ndim - len(axes), x.ndim))


def _kept(x: Array, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of x with its last axes of size 1."""
    return tuple(x.shape[: x.ndim - len(axes)]) + (1,) * len(axes)
