"""Samplers: the order in which a loader visits the samples, as an iterable of their places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import Any, Generic, TypeVar

from minigrad.data.dataset import size
from minigrad.generator import Generator, rng_of

T_co = TypeVar("T_co", covariant=True)


class Sampler(Generic[T_co]):
    """Base class of samplers: a subclass defines ``__iter__``, and ``__len__`` where it has one.

    Any iterable of indices serves a DataLoader as a sampler; this class only gives the idea a name.
    """

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(
            f"{type(self).__name__} needs a method __iter__(self) that yields indices."
        )


class SequentialSampler(Sampler[int]):
    """0, 1, ..., len(data_source) - 1."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(size(self.data_source)))

    def __len__(self) -> int:
        return size(self.data_source)


class RandomSampler(Sampler[int]):
    """The places of ``data_source`` in a new random order at every iteration.

    Args:
        replacement: draw every place anew, so that some come twice and some not at all.
        num_samples: how many places an iteration yields; ``len(data_source)`` if None. More than
            that without replacement goes on with another permutation.
        generator: where the order is drawn from; the default generator if None.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        if not isinstance(replacement, bool):
            raise TypeError(f"replacement must be True or False, got {replacement!r}.")
        if not size(data_source):
            raise ValueError("RandomSampler needs at least one sample to draw from, got none.")
        if num_samples is not None:
            check_positive(num_samples, "num_samples")
        self.data_source = data_source
        self.replacement = replacement
        self.generator = generator
        self._num_samples = num_samples

    @property
    def num_samples(self) -> int:
        """How many places an iteration yields; follows a ``data_source`` that grows."""
        return size(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        n = size(self.data_source)
        if self.replacement:
            yield from rng_of(self.generator).integers(n, size=self.num_samples).tolist()
            return
        for start in range(0, self.num_samples, n):
            order = rng_of(self.generator).permutation(n)
            yield from order[: self.num_samples - start].tolist()

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """The places of another sampler in lists of ``batch_size``.

    Args:
        sampler: any iterable of places.
        drop_last: leave out the last list where it would be shorter.

    Example:
        >>> list(BatchSampler(range(5), batch_size=2, drop_last=False))
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        check_positive(batch_size, "batch_size")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last must be True or False, got {drop_last!r}.")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        places = iter(self.sampler)
        while batch := list(islice(places, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        n = size(self.sampler)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


def check_positive(value: Any, name: str) -> None:
    """Raise a ValueError unless ``value`` is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")
