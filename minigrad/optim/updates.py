"""What an optimizer would do: one step, on copies."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from minigrad.backends import backend_of
from minigrad.dtypes import float16, float32
from minigrad.optim.optimizer import Optimizer
from minigrad.tensor import Tensor


def stepped(optimizer: Optimizer, grads: Mapping[Tensor, Any]) -> dict[Tensor, Any]:
    """The arrays that the parameters in ``grads`` would have after one step with those gradients.

    Parameters, gradients and the optimizer's state stay as they are.
    """
    after = {}
    for group in optimizer.param_groups:
        for param in group["params"]:
            if param not in grads:
                continue
            array, grad = param.array.copy(), grads[param]
            if array.dtype == float16:
                grad = backend_of(grad).astype(grad, float32)
            state = deepcopy(optimizer.state.get(param, {}))
            optimizer.update(array, -grad if group.get("maximize") else grad, state, group)
            after[param] = array
    return after
