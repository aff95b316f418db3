"""The optimizers' updates by kernels/optim.cu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad.backends.base import Array
from minigrad.backends.cuda.base import Launching
from minigrad.backends.cuda.graph import Placing
from minigrad.backends.cuda.launch import elements, one_block
from minigrad.backends.reference import updates as reference

#: The number of each form of momentum in optim.cu.
FORMS = {"velocity": 0, "heavy-ball": 1, "ema": 2}


class Updates(Launching, reference.Updates):
    """One kernel a parameter.

    ``lr`` may be an array of one, in the dtype of the averages, which the kernel reads. While a
    step is recorded, ``placing`` gives the places of the numbers that change from step to step:
    every replay reads them anew.
    """

    placing: Placing | None = None

    def _flat(self, param: Array, *kept: Array | None) -> bool:
        """Whether a kernel takes these: contiguous, all but the parameter in its wide dtype."""
        wide = self.wide(param)
        return (
            self.takes(param)
            and bool(param.flags.c_contiguous)
            and all(a is None or (a.flags.c_contiguous and a.dtype == wide) for a in kept)
        )

    def _rate(self, lr: Any, param: Array) -> dict[str, Any]:
        """The learning rate as the kernels take it, a number or its place in device memory."""
        if hasattr(lr, "flags"):
            return {"lr": 0.0, "lr_at": lr}
        return {"lr": lr, "lr_at": self._placed((lr,), param)}

    def _placed(self, values: tuple[float, ...], param: Array) -> Array | None:
        """Where a kernel is to read these numbers, where it is not given the numbers themselves."""
        return None if self.placing is None else self.placing(values, self.wide(param))

    def move_average(self, value: Array, x: Array, keep: float, share: float) -> None:
        if not (self._flat(value, value) and x.shape == value.shape):
            super().move_average(value, x, keep, share)
            return
        self.launch(
            "optim.move_average",
            elements(value.size),
            value.dtype.char,
            value=value,
            x=self.plain(x, value.dtype),
            n=value.size,
            keep=keep,
            share=share,
        )

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
        wide = self.wide(param)
        grad = self.plain(grad, wide)
        if not self._flat(param, velocity):
            super().sgd_update(
                param, grad, velocity, lr, momentum, dampening, nesterov, first, weight_decay
            )
            return
        self.launch(
            "optim.sgd",
            elements(param.size),
            param.dtype.char,
            p=param,
            grad=grad,
            velocity=velocity,
            **self._rate(lr, param),
            n=param.size,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=int(nesterov),
            first=int(first),
        )

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
        wide = self.wide(param)
        grad = self.plain(grad, wide)
        if not self._flat(param, velocity):
            super().momentum_update(
                param, grad, velocity, lr, momentum, form, correction, weight_decay
            )
            return
        correction_at = None
        if not hasattr(lr, "flags"):
            at = self._placed((lr, correction), param)
            if at is not None:
                lr, correction_at = at[:1], at[1:]
        self.launch(
            "optim.momentum",
            elements(param.size),
            param.dtype.char,
            p=param,
            grad=grad,
            velocity=velocity,
            lr=0.0 if hasattr(lr, "flags") else lr,
            lr_at=lr if hasattr(lr, "flags") else None,
            correction_at=correction_at,
            n=param.size,
            mu=momentum,
            correction=correction,
            weight_decay=weight_decay,
            form=FORMS[form],
        )

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
        wide = self.wide(param)
        grad = self.plain(grad, wide)
        if not self._flat(param, square, average, velocity):
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
        self.launch(
            "optim.rmsprop",
            elements(param.size),
            param.dtype.char,
            p=param,
            grad=grad,
            square=square,
            average=average,
            velocity=velocity,
            **self._rate(lr, param),
            n=param.size,
            alpha=alpha,
            eps=eps,
            momentum=momentum,
            weight_decay=weight_decay,
            eps_inside=int(eps_inside),
        )

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
        grad = self.plain(grad, self.wide(param))
        if not self._flat(param, m, v, v_max):
            super().adam_update(
                param,
                grad,
                m,
                v,
                v_max,
                lr,
                beta1,
                beta2,
                eps,
                t,
                weight_decay,
                decoupled,
                eps_hat,
            )
            return
        settings = (weight_decay, decoupled, eps_hat)
        numbers = self.adam_numbers_of(t, lr, beta1, beta2, eps, *settings)
        placed = self._placed(numbers, param)
        rate, eps, keep = numbers if placed is None else (0.0, 0.0, 0.0)
        self.launch(
            "optim.adam",
            elements(param.size),
            param.dtype.char,
            p=param,
            grad=grad,
            m=m,
            v=v,
            v_max=v_max,
            numbers=placed,
            n=param.size,
            rate=rate,
            eps=eps,
            keep=keep,
            beta1=beta1,
            beta2=beta2,
            rest1=1 - beta1,
            rest2=1 - beta2,
            weight_decay=0.0 if decoupled else weight_decay,
        )

    def clip_gradients(self, grads: Sequence[Array], max_norm: float) -> Array:
        """Scale the gradients, in place, so that their total norm is at most ``max_norm``.

        g <- g min(1, max_norm / (norm + 1e-6)). Returns the norm before, an array of one in device
        memory: nobody waits for it. The gradients are contiguous, of one dtype.
        """
        grids = [elements(g.size) for g in grads]
        counts = [grid.blocks[0] for grid in grids]
        wide = self.wide(grads[0])
        partial, norm = self.empty((sum(counts),), dtype=wide), self.empty((1,), dtype=wide)
        kind, start = grads[0].dtype.char, 0
        for g, grid, blocks in zip(grads, grids, counts, strict=True):
            part = partial[start : start + blocks]
            self.launch(
                "optim.sum_of_squares", grid, kind, g=g, partial=part, n=g.size, blocks=blocks
            )
            start += blocks
        self.launch(
            "optim.total_norm", one_block(start), kind, partial=partial, norm=norm, count=start
        )
        for g, grid in zip(grads, grids, strict=True):
            self.launch(
                "optim.scale_to_norm", grid, kind, g=g, norm=norm, n=g.size, max_norm=max_norm
            )
        return norm
