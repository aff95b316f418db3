"""Probe: what goes on in the layers of a model while it trains, written down step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from minigrad import nn
from minigrad.engine import recording
from minigrad.inspect.records import Records, Row
from minigrad.nn.module import Module
from minigrad.optim.optimizer import Optimizer
from minigrad.tensor import Tensor
from minigrad.unchanged import host, looking

Layers = str | type[Module] | Module | Callable[[str, Module], bool]

#: Activations that saturate, and outside of which outputs they count as saturated.
SATURATES: dict[type[Module], tuple[float, float]] = {
    nn.Sigmoid: (0.03, 0.97),
    nn.Hardsigmoid: (0.03, 0.97),
    nn.Tanh: (-0.97, 0.97),
    nn.Hardtanh: (-0.97, 0.97),
    nn.Softsign: (-0.97, 0.97),
}
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
#: Layers that only change the shape.
SHAPES = (nn.Flatten, nn.Unflatten, nn.Identity)

#: Of an output with more values, percentiles and histogram are those of as many, evenly spaced.
SAMPLE = 2**15


class Probe(Records):
    """Writes down, while a model trains, what its layers put out, get back, and learn.

    As a context manager (or between ``attach()`` and ``detach()``) it watches every forward and
    backward pass in train mode; ``step()`` after each update ends the step. An optimizer that it
    was given does that by itself::

        with inspect.Probe(model, every=10, optimizer=optimizer) as probe:
            train(model, optimizer)
        probe.plot("distributions", "percentiles.png")

    The training is the same, bit for bit, with and without it. Of each layer, at the first call in
    a recorded step:

    ======================== =====================================================================
    mean, std, min, max      of the output's values
    p15, p50, p85            percentiles (of 32,768 values, evenly spaced, where there are more)
    histogram                counts of the same values in equal bins from min to max
    saturated                share beyond 0.03 to 0.97 (Sigmoid) or ±0.97 (Tanh); NaN elsewhere
    dead                     share of the units (axis 1) that are 0 for the whole batch
    nonfinite                share of NaN and infinity, which the others leave out
    grad_norm, grad_rms      Euclidean norm and root mean square of dL/d(output)
    gap                      BatchNorm: (running mean - batch mean) / batch standard deviation, the
                             root mean square over channels, before this batch moved the former
    ratio                    BatchNorm: running variance / batch variance, the geometric mean
    ======================== =====================================================================

    Of each parameter: ``norm`` ‖w‖, ``grad_norm`` ‖∇w‖ (as the optimizer found it, clipped or not),
    ``update_norm`` ‖Δw‖ and ``update_ratio`` ‖Δw‖/‖w‖, from the weights before the forward pass and
    after the update.

    Args:
        model: whose layers to watch.
        layers: paths with wildcards (``"features.*"``), module types, modules, or a function of
            path and module; one, or several. By default every layer that holds no other
            and does more than change the shape.
        every: record every so many steps, beginning with the first.
        keep: the most records to keep. When there are more, every second one goes and ``every``
            doubles: memory is bounded, and the whole training stays in sight.
        bins: of the histograms.
        unit: watch one channel (axis 1) of each output instead of all, as the paper does in its
            figure 1(b, c).
        optimizer: ends each step when it has taken its own, so that ``step()`` need not be called.
    Source: Ioffe and Szegedy (2015), arXiv:1502.03167, figure 1; Glorot and Bengio (2010) for
        activations and gradients by depth.

    Example:
        >>> from minigrad import manual_seed, optim, randn
        >>> _ = manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Sigmoid(), nn.Linear(8, 1))
        >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
        >>> with Probe(model, every=2, optimizer=optimizer) as probe:
        ...     for _ in range(5):
        ...         optimizer.zero_grad()
        ...         model(randn(16, 4)).square().mean().backward()
        ...         optimizer.step()
        >>> probe.steps, probe["2"]["p50"].round(1)
        (array([0, 2, 4]), array([0.6, 0.5, 0.5]))
    """

    def __init__(
        self,
        model: Module,
        layers: Layers | Sequence[Layers] | None = None,
        *,
        every: int = 1,
        keep: int = 256,
        bins: int = 40,
        unit: int | None = None,
        optimizer: Optimizer | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, Module):
            raise TypeError(f"a Probe watches an nn.Module, got {type(model).__name__}.")
        for name, value, least in (("every", every, 1), ("keep", keep, 2), ("bins", bins, 1)):
            if value < least:
                raise ValueError(f"{name}= must be at least {least}, got {value}.")
        self.model, self.every, self.keep, self.bins, self.unit = model, every, keep, bins, unit
        self.optimizer = optimizer
        self._watched = _chosen(model, layers)
        self._handles: list[Any] = []
        self._count = 0  # updates so far
        self._row: Row | None = None  # of the step under way, if it is recorded
        self._before: dict[str, Any] = {}  # the weights at its beginning

    # ---- on and off --------------------------------------------------------------------------

    def attach(self) -> Probe:
        """Begin to watch."""
        if self._handles:
            raise RuntimeError("the probe is attached already; detach() it first.")
        for path, module in self._watched.items():
            self._handles.append(module.register_forward_pre_hook(self._begins(path, module)))
            self._handles.append(module.register_forward_hook(self._ends(path, module)))
        if self.optimizer is not None:
            self._handles.append(
                self.optimizer.register_step_post_hook(lambda optimizer, args, kwargs: self.step())
            )
        return self

    def detach(self) -> None:
        """Watch no longer; what was recorded stays."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._row, self._before = [], None, {}

    def __enter__(self) -> Probe:
        return self.attach()

    def __exit__(self, *error: Any) -> None:
        self.detach()

    # ---- one step ----------------------------------------------------------------------------

    def step(self) -> None:
        """End the step: call it after ``optimizer.step()`` and before ``zero_grad()``.

        A probe that was given its optimizer calls it by itself.
        """
        row, self._row = self._row, None
        if row is not None:
            for path, p in self.model.named_parameters():
                if path in self._before:
                    self._parameter(row, path, p, self._before[path])
            self._rows.append((self._count, row))
            if len(self._rows) > self.keep:
                self._thin()
        self._before = {}
        self._count += 1

    def _thin(self) -> None:
        """Half as many records, and from now on half as often."""
        self.every *= 2
        self._rows = [(step, row) for step, row in self._rows if step % self.every == 0]

    def _parameter(self, row: Row, path: str, p: Tensor, before: Any) -> None:
        if path not in self.parameters:
            self.parameters.append(path)
        size, update = norm(before), norm(np.subtract(host(p), before, dtype=np.float64))
        row[path, "norm"], row[path, "update_norm"] = size, update
        row[path, "update_ratio"] = update / size if size else np.nan
        row[path, "grad_norm"] = np.nan if p.grad is None else norm(host(p.grad))

    # ---- hooks: plain functions, so that a deep copy of the model copies no probe ---------------

    def _begins(self, path: str, module: Module) -> Callable[..., None]:
        def hook(called: Module, args: Any) -> None:
            if called is module and self._recording():
                if self._row is None:
                    self._start()
                row, x = self._row, args[0] if args else None
                first = row is not None and (path, "mean") not in row
                by_batch = isinstance(module, BATCH_NORMS) and module.training
                if row is not None and first and by_batch and isinstance(x, Tensor):
                    _against_running(row, path, module, host(x))

        return hook

    def _ends(self, path: str, module: Module) -> Callable[..., None]:
        def hook(called: Module, args: Any, output: Any) -> None:
            row = self._row
            if called is not module or row is None or not self._recording():
                return
            tensor = next((t for t in _tensors(output)), None)
            if tensor is None or (path, "mean") in row:
                return
            if path not in self.layers:
                self.layers.append(path)
            self._output(row, path, module, host(tensor))
            if tensor.requires_grad:
                tensor.register_hook(self._gradient(row, path))

        return hook

    def _gradient(self, row: Row, path: str) -> Callable[[Tensor], None]:
        def hook(grad: Tensor) -> None:
            if row is self._row and (path, "grad_norm") not in row:
                values = self._part(host(grad))
                row[path, "grad_norm"] = norm(values)
                row[path, "grad_rms"] = norm(values) / max(values.size, 1) ** 0.5

        return hook

    def _recording(self) -> bool:
        """Whether the call under way belongs to a step that is to be recorded."""
        training = self.model.training and recording.get() and not looking.get()
        return training and self._count % self.every == 0

    def _start(self) -> None:
        self._row = {}
        self._before = {
            path: host(p).copy() for path, p in self.model.named_parameters() if p.requires_grad
        }

    def _part(self, values: Any) -> Any:
        """The channel that is watched, or everything."""
        if self.unit is None or values.ndim < 2:
            return values
        if not -values.shape[1] <= self.unit < values.shape[1]:
            raise IndexError(
                f"unit={self.unit} of an output of shape {values.shape}: axis 1 has "
                f"{values.shape[1]} channels. Name the layers that have it with layers=."
            )
        return values[:, self.unit]

    def _output(self, row: Row, path: str, module: Module, whole: Any) -> None:
        values = self._part(whole).reshape(-1)
        if values.dtype.kind != "f":
            values = values.astype(np.float64)
        finite = np.isfinite(values)
        share = 1 - finite.mean() if values.size else 0.0
        row[path, "nonfinite"] = float(share)
        if share:
            values = values[finite]
        row[path, "histogram"] = np.zeros(self.bins)
        for name in ("mean", "std", "min", "max", "p15", "p50", "p85", "saturated", "dead"):
            row[path, name] = np.nan
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        row[path, "min"], row[path, "max"] = low, high
        row[path, "mean"] = float(values.mean(dtype=np.float64))
        row[path, "std"] = float(values.std(dtype=np.float64))
        few = values[:: -(-values.size // SAMPLE)].astype(np.float64)
        for name, value in zip(
            ("p15", "p50", "p85"), np.percentile(few, (15, 50, 85)), strict=True
        ):
            row[path, name] = float(value)
        if high > low:
            row[path, "histogram"] = np.histogram(few, self.bins, (low, high))[0].astype(float)
        else:
            row[path, "histogram"][0] = few.size
        if type(module) in SATURATES:
            low, high = SATURATES[type(module)]
            row[path, "saturated"] = float(((values < low) | (values > high)).mean())
        row[path, "dead"] = dead(self._part(whole)[:, None] if self.unit is not None else whole)


def norm(values: Any) -> float:
    """The Euclidean norm, in float64; without BLAS, whose threads would wait for the model's."""
    return float(np.sqrt(np.square(values, dtype=np.float64).sum()))


def dead(values: Any) -> float:
    """The share of units (axis 1; where there are three axes, the better of the last two) that are
    0 throughout.
    """
    if values.ndim < 2 or not values.size:
        return float("nan")
    axes = (1, 2) if values.ndim == 3 else (1,)  # (N, C, L) or (N, L, C)
    shares = []
    for axis in axes:
        others = tuple(i for i in range(values.ndim) if i != axis)
        shares.append(float((~values.astype(bool).any(axis=others)).mean()))
    return min(shares)


def _against_running(row: Row, path: str, module: Any, x: Any) -> None:
    """How far the running statistics lie from those of the batch."""
    if module.running_mean is None or module.running_var is None or x.ndim < 2 or not x.size:
        return
    axes = (0, *range(2, x.ndim))
    wide = x.astype(np.float64)
    mean, var = wide.mean(axis=axes), wide.var(axis=axes)
    gap = (host(module.running_mean) - mean) / np.sqrt(var + module.eps)
    ratio = (host(module.running_var) + module.eps) / (var + module.eps)
    row[path, "gap"] = float(np.sqrt((gap**2).mean()))
    row[path, "ratio"] = float(np.exp(np.log(ratio).mean()))


def _tensors(output: Any) -> list[Tensor]:
    """The tensors in what a layer returned, an RNN's (output, state) for one."""
    if isinstance(output, Tensor):
        return [output]
    return (
        [t for part in output for t in _tensors(part)] if isinstance(output, tuple | list) else []
    )


def _chosen(model: Module, layers: Any) -> dict[str, Module]:
    """The watched layers by path."""
    named = {path or type(model).__name__: m for path, m in model.named_modules()}
    if layers is None:
        return {
            path: m
            for path, m in named.items()
            if next(m.children(), None) is None and not isinstance(m, SHAPES)
        }
    chosen: dict[str, Module] = {}
    for wanted in layers if isinstance(layers, list | tuple) else [layers]:
        if isinstance(wanted, str):
            found = {p: m for p, m in named.items() if fnmatchcase(p, wanted)}
        elif isinstance(wanted, Module):
            found = {p: m for p, m in named.items() if m is wanted}
        elif isinstance(wanted, type):
            found = {p: m for p, m in named.items() if isinstance(m, wanted)}
        elif callable(wanted):
            found = {p: m for p, m in named.items() if wanted(p, m)}
        else:
            raise TypeError(
                "layers= takes paths, module types, modules, or functions of path and module; got "
                f"{type(wanted).__name__}."
            )
        if not found:
            raise ValueError(f"no layer of the model is {wanted!r}; there is {', '.join(named)}.")
        chosen.update(found)
    return {path: m for path, m in named.items() if path in chosen}
