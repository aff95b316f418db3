"""Transforms: functions of a tensor of samples, and of the data set that holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from minigrad.creation import as_tensor
from minigrad.data.dataset import Dataset, TensorDataset, tensors_of
from minigrad.dtypes import float64, get_default_dtype
from minigrad.errors import DtypeError, ShapeError
from minigrad.functions import where
from minigrad.shapes import prod
from minigrad.tensor import Tensor


class Transform:
    """Base class: ``transform(x)`` of a sample or a batch, ``transform.apply(dataset)`` of a set.

    Whole sets are transformed once, before training, and keep the loader's fast path.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """The transformed tensor."""
        raise NotImplementedError(f"{type(self).__name__} needs a method __call__(self, x).")

    def apply(self, dataset: Dataset[Any]) -> TensorDataset:
        """A TensorDataset whose first tensor is transformed; the others (labels) stay."""
        x, *rest = tensors_of(dataset, f"{type(self).__name__}.apply()")
        return TensorDataset(self(x), *rest)


class Compose(Transform):
    """Transforms one after another; any function of a tensor is one.

    Example:
        >>> from minigrad import ones
        >>> to_vector = Compose([Normalize(0.5, 0.5), lambda x: x.flatten(-3)])
        >>> to_vector(ones(10, 1, 8, 8)).shape
        (10, 64)
    """

    def __init__(self, transforms: Iterable[Callable[[Tensor], Tensor]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, x: Tensor) -> Tensor:
        """What the last of the transforms gives."""
        for transform in self.transforms:
            x = transform(x)
        return x

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.transforms))}])"


class Normalize(Transform):
    """y = (x − mean) / std, with figures that are known beforehand.

    Shapes: (..., C, H, W), as a sample or a batch; any shape where mean and std are numbers.

    Args:
        mean, std: one number each, or one a channel.

    Raises:
        ValueError: a std of 0.
        DtypeError: values that are not floating: bytes from 0 to 255 must be scaled first.
        ShapeError: another number of channels.
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = as_channels(mean, "mean"), as_channels(std, "std")
        if (self.std == 0).any():
            raise ValueError(f"Normalize divides by std, which must not be 0, got {std}.")

    def __call__(self, x: Tensor) -> Tensor:
        """(x − mean) / std, in the dtype of ``x``."""
        if not x.is_floating_point():
            raise DtypeError(
                f"Normalize expects floating values, got {x.dtype}; scale them first, as in "
                "x.float() / 255."
            )
        for given in self.mean, self.std:
            if given.ndim and (x.ndim < 3 or x.shape[-3] != len(given)):
                raise ShapeError(
                    f"Normalize with {len(given)} channels expects (..., {len(given)}, H, W), got "
                    f"{x.shape}."
                )
        return (x - self.mean.to(x.device, x.dtype)) / self.std.to(x.device, x.dtype)

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean.squeeze().tolist()}, std={self.std.squeeze().tolist()})"


def as_channels(values: Any, name: str) -> Tensor:
    """One number as a 0-d tensor; one a channel as (C, 1, 1), which broadcasts over (C, H, W)."""
    tensor = as_tensor(values, dtype=float64)
    if tensor.ndim > 1 or not tensor.numel():
        raise ShapeError(
            f"Normalize expects {name} as a number or one a channel, got shape {tensor.shape}."
        )
    return tensor.reshape(()) if tensor.numel() == 1 else tensor.reshape(-1, 1, 1)


class Fitted(Transform):
    """Base class of the transforms that are fitted on the training set, then used for every set.

    Statistics of the test set would tell the model about data it must not know. A subclass sets
    what it fits in ``_fit``, ``expected`` (the shape of a sample) among it.
    """

    per: str = "feature"
    expected: tuple[int, ...]

    def fit(self, train: Tensor | Dataset[Any]) -> Self:
        """Take the statistics of a tensor of samples, or of a data set's first tensor."""
        name = type(self).__name__
        x = train if isinstance(train, Tensor) else tensors_of(train, f"{name}.fit()")[0]
        least = 2 if self.per == "channel" else 1
        if x.ndim < least or not x.numel():
            samples = "(N, C, ...)" if self.per == "channel" else "(N, ...)"
            raise ShapeError(
                f"{self._label()} is fitted on samples {samples}, at least one, got shape "
                f"{x.shape}."
            )
        self._fit(x.detach(), x.dtype if x.is_floating_point() else get_default_dtype())
        return self

    def _fit(self, x: Tensor, dtype: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} needs a method _fit(self, x, dtype).")

    def inverse(self, y: Tensor) -> Tensor:
        """The x that gives ``y``."""
        raise NotImplementedError(f"{type(self).__name__} has no inverse.")

    def _label(self) -> str:
        return f"{type(self).__name__}(per={self.per!r})"

    def _axes(self, x: Tensor) -> tuple[int, ...]:
        """The axes of (N, ...) that the statistics are over."""
        return tuple(i for i in range(x.ndim) if i == 0 or (self.per == "channel" and i != 1))

    def _check(self, x: Tensor, what: str = "mean") -> None:
        """Raise unless fitted, and ``x`` is a sample such as those, or a batch of them."""
        if not hasattr(self, "expected"):
            raise RuntimeError(
                f"{type(self).__name__} knows no {what} yet; call .fit(train) first."
            )
        fitted = self.expected
        sample = x.shape if x.ndim == len(fitted) else x.shape[1:]
        compared = 1 if self.per == "channel" else len(fitted)
        if len(sample) != len(fitted) or sample[:compared] != fitted[:compared]:
            raise ShapeError(
                f"{self._label()} with a {what} of shape {fitted} expects such a sample, or a "
                f"batch of them, got {x.shape}."
            )


