"""Gradient descent with momentum, in the three forms that textbooks and frameworks use."""

from __future__ import annotations

from typing import Any

from minigrad.backends import backend_of
from minigrad.optim.optimizer import Group, Optimizer, Params, State, in_range

FORMS = ("heavy-ball", "ema", "velocity")


class Momentum(Optimizer):
    """Gradient descent with momentum; ``form`` says whose.

    ::

        A  form="ema"           v <- beta v + (1 - beta) g      w <- w - lr v
           bias_correction                                      w <- w - lr v / (1 - beta^t)
        B  form="heavy-ball"    v <- mu v + g                   w <- w - lr v
        C  form="velocity"      v <- mu v - lr g                w <- w + v

    beta and mu are ``momentum``; v begins at 0; t counts the steps from 1; g is g + lambda w with
    weight decay lambda.

    How they relate, for the same beta = mu:

    * A is B with lr_B = (1 - beta) lr_A, always: v_A = (1 - beta) v_B. A's velocity is an average
      of about 1 / (1 - beta) gradients, so its lr means the same as without momentum; B's steps are
      1 / (1 - beta) times as long.
    * B is C, with v_C = -lr v_B, while lr is constant. C keeps past gradients with the lr they came
      with, B rescales them all to the present lr: they part when lr changes. After a cut of lr
      B slows down at once, C coasts on until the old gradients are forgotten.
    * A with bias correction is none of the others: it divides the first step by 1 - beta, so that
      it is lr g, and the correction fades as beta^t.

    Args:
        params: what to optimize; see ``Optimizer``.
        lr: step size; mind the form.
        momentum: beta or mu, the share of the old velocity that is kept.
        form: ``"heavy-ball"``, ``"ema"`` or ``"velocity"``.
        bias_correction: divide the average by 1 - beta^t, as Adam does ("ema" only).
        weight_decay: lambda, the factor of the L2 penalty lambda/2 |w|^2.
        maximize: climb instead: g <- -g before everything else.

    Source: Polyak (1964) for the method; C: Sutskever et al. (2013), "On the importance of
        initialization and momentum in deep learning", equations 1 and 2; A: Ng's course "Improving
        deep neural networks" (2017), week 2.
    Differs: PyTorch's ``SGD(momentum=)`` is B; with ``dampening=momentum`` it is A but for the
        first step, which it does not dampen. Keras' ``SGD(momentum=)`` is C.

    Example:
        >>> from minigrad import Tensor
        >>> w = Tensor([1.0, 2.0], requires_grad=True)
        >>> Momentum([w], lr=0.1, form="ema")
        Momentum (
        Parameter Group 0
            bias_correction: False
            form: ema
            lr: 0.1
            maximize: False
            momentum: 0.9
            weight_decay: 0
        )
    """

    keeps = ("step", "momentum_buffer")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        momentum: float = 0.9,
        *,
        form: str = "heavy-ball",
        bias_correction: bool = False,
        weight_decay: float = 0,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "form": form,
            "bias_correction": bias_correction,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise where a setting is out of range."""
        in_range(group, "lr", "weight_decay")
        in_range(group, "momentum", below=1)
        form = group["form"]
        if form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(map(repr, FORMS))}, got {form!r}.")
        if group["bias_correction"] and form != "ema":
            raise ValueError(
                f'bias_correction corrects an average: it needs form="ema", got {form!r}.'
            )

    def numbers(self, group: Group, t: float) -> tuple[float, float]:
        """The learning rate, and the correction of an average that began at zero."""
        correction = 1 - float(group["momentum"]) ** t if group["bias_correction"] else 1.0
        return float(group["lr"]), correction

    def update(self, param: Any, grad: Any, state: State, group: Group) -> None:
        """One step of one parameter."""
        t = self.count(state)
        lr, correction = self.numbers(group, t)
        backend_of(param).momentum_update(
            param,
            grad,
            self.average(state, "momentum_buffer", param),
            lr=lr,
            momentum=float(group["momentum"]),
            form=group["form"],
            correction=correction,
            weight_decay=float(group["weight_decay"]),
        )
