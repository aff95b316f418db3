"""Datasets: anything with ``dataset[i]`` and ``len(dataset)``, and ways to cut and join them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from math import floor, isclose
from typing import Any, Generic, TypeVar
from warnings import warn

import numpy as np

from minigrad.creation import as_tensor, randperm
from minigrad.errors import ShapeError
from minigrad.generator import Generator
from minigrad.tensor import Tensor

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Dataset(Generic[T_co]):
    """Base class of map-style datasets: a subclass defines ``__getitem__`` and ``__len__``.

    A subclass may also define ``__getitems__(indices)``, the list of samples of a batch, which
    ``DataLoader`` calls, where it is there, in place of one ``__getitem__`` a sample.
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError(
            f"{type(self).__name__} needs a method __getitem__(self, index): one sample."
        )

    # no __len__ here: len() of a dataset without one is Python's TypeError, as in PyTorch

    def __add__(self, other: Dataset[Any]) -> ConcatDataset[Any]:
        return ConcatDataset([self, other])


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Tensors whose first axis counts the samples: sample i is ``(a[i], b[i], ...)``.

    Example:
        >>> from minigrad import arange
        >>> TensorDataset(arange(3), arange(6).reshape(3, 2))[1]
        (tensor(1), tensor([2, 3]))

    Differs: unequal lengths are a ShapeError (a ValueError), in PyTorch an AssertionError.
    """

    tensors: tuple[Tensor, ...]

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors:
            raise TypeError("TensorDataset needs at least one tensor, as in TensorDataset(x, y).")
        for i, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor):
                raise TypeError(
                    f"TensorDataset expects tensors, got {type(tensor).__name__} as argument {i}; "
                    "make it one with minigrad.as_tensor(...)."
                )
            if not tensor.ndim:
                raise ShapeError(
                    f"TensorDataset needs a first axis that counts samples, argument {i} is 0-d; "
                    "give it one with .unsqueeze(0)."
                )
        lengths = [len(tensor) for tensor in tensors]
        if len(set(lengths)) > 1:
            raise ShapeError(
                f"TensorDataset expects tensors of equal length, got {lengths}: the first axis "
                "counts the samples."
            )
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class Subset(Dataset[T_co]):
    """The samples ``indices`` of a dataset, in that order: sample i is ``dataset[indices[i]]``.

    Differs: a subclass may override ``__getitem__`` alone, in PyTorch only with ``__getitems__``.
    """

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, idx: Any) -> T_co:
        if isinstance(idx, list):
            return self.dataset[[self.indices[i] for i in idx]]
        return self.dataset[self.indices[idx]]

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset[T_co]):
    """Datasets one after another; ``a + b`` is short for ``ConcatDataset([a, b])``.

    Differs: an index out of range is an IndexError at either end, in PyTorch a ValueError at the
    lower; no datasets at all are a ValueError, there an AssertionError.
    """

    datasets: list[Dataset[T_co]]
    cumulative_sizes: list[int]  #: where each dataset ends

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset needs at least one dataset, got none.")
        self.cumulative_sizes = list(accumulate(size(dataset) for dataset in self.datasets))

    def __getitem__(self, idx: int) -> T_co:
        n = len(self)
        if not -n <= idx < n:
            raise IndexError(f"index {idx} is out of range for a ConcatDataset of {n} samples.")
        idx %= n
        which = bisect_right(self.cumulative_sizes, idx)
        start = self.cumulative_sizes[which - 1] if which else 0
        return self.datasets[which][idx - start]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


def size(dataset: Any) -> int:
    """``len(dataset)``, for the samplers and splits that need one."""
    try:
        return len(dataset)
    except TypeError:
        raise TypeError(
            f"expected a dataset with a length, got {type(dataset).__name__} without __len__; "
            "define __len__, or make a list of its samples."
        ) from None


def random_split(
    dataset: Dataset[T], lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset[T]]:
    """Split a dataset at random into parts that do not overlap.

    Args:
        lengths: how many samples each part gets; or fractions that sum to 1, where part i gets
            floor(fraction x len(dataset)) and what remains goes, one each, to the first parts.
        generator: where the permutation is drawn from; the default generator if None.

    Raises:
        ValueError: lengths that do not sum to ``len(dataset)``, or are negative.

    Example:
        >>> [len(part) for part in random_split(range(10), [0.75, 0.25])]
        [8, 2]

    Differs: fractions whose sum exceeds 1 by no more than rounding are taken as well.
    """
    n = size(dataset)
    if any(length < 0 for length in lengths):
        raise ValueError(f"random_split expects lengths of at least 0, got {list(lengths)}.")
    if isclose(sum(lengths), 1):
        parts = [floor(n * fraction) for fraction in lengths]
        for i in range(n - sum(parts)):
            parts[i % len(parts)] += 1
        if 0 in parts:
            warn(
                f"random_split of {n} samples by {list(lengths)} leaves part {parts.index(0)} "
                "empty; use larger fractions, or lengths as whole numbers.",
                stacklevel=2,
            )
    elif all(isinstance(length, int | np.integer) for length in lengths) and sum(lengths) == n:
        parts = [int(length) for length in lengths]
    else:
        raise ValueError(
            f"random_split expects whole numbers that sum to len(dataset) = {n}, or fractions that "
            f"sum to 1, got {list(lengths)}, which sum to {sum(lengths)}."
        )
    order = randperm(n, generator=generator).tolist()
    ends = accumulate(parts, initial=0)
    return [Subset(dataset, order[start:end]) for start, end in pairwise(ends)]


class Rows:
    """Rows of stored tensors: what a TensorDataset, or nested Subsets of one, come down to.

    ``index`` holds the places of the rows, None for all of them.
    """

    def __init__(self, tensors: tuple[Tensor, ...], index: Any) -> None:
        self.tensors, self.index = tensors, index

    @classmethod
    def of(cls, dataset: Any) -> Rows | None:
        """The rows behind ``dataset``, or None where its samples must be asked for one by one.

        A subclass that overrides how samples are fetched has none.
        """
        fetch = getattr(type(dataset), "__getitem__", None)
        if hasattr(dataset, "__getitems__"):
            return None
        if fetch is TensorDataset.__getitem__:
            return cls(dataset.tensors, None)
        if fetch is not Subset.__getitem__:
            return None
        inner = cls.of(dataset.dataset)
        places = np.asarray(dataset.indices)
        if not places.size:
            places = places.astype(np.int64)
        if inner is None or places.ndim != 1 or places.dtype.kind not in "iu":
            return None
        return inner.take(places)

    def take(self, places: Any) -> Rows:
        """The rows at ``places``, counted within these rows; nothing is copied yet."""
        return Rows(self.tensors, places if self.index is None else self.index[places])

    def gather(self) -> list[Tensor]:
        """The rows themselves: one indexed copy a tensor."""
        if self.index is None:
            return list(self.tensors)
        return [t[as_tensor(self.index, device=t.device)] for t in self.tensors]


def tensors_of(dataset: Any, what: str) -> list[Tensor]:
    """The tensors that a TensorDataset, or a Subset of one, holds; ``what`` needs them."""
    rows = Rows.of(dataset)
    if rows is None:
        raise TypeError(
            f"{what} expects a TensorDataset or a Subset of one, got {type(dataset).__name__}."
        )
    return rows.gather()