def check_per(per: str) -> None:
    """Raise for an unknown ``per``."""
    if per not in ("feature", "channel"):
        raise ValueError(f'per must be "feature" or "channel", got {per!r}.')


def parts(x: Tensor) -> tuple[Tensor, ...]:
    """The samples in pieces: a copy of the whole set in float64 would be large."""
    return x.split(1024)


class Standardize(Fitted):
    """y = (x − mean) / std, with the mean and deviation of the training set.

    Features on one scale make the error surface round: a linear model's Hessian is XᵀX / N, whose
    largest eigenvalue limits the learning rate and whose smallest decides how long it takes.

    Shapes: what was fitted on (N, ...) takes batches (N, ...) and single samples (...).

    Args:
        per: ``"feature"``, for every number in a sample by itself; ``"channel"``, for axis 1 of
            (N, C, ...), over all samples and places.
        eps: what a deviation must exceed to be divided by. Features with less are taken for
            constant and only have their mean subtracted: a division would blow up what the test
            set has there. Pixels call for a larger one: in 8,000 images of MNIST some pixel is
            inked but once, and the largest value in 2,000 others becomes 1,722 with this default,
            19 with 0.05.

    ``mean`` and ``std`` are tensors after ``fit``; std divides by N, and is 1 for what is constant.

    Source: LeCun, Bottou, Orr, Müller (1998), "Efficient BackProp", section 4.3.

    Example:
        >>> from minigrad import tensor
        >>> standardize = Standardize().fit(tensor([[1.0, 5.0], [3.0, 5.0]]))
        >>> standardize(tensor([[5.0, 6.0]]))
        tensor([[3., 1.]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, per: str = "feature", eps: float = 1e-8) -> None:
        check_per(per)
        if not eps >= 0:
            raise ValueError(f"eps must be at least 0, got {eps}.")
        self.per, self.eps = per, eps

    def _fit(self, x: Tensor, dtype: Any) -> None:
        axes = self._axes(x)  # in float64, where constants have a deviation of 0 or nearly so
        n = prod(x.shape[i] for i in axes)
        mean: Any = sum(part.double().sum(axes, keepdim=True) for part in parts(x)) / n
        squares = (((part.double() - mean) ** 2).sum(axes, keepdim=True) for part in parts(x))
        var: Any = sum(squares) / n
        std = var.sqrt()
        self.mean = mean[0].to(dtype)
        self.std = where(std > self.eps, std, 1.0)[0].to(dtype)
        self.expected = self.mean.shape

    def __call__(self, x: Tensor) -> Tensor:
        """(x − mean) / std."""
        self._check(x)
        return (x - self.mean.to(x.device)) / self.std.to(x.device)

    def inverse(self, y: Tensor) -> Tensor:
        """y · std + mean."""
        self._check(y)
        return y * self.std.to(y.device) + self.mean.to(y.device)

    def __repr__(self) -> str:
        return f"Standardize(per={self.per!r}, eps={self.eps})"


class MinMax(Fitted):
    """y = low + (high − low) (x − min) / (max − min): the training set's range becomes [low, high].

    One far value squeezes all others together, where ``Standardize`` is moved by it less. Values of
    other sets can lie outside of the range.

    Shapes: what was fitted on (N, ...) takes batches (N, ...) and single samples (...).

    Args:
        per: ``"feature"``, for every number in a sample by itself; ``"channel"``, for axis 1 of
            (N, C, ...), over all samples and places.
        low, high: the range.
        clip: cut off what lies outside.

    ``min`` and ``max`` are tensors after ``fit``. What is constant in the training set becomes
    ``low``, and keeps its own scale beside it (its range is taken as 1).

    Example:
        >>> from minigrad import tensor
        >>> scale = MinMax().fit(tensor([[1.0, 5.0], [3.0, 5.0]]))
        >>> scale(tensor([[2.0, 5.0], [4.0, 6.0]]))
        tensor([[0.5000, 0.0000],
                [1.5000, 1.0000]])
    """

    min: Tensor
    max: Tensor

    def __init__(
        self, per: str = "feature", low: float = 0.0, high: float = 1.0, *, clip: bool = False
    ) -> None:
        check_per(per)
        if not low < high:
            raise ValueError(f"MinMax needs low < high, got {low} and {high}.")
        self.per, self.low, self.high, self.clip = per, low, high, clip

    def _fit(self, x: Tensor, dtype: Any) -> None:
        axes = self._axes(x)
        self.min = x.amin(axes, keepdim=True)[0].to(dtype)
        self.max = x.amax(axes, keepdim=True)[0].to(dtype)
        self.expected = self.min.shape

    def _range(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self._check(x, "min")
        low, high = self.min.to(x.device), self.max.to(x.device)
        return low, where(high > low, high - low, 1.0)

    def __call__(self, x: Tensor) -> Tensor:
        """low + (high − low) (x − min) / (max − min)."""
        least, span = self._range(x)
        y = (x - least) / span * (self.high - self.low) + self.low
        return y.clamp(self.low, self.high) if self.clip else y

    def inverse(self, y: Tensor) -> Tensor:
        """The x of the training set's scale; of what was clipped, the end of the range."""
        least, span = self._range(y)
        return (y - self.low) / (self.high - self.low) * span + least

    def __repr__(self) -> str:
        clip = ", clip=True" if self.clip else ""
        return f"MinMax(per={self.per!r}, low={self.low}, high={self.high}{clip})"
