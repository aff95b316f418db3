"""Adam and AdamW: momentum and RMSprop together, both corrected for beginning at zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minigrad.backends import Reference, backend_of
from minigrad.optim.optimizer import Group, Optimizer, Params, State, check_betas, in_range


class Adam(Optimizer):
    """Adam: adaptive moment estimation.

    ::

        g <- g + lambda w                        weight decay (coupled: an L2 penalty)
        w <- w - lr lambda w                     instead, with decoupled_weight_decay
        m <- beta1 m + (1 - beta1) g             the mean gradient
        v <- beta2 v + (1 - beta2) g^2           its mean square
        u <- max(u, v)                           amsgrad: u takes the place of v below
        m_hat = m / (1 - beta1^t)                m and v begin at 0 and are too small at first:
        v_hat = v / (1 - beta2^t)                t steps hold only 1 - beta^t of the weights
        w <- w - lr m_hat / (sqrt(v_hat) + eps)

    The first step is lr in every coordinate, up or down; later ones are seldom longer, which is
    what makes lr easy to choose.

    Args:
        params: what to optimize; see ``Optimizer``.
        lr: step size, about the distance a coordinate moves in one step.
        betas: (beta1, beta2), the shares of the old averages that are kept: windows of about 10 and
            1000 steps.
        eps: keeps the root away from 0; it stands outside the corrected root.
        weight_decay: lambda.
        amsgrad: divide by the largest v so far, so that steps never grow back.
        maximize: climb instead: g <- -g before everything else.
        decoupled_weight_decay: shrink the weights directly; in the gradient, lambda w would be
            divided by the root like everything else, and large weights with large gradients hardly
            decay.
        eps_hat: eps is added to the root before it is corrected, lr √(1 - beta2^t) / (1 - beta1^t)
            m / (sqrt(v) + eps), as Keras, TensorFlow and Chainer do.

    Source: Kingma and Ba (2015), arXiv:1412.6980, algorithm 1; amsgrad: Reddi, Kale and Kumar
        (2018), arXiv:1904.09237, algorithm 2 (which has no bias correction); decoupled decay:
        Loshchilov and Hutter (2019), arXiv:1711.05101, algorithm 2.
    Differs: Keras and TensorFlow add their epsilon (1e-7) to the uncorrected root, the "epsilon
        hat" of the paper's section 2: at step t it acts like eps / sqrt(1 - beta2^t) here, 32 times
        as much at the first; ``eps_hat=True`` does the same. MLX leaves the bias correction out
        unless asked for; the first step is then (1 - beta1) / sqrt(1 - beta2) = 3.2 times lr.

    Example:
        >>> from minigrad import Tensor
        >>> w = Tensor([4.0, -0.02], requires_grad=True)
        >>> (w * w).sum().backward()
        >>> Adam([w], lr=0.01).step()
        >>> w  # the first step is lr, whatever the size of the gradient
        tensor([ 3.9900, -0.0100], requires_grad=True)
    """

    keeps = ("step", "exp_avg", "exp_avg_sq")
    may_keep = ("max_exp_avg_sq",)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        eps_hat: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
            "eps_hat": eps_hat,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise where a setting is out of range."""
        in_range(group, "lr", "eps", "weight_decay")
        check_betas(group)

    def numbers(self, group: Group, t: float) -> tuple[float, ...]:
        """The rate with its corrections, eps with its own, the share of the weight to keep."""
        return Reference.adam_numbers_of(t, **_numbers(group))

    def update(self, param: Any, grad: Any, state: State, group: Group) -> None:
        """One step of one parameter."""
        self._update_all([(param, grad, state)], group)

    def update_group(self, work: list[tuple[Any, Any, State]], group: Group) -> None:
        """One step of every parameter of a group."""
        if type(self).update is Adam.update:
            self._update_all(work, group)
        else:  # a rule that builds on this one
            super().update_group(work, group)

    def _update_all(self, work: list[tuple[Any, Any, State]], group: Group) -> None:
        arrays = []
        for param, grad, state in work:
            m = self.average(state, "exp_avg", param)
            v = self.average(state, "exp_avg_sq", param)
            v_max = self.average(state, "max_exp_avg_sq", param) if group["amsgrad"] else None
            arrays.append((param, grad, m, v, v_max, self.number(state, "step", 0.0)))
        if arrays:
            backend_of(arrays[0][0]).adam_updates(arrays, **_numbers(group))

    def repeat(self, work: list[tuple[Any, State]], group: Group) -> Any:
        """As ``update_group``, of the same arrays once more."""
        if type(self).update is not Adam.update or group["maximize"] or not work:
            return None
        arrays = []
        for param, state in work:
            v_max = state["max_exp_avg_sq"].array if group["amsgrad"] else None
            kept = (state["exp_avg"].array, state["exp_avg_sq"].array, v_max, state["step"].array)
            arrays.append((param, *kept))
        again = backend_of(work[0][0]).adam_again(arrays)
        return again and (lambda group: again(**_numbers(group)))


def _numbers(group: Group) -> dict[str, Any]:
    beta1, beta2 = group["betas"]
    return {
        "lr": float(group["lr"]),
        "beta1": float(beta1),
        "beta2": float(beta2),
        "eps": float(group["eps"]),
        "weight_decay": float(group["weight_decay"]),
        "decoupled": group["decoupled_weight_decay"],
        "eps_hat": bool(group.get("eps_hat")),
    }


class AdamW(Adam):
    """Adam with decoupled weight decay, 0.01 by default.

    ::

        w <- w - lr lambda w
        w <- w - lr m_hat / (sqrt(v_hat) + eps)       m_hat, v_hat as in Adam, of g alone

    Every weight shrinks by the same share lr lambda a step, however large its gradients are.

    Args:
        params: what to optimize; see ``Optimizer``.
        lr: step size.
        betas: (beta1, beta2), the shares of the old averages that are kept.
        eps: keeps the root away from 0.
        weight_decay: lambda.
        amsgrad: divide by the largest v so far.
        maximize: climb instead.
        eps_hat: as in Adam.

    Source: Loshchilov and Hutter (2019), "Decoupled weight decay regularization", arXiv:1711.05101,
        algorithm 2.
    Differs: in the paper the decay is eta_t lambda w, with the schedule eta_t but without the step
        size alpha; here and in PyTorch it is lr lambda w: when lr changes, so does the decay.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        eps_hat: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
            eps_hat=eps_hat,
        )

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As ``Optimizer.load_state_dict``; from a state of Adam, too: the decay is decoupled."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
