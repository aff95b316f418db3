"""Derivatives against finite differences: the independent witness for every rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.backends import backend_of
from minigrad.dtypes import float64
from minigrad.errors import DtypeError, GraphError
from minigrad.gradients import grad
from minigrad.tensor import Tensor, wrap


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Whether the gradients of ``func`` agree with central differences, entry by entry.

    Every output is weighed with fixed random numbers: an unweighted sum would let wrong rules pass
    where gradients cancel, as behind a BatchNorm, whose outputs add up to a constant.

    Args:
        func: takes Tensors, returns a Tensor or several.
        inputs: float64 Tensors with requires_grad=True, and anything else ``func`` takes.
        eps: step of the difference (f(x + eps) - f(x - eps)) / (2 eps), error O(eps²).
        raise_exception: raise GraphError with the worst entry instead of returning False.

    Example:
        >>> x = Tensor([0.5, -1.0], dtype="float64", requires_grad=True)
        >>> gradcheck(lambda x: (x * x).exp(), x)
        True
    """
    args = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    wanted = [a for a in args if isinstance(a, Tensor) and a.requires_grad]
    if not wanted:
        raise GraphError("gradcheck needs at least one input with requires_grad=True.")
    for a in wanted:
        if a.dtype != float64:
            raise DtypeError(
                f"gradcheck needs float64 inputs, got {a.dtype}: in less, rounding drowns the "
                "differences; use x.double()."
            )
    rng = np.random.default_rng(0)
    weights: list[Any] = []

    def weighed() -> Tensor:
        outputs = func(*args)
        outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        outputs = [o for o in outputs if isinstance(o, Tensor) and o.dtype.kind == "f"]
        if not weights:
            for o in outputs:
                backend = backend_of(o.array)
                drawn = rng.uniform(0.5, 1.5, o.shape) * rng.choice([-1.0, 1.0], o.shape)
                weights.append(wrap(backend.from_host(np.asarray(drawn), o.device)))
        total: Any = 0
        for o, w in zip(outputs, weights, strict=True):
            total = total + (o * w).sum()
        return total  # type: ignore[no-any-return]

    total = weighed()
    if not total.requires_grad:
        raise GraphError("gradcheck: no output of the function requires a gradient.")
    analytic = grad(total, wanted, allow_unused=True, materialize_grads=True)
    for i, (x, found) in enumerate(zip(wanted, analytic, strict=True)):
        numeric = _difference(weighed, x, eps)
        error = np.abs(_host(found) - numeric)
        limit = atol + rtol * np.abs(numeric)
        if not np.all(error <= limit):
            if not raise_exception:
                return False
            at = np.unravel_index(
                int(np.nanargmax(np.where(np.isnan(error), np.inf, error - limit))), x.shape
            )
            raise GraphError(
                f"gradcheck: input {i} of shape {x.shape} differs at {tuple(map(int, at))}: "
                f"backward gives {_host(found)[at]:.6g}, finite differences {numeric[at]:.6g}."
            )
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """``gradcheck`` of the gradients of ``func``: in its inputs and in the output's gradient."""
    args = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    slots = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad]
    sample = func(*args)
    sample = [sample] if isinstance(sample, Tensor) else list(sample)
    sample = [o for o in sample if o.requires_grad]
    if grad_outputs is None:
        rng = np.random.default_rng(1)
        grad_outputs = []
        for o in sample:
            backend = backend_of(o.array)
            seed = wrap(backend.from_host(np.asarray(rng.standard_normal(o.shape)), o.device))
            grad_outputs.append(seed.requires_grad_())

    def gradients(*values: Any) -> tuple[Tensor, ...]:
        call = list(args)
        for slot, value in zip(slots, values, strict=False):
            call[slot] = value
        outputs = func(*call)
        outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        outputs = [o for o in outputs if o.requires_grad]
        seeds = values[len(slots) :]
        found = grad(outputs, values[: len(slots)], seeds, create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None and g.requires_grad)

    values = [args[i] for i in slots] + list(grad_outputs)
    if not gradients(*values):
        return True  # linear in nothing: all second derivatives vanish
    return gradcheck(
        gradients, values, eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception
    )


def _difference(function: Callable[[], Tensor], x: Tensor, eps: float) -> Any:
    """d function / dx by central differences, entry by entry."""
    backend, home = backend_of(x.array), x.array
    base = np.array(_host(x), copy=True, order="C")  # so that flat, below, is a view of it
    numeric = np.zeros_like(base)
    flat, out = base.reshape(-1), numeric.reshape(-1)
    try:
        for k in range(flat.size):
            kept, values = flat[k], []
            for step in (eps, -eps):
                flat[k] = kept + step
                x.array = backend.from_host(base.copy(), x.device)
                values.append(float(function().array))
            flat[k] = kept
            out[k] = (values[0] - values[1]) / (2 * eps)
    finally:
        x.array = home
    return numeric


def _host(x: Tensor) -> Any:
    return backend_of(x.array).to_host(x.array)
