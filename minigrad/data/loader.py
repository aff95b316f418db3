"""DataLoader: samples of a dataset, in some order, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar
from warnings import warn

import numpy as np

from minigrad.backends import cuda
from minigrad.creation import as_tensor, tensor
from minigrad.data.dataset import Dataset, Rows, size
from minigrad.data.prefetch import Prefetch
from minigrad.data.sampler import BatchSampler, RandomSampler, SequentialSampler, check_positive
from minigrad.dtypes import float64
from minigrad.errors import ShapeError
from minigrad.functions import stack
from minigrad.generator import Generator
from minigrad.tensor import Tensor

T_co = TypeVar("T_co", covariant=True)


class DataLoader(Generic[T_co]):
    """An iterable of the batches of a dataset; every ``for`` over it is one epoch.

    Args:
        dataset: map-style: anything with ``dataset[i]`` and, unless a sampler is given, a length.
        batch_size: samples in a batch; the last may be smaller, see ``drop_last``.
        shuffle: visit the samples in a new random order every epoch.
        sampler: an iterable of indices, in place of ``shuffle``.
        batch_sampler: an iterable of lists of indices, in place of ``batch_size``, ``shuffle``,
            ``sampler`` and ``drop_last``.
        num_workers: 0: a batch is made when the loop asks for it; 1: a thread makes the next ones
            ahead, and pins them, while the loop is at work (or the GPU is).
        collate_fn: makes a batch of a list of samples; ``default_collate`` if None.
        pin_memory: put the tensors of a batch into pinned memory, from which
            ``x.to("cuda", non_blocking=True)`` copies while the host prepares the next one.
        drop_last: leave out the last batch where it would be smaller than the others.
        generator: where the order is drawn from; the default generator (``manual_seed``) if None.
        prefetch_factor: how many batches the thread makes ahead, 2 if None. Order and random
            numbers stay those of ``num_workers=0``: a batch that draws some is made when it is
            asked for.

    Raises:
        ValueError: arguments that exclude each other, or a value out of range.
        TypeError: a dataset that cannot be indexed or has no length.

    Example:
        >>> from minigrad import arange
        >>> from minigrad.data import TensorDataset
        >>> data = TensorDataset(arange(5), arange(5) ** 2)
        >>> [(x.tolist(), y.tolist()) for x, y in DataLoader(data, batch_size=3)]
        [([0, 1, 2], [0, 1, 4]), ([3, 4], [9, 16])]

    Differs: of PyTorch's, iterable-style datasets, worker processes (here the one worker is a
    thread) and ``batch_size=None`` are missing. A shuffling loader warns where the last batch of an
    epoch would hold one sample.
    """

    def __init__(
        self,
        dataset: Dataset[T_co] | Sequence[T_co],
        batch_size: int = 1,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Sequence[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[T_co]], Any] | None = None,
        pin_memory: bool = False,
        *,
        drop_last: bool = False,
        generator: Generator | None = None,
        prefetch_factor: int | None = None,
    ) -> None:
        if not hasattr(dataset, "__getitem__"):
            raise TypeError(
                f"DataLoader expects a dataset with dataset[i], got {type(dataset).__name__}; "
                "make a list of its samples, or define __getitem__ and __len__."
            )
        if num_workers not in (0, 1):
            raise ValueError(
                f"num_workers must be 0, or 1 for a thread that makes batches ahead, got "
                f"{num_workers}: there are no worker processes."
            )
        if prefetch_factor is not None:
            if not num_workers:
                raise ValueError(
                    f"prefetch_factor={prefetch_factor} needs num_workers=1, the thread that makes "
                    "batches ahead; without one, leave it out."
                )
            check_positive(prefetch_factor, "prefetch_factor")
        if sampler is not None and shuffle:
            raise ValueError(
                "sampler= and shuffle=True exclude each other: the sampler sets the order."
            )
        self.batch_size: int | None = None
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler= excludes batch_size=, shuffle=, sampler= and drop_last=: "
                    "it sets the batches by itself."
                )
        else:
            if sampler is None:
                source: Any = dataset
                n = size(source)
                sampler = (
                    RandomSampler(source, generator=generator)
                    if shuffle
                    else SequentialSampler(source)
                )
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
            self.batch_size = batch_size
            if shuffle and not drop_last and n > batch_size > 1 and n % batch_size == 1:
                warn(
                    f"{n} samples in batches of {batch_size} leave one for the last batch of an "
                    "epoch, which BatchNorm in train mode refuses; pass drop_last=True, or another "
                    "batch_size.",
                    stacklevel=2,
                )
        self.dataset = dataset
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.prefetch_factor = 2 if num_workers and prefetch_factor is None else prefetch_factor
        self.collate_fn = collate_fn or default_collate
        if pin_memory and not cuda.probe():
            warn("pin_memory=True does nothing: there is no GPU.", stacklevel=2)
            pin_memory = False
        self.pin_memory = pin_memory
        self.drop_last = drop_last
        self.generator = generator

    def __iter__(self) -> Iterator[Any]:
        batches = self._batches()
        if self.pin_memory:
            batches = map(pinned, batches)
        if self.prefetch_factor is None:
            return batches
        return iter(Prefetch(batches, self.prefetch_factor))

    def _batches(self) -> Iterator[Any]:
        rows = Rows.of(self.dataset) if self.collate_fn is default_collate else None
        fetch = getattr(self.dataset, "__getitems__", None)
        for indices in self.batch_sampler:
            if rows is not None and len(indices):
                # one indexed copy a tensor: 38 us a batch of 64 images of 28 x 28 and their labels,
                # of which NumPy's copy takes 24; sample by sample it is 860 us
                yield rows.take(np.asarray(indices)).gather()
            else:
                samples = fetch(indices) if fetch else [self.dataset[i] for i in indices]
                yield self.collate_fn(samples)

    def __len__(self) -> int:
        return size(self.batch_sampler)


def pinned(batch: Any) -> Any:
    """A batch with the tensors of the CPU among it in pinned memory."""
    if isinstance(batch, Tensor):
        return batch.pin_memory() if batch.device == "cpu" else batch
    if isinstance(batch, Mapping):
        return {key: pinned(value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*map(pinned, batch))
    return type(batch)(map(pinned, batch)) if isinstance(batch, list | tuple) else batch


def default_collate(batch: Sequence[Any]) -> Any:
    """A batch of a list of samples: what is stacked along a new first axis depends on the samples.

    ================================  =========================================================
    samples                           batch
    ================================  =========================================================
    tensors, arrays, NumPy numbers    a tensor of their dtype
    floats; ints; bools               a float64; int64; bool tensor
    strings, bytes                    a list of them
    dicts                             a dict with the keys of the first, their values collated
    named tuples                      the same named tuple, its fields collated
    tuples, lists                     a list, place by place
    ================================  =========================================================

    Raises:
        ShapeError: tensors of several shapes, or tuples of several lengths.
        KeyError: a dict without a key of the first.
        TypeError: samples of another kind.

    Example:
        >>> default_collate([(1, {"x": 0.5}), (2, {"x": 1.5})])
        [tensor([1, 2]), {'x': tensor([0.5000, 1.5000], dtype=float64)}]
    """
    if not len(batch):
        raise ValueError("default_collate needs at least one sample, got an empty batch.")
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(check_shapes(batch))
    if isinstance(first, np.ndarray | np.number | np.bool_):
        return as_tensor(np.stack(check_shapes(batch)))
    if isinstance(first, float):
        return tensor(batch, dtype=float64)
    if isinstance(first, int):
        return tensor(batch)
    if isinstance(first, str | bytes):
        return list(batch)
    if isinstance(first, Mapping):
        for sample in batch:
            if missing := [key for key in first if key not in sample]:
                raise KeyError(
                    f"default_collate expects the keys of the first sample, {list(first)}, in all; "
                    f"one lacks {missing}; pass a collate_fn= that fills them in."
                )
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, Sequence):
        lengths = sorted({len(sample) for sample in batch})
        if len(lengths) > 1:
            raise ShapeError(
                "default_collate expects samples with equally many fields, got "
                f"{' and '.join(map(str, lengths))}; pass a collate_fn= that evens them out."
            )
        fields = [default_collate(field) for field in zip(*batch, strict=True)]
        return type(first)(*fields) if hasattr(first, "_fields") else fields
    raise TypeError(
        "default_collate joins tensors, arrays, numbers, strings, dicts, tuples and lists, got "
        f"{type(first).__name__}; pass a collate_fn= that makes a batch of such samples."
    )


def check_shapes(batch: Sequence[Any]) -> Sequence[Any]:
    """``batch``, whose tensors or arrays must be of one shape."""
    shapes = {sample.shape for sample in batch}
    if len(shapes) > 1:
        raise ShapeError(
            "default_collate expects samples of one shape, got "
            f"{' and '.join(map(str, sorted(shapes)))}; pad or crop them, or pass a collate_fn= "
            "that does."
        )
    return batch
