"""Three ways to the statistics that BatchNorm normalises with at inference, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from minigrad.engine import set_recording
from minigrad.nn.module import Module
from minigrad.nn.norm import _BatchNorm
from minigrad.shapes import prod
from minigrad.tensor import Tensor

WAYS = ("moving", "batches", "whole")


class InferenceStatistics:
    """What ``inference_statistics`` found: for each way and each BatchNorm a mean and a variance.

    ``found[way][path]`` is (mean, variance), two tensors (C,); the ways are ``"moving"``,
    ``"batches"`` and ``"whole"``. Printed, it is a table of how far the ways are apart.
    """

    def __init__(
        self, model: Module, found: dict[str, dict[str, tuple[Tensor, Tensor]]], batches: int
    ) -> None:
        self.model, self.found, self.batches = model, found, batches

    def __getitem__(self, way: str) -> dict[str, tuple[Tensor, Tensor]]:
        if way not in WAYS:
            raise KeyError(f"the ways are {', '.join(map(repr, WAYS))}, got {way!r}.")
        return self.found[way]

    def use(self, way: str) -> Module:
        """Write the statistics of one way into the model; gives the model."""
        norms = _norms(self.model)
        with set_recording(False):
            for path, (mean, var) in self[way].items():
                norms[path].running_mean.copy_(mean)
                norms[path].running_var.copy_(var)
        return self.model

    def scores(self, score: Callable[[Module], Any]) -> dict[str, Any]:
        """``score(model)`` with the statistics of each way, such as its accuracy on the test set.

        The model is in eval mode meanwhile, and afterwards as it was.
        """
        with _kept(self.model):
            self.model.eval()
            for norm in _norms(self.model).values():
                norm.normalize_by = "running"
            return {way: score(self.use(way)) for way in WAYS}

    def rows(self) -> list[dict[str, Any]]:
        """For each layer and way: how far from the whole set's.

        ``mean_off`` is the root mean square over channels of (μ - μ_whole) / σ_whole,
        ``mean_worst`` the largest of them; ``var_ratio`` the mean of σ² / σ²_whole, from
        ``var_least`` to ``var_most``.
        """
        rows = []
        for path, (whole_mean, whole_var) in self["whole"].items():
            sigma = (whole_var.double() + 1e-30).sqrt()
            for way in WAYS:
                mean, var = (s.double() for s in self[way][path])
                off, ratio = (mean - whole_mean) / sigma, var / sigma.square()
                rows.append(
                    {
                        "layer": path,
                        "channels": len(mean),
                        "way": way,
                        "mean_off": float(off.square().mean().sqrt()),
                        "mean_worst": float(off.abs().max()),
                        "var_ratio": float(ratio.mean()),
                        "var_least": float(ratio.min()),
                        "var_most": float(ratio.max()),
                    }
                )
        return rows

    def __str__(self) -> str:
        lines = [
            "| layer | channels | way | mean, sigmas off (worst) | variance, of the whole's |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {r['layer']} | {r['channels']} | {r['way']} | {r['mean_off']:.3f} "
            f"({r['mean_worst']:.3f}) | {r['var_ratio']:.3f} ({r['var_least']:.3f} to "
            f"{r['var_most']:.3f}) |"
            for r in self.rows()
        ]
        return "\n".join(lines)


def inference_statistics(
    model: Module, loader: Iterable[Any], device: Any = None
) -> InferenceStatistics:
    """The mean and the variance that each BatchNorm could use in eval mode, found in three ways.

    ::

        moving     mean, var  =  the running estimates, as training left them
        batches    mean = E_B[mu_B],   var = m / (m - 1) E_B[var_B]      the paper's algorithm 2
        whole      mean, var over all samples, layer after layer

    The moving averages lag behind the weights and remember the last few batches only. The mean over
    batches belongs to the final weights; the layers in between see inputs that were normalised by
    their batch. The whole set, once through for each layer with the statistics found so far (as
    many passes as there are BatchNorms), is what a single batch of all samples would have given.

    Nothing of the model is changed; everything but its BatchNorms is in eval mode meanwhile.
    ``found.use(way)`` writes one of them into it, as ``update_bn`` does with the second.

    Args:
        model: with running estimates.
        loader: the training set in batches, which can be gone through several times; of a tuple or
            list the first is the input.
        device: where to move the inputs.

    Raises:
        ValueError: a model without running estimates, or a loader that is empty or used up.

    Source: Ioffe and Szegedy (2015), arXiv:1502.03167, algorithm 2 for ``batches`` and section 3.1
        for ``moving``; one pass over the whole set: Ng's course "Improving deep neural networks"
        (2017), week 3.
    Differs: with ``unbiased=False`` in a layer, its variances are without the factor m / (m - 1).

    Example:
        >>> from minigrad import nn, randn
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        >>> found = inference_statistics(model, [randn(8, 2), randn(8, 2)])
        >>> found["whole"]["1"][0].shape
        (3,)
    """
    norms = _norms(model)
    if not norms:
        raise ValueError(
            "inference_statistics() needs a BatchNorm with running estimates; build it with "
            "track_running_stats=True."
        )
    moving = {p: _copies(n.running_mean, n.running_var) for p, n in norms.items()}
    with _kept(model), set_recording(False):
        model.eval()
        for norm in norms.values():
            norm.normalize_by, norm.update_running = "batch", False
        called: list[str] = []  # the BatchNorms, in the order of their calls
        watched = {path: _Moments(called, path) for path in norms}
        handles = [n.register_forward_pre_hook(watched[p].see) for p, n in norms.items()]
        try:
            batches = _run(model, loader, device)
        finally:
            for handle in handles:
                handle.remove()
        over_batches = {p: watched[p].of_batches(norms[p]) for p in called}
        whole = {}
        for path in called:
            norm, one = norms[path], _Moments()
            handle = norm.register_forward_pre_hook(one.see)
            try:
                again = _run(model, loader, device)
            finally:
                handle.remove()
            if again != batches:
                raise ValueError(
                    f"inference_statistics() goes through the loader {1 + len(called)} times and "
                    f"got {batches} batches, then {again}; pass a list or a DataLoader, not an "
                    "iterator."
                )
            whole[path] = one.of_all(norm)
            norm.normalize_by = "running"
            norm.running_mean.copy_(whole[path][0])
            norm.running_var.copy_(whole[path][1])
    found = {
        "moving": {p: moving[p] for p in called},
        "batches": over_batches,
        "whole": whole,
    }
    return InferenceStatistics(model, found, batches)


class _Moments:
    """Mean and variance of what a layer is given, in float64: of each batch, and of all."""

    def __init__(self, order: list[str] | None = None, path: str = "") -> None:
        self.order, self.path = order, path  # where it puts itself down when it is first called
        self.batches = self.count = 0
        self.mean_sum: Any = 0.0
        self.var_sum: Any = 0.0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    def see(self, module: Any, args: Any) -> None:
        x = args[0].detach().double()
        axes = (0, *range(2, x.ndim))
        m = prod(x.shape) // x.shape[1]
        mean, var = x.mean(axes), x.var(axes, correction=0)
        if not self.batches and self.order is not None:
            self.order.append(self.path)
        self.batches += 1
        self.mean_sum = self.mean_sum + mean
        self.var_sum = self.var_sum + var * (m / (m - 1) if module.unbiased and m > 1 else 1.0)
        # two sets joined without E[x²] - E[x]²: Chan, Golub, LeVeque (1979)
        total, apart = self.count + m, mean - self.mean
        self.squares = self.squares + var * m + apart.square() * (self.count * m / total)
        self.mean = self.mean + apart * (m / total)
        self.count = total

    def of_batches(self, norm: Any) -> tuple[Tensor, Tensor]:
        return self._like(norm, self.mean_sum / self.batches, self.var_sum / self.batches)

    def of_all(self, norm: Any) -> tuple[Tensor, Tensor]:
        degrees = self.count - 1 if norm.unbiased and self.count > 1 else self.count
        return self._like(norm, self.mean, self.squares / degrees)

    @staticmethod
    def _like(norm: Any, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        return mean.to(norm.running_mean.dtype), var.to(norm.running_var.dtype)


def _norms(model: Module) -> dict[str, Any]:
    """The BatchNorms with running estimates, by path."""
    return {
        path: m
        for path, m in model.named_modules()
        if isinstance(m, _BatchNorm) and m.running_mean is not None
    }


def _run(model: Module, loader: Iterable[Any], device: Any) -> int:
    seen = 0
    for batch in loader:
        x = batch[0] if isinstance(batch, list | tuple) else batch
        model(x if device is None else x.to(device))
        seen += 1
    if not seen:
        raise ValueError(
            "inference_statistics() got an empty loader; it needs at least one batch (an iterator "
            "that was used up before?)."
        )
    return seen


def _copies(*tensors: Any) -> Any:
    return tuple(t.detach().clone() for t in tensors)


@contextmanager
def _kept(model: Module) -> Iterator[None]:
    """Modes, switches and running estimates as they were, whatever happens."""
    norms = _norms(model).values()
    modes = [(m, m.training) for m in model.modules()]
    switches = [(n, n.normalize_by, n.update_running) for n in norms]
    buffers = [(b, b.detach().clone()) for n in norms for b in n.buffers()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for norm, normalize_by, update_running in switches:
            norm.normalize_by, norm.update_running = normalize_by, update_running
        with set_recording(False):
            for buffer, value in buffers:
                buffer.copy_(value)
