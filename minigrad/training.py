"""fit and evaluate: the loop that everybody writes, with progress, history and a clean end on
Ctrl-C.
"""

from __future__ import annotations

import csv
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sized
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

from minigrad import nn
from minigrad.autograd import no_grad
from minigrad.nn import functional as F
from minigrad.optim import Optimizer
from minigrad.tensor import Tensor


@dataclass
class Epoch:
    """What one pass over the training data came to. Losses are means over samples."""

    epoch: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    lr: float
    seconds: float


@dataclass
class History:
    """The epochs so far; ``interrupted`` where Ctrl-C ended the training."""

    epochs: list[Epoch] = field(default_factory=list)
    interrupted: bool = False

    def save(self, path: str | Path) -> None:
        """Write one line an epoch as CSV."""
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(Epoch)])
            writer.writeheader()
            writer.writerows(asdict(e) for e in self.epochs)


class Interrupt:
    """Within, the first Ctrl-C only sets ``asked``, so that a step is never cut in two."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *error: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)


def _placed(device: str, *tensors: Tensor) -> list[Tensor]:
    return [t.to(device, non_blocking=True) for t in tensors]


class Sums:
    """Losses and right answers so far. A GPU is only waited for when they are looked at."""

    def __init__(self) -> None:
        self._seen, self._total, self._right = 0, 0.0, 0
        self._waiting: list[tuple[Tensor, Tensor, int]] = []

    def add(self, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        """A batch more: its mean loss, and its scores (N, classes) for the labels (N,)."""
        right = (scores.detach().argmax(1) == labels).sum()
        self._waiting.append((loss.detach(), right, len(labels)))
        if loss.device == "cpu":
            self._read()

    def loss(self) -> float:
        """The mean loss over the samples so far."""
        self._read()
        return self._total / max(self._seen, 1)

    def accuracy(self) -> float:
        """The share of right answers so far."""
        self._read()
        return self._right / max(self._seen, 1)

    def _read(self) -> None:
        for loss, right, n in self._waiting:
            self._seen += n
            self._total += loss.item() * n
            self._right += int(right)
        self._waiting = []


def fit(
    model: nn.Module,
    train: Iterable[Any],
    test: Iterable[Any] | None = None,
    *,
    optimizer: Optimizer,
    epochs: int,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    device: str = "cpu",
    progress: bool = True,
    each_epoch: Callable[[Epoch], Any] | None = None,
) -> History:
    """Train a classifier.

    Args:
        train, test: (inputs, labels) batches, such as a DataLoader gives.
        epochs: passes over ``train``.
        progress: show a bar with loss, accuracy and the time left.
        each_epoch: called with the row of each finished epoch.
    Returns:
        The history; after Ctrl-C that of the epochs finished, with ``interrupted`` set.
    """
    history = History()
    steps = len(train) if isinstance(train, Sized) else None
    with (
        Interrupt() as interrupt,
        tqdm(total=steps and steps * epochs, disable=not progress, unit="step") as bar,
    ):
        for epoch in range(1, epochs + 1):
            start, sums = time.perf_counter(), Sums()
            model.train()
            for inputs, labels in train:
                inputs, labels = _placed(device, inputs, labels)
                optimizer.zero_grad()
                scores = model(inputs)
                value = loss(scores, labels)
                value.backward()
                optimizer.step()
                sums.add(value, scores, labels)
                if progress and bar.update():  # the bar is drawn now and then
                    bar.set_postfix(
                        epoch=f"{epoch}/{epochs}",
                        loss=f"{sums.loss():.3f}",
                        accuracy=f"{sums.accuracy():.1%}",
                        refresh=False,
                    )
                if interrupt.asked:
                    history.interrupted = True
                    return history
            test_loss, accuracy = (
                evaluate(model, test, loss=loss, device=device)
                if test is not None
                else (float("nan"), float("nan"))
            )
            row = Epoch(
                epoch,
                sums.loss(),
                sums.accuracy(),
                test_loss,
                accuracy,
                optimizer.param_groups[0]["lr"],
                time.perf_counter() - start,
            )
            history.epochs.append(row)
            if each_epoch is not None:
                each_epoch(row)
            if interrupt.asked:
                history.interrupted = True
                break
    return history


def evaluate(
    model: nn.Module,
    data: Iterable[Any],
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    device: str = "cpu",
) -> tuple[float, float]:
    """(mean loss, accuracy) in eval mode; the model's mode is put back."""
    modes, sums = [(m, m.training) for m in model.modules()], Sums()
    model.eval()
    try:
        with no_grad():
            for inputs, labels in data:
                inputs, labels = _placed(device, inputs, labels)
                scores = model(inputs)
                sums.add(loss(scores, labels), scores, labels)
    finally:
        for module, mode in modes:
            module.training = mode
    return sums.loss(), sums.accuracy()
