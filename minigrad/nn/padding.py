"""Padding layers: a border around the last one, two or three axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from minigrad.errors import ShapeError
from minigrad.nn import functional as F
from minigrad.nn.module import Module
from minigrad.tensor import Tensor

Border = int | Sequence[int]


class _Pad(Module):
    """A border of ``padding``: one int for every side, or (left, right, top, bottom, ...)."""

    axes: ClassVar[int] = 1
    mode: ClassVar[str] = "constant"
    value: float | None = None

    def __init__(self, padding: Border) -> None:
        super().__init__()
        sides = 2 * self.axes
        self.padding = (padding,) * sides if isinstance(padding, int) else tuple(padding)

    def forward(self, input: Tensor) -> Tensor:
        """The input with its border."""
        if self.mode == "circular" and input.ndim not in (self.axes + 1, self.axes + 2):
            raise ShapeError(
                f"{type(self).__name__} expects {self.axes + 1} or {self.axes + 2} axes, got "
                f"{input.shape}; add one with unsqueeze."
            )
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        """Its border."""
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: Border, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        """Its border and the value there."""
        return f"padding={self.padding}, value={self.value}"


class _ZeroPad(_Pad):
    value = 0.0


class ConstantPad1d(_ConstantPad):
    """A border of ``value``, around sequences (N, C, L) or (C, L).

    Padding (left, right); an int for all sides. Negative numbers crop.
    """


class ConstantPad2d(_ConstantPad):
    """A border of ``value``, around images (N, C, H, W) or (C, H, W).

    Padding (left, right, top, bottom); an int for all sides. Negative numbers crop.
    """

    axes = 2


class ConstantPad3d(_ConstantPad):
    """A border of ``value``, around volumes (N, C, D, H, W) or (C, D, H, W).

    Padding from the last axis on; an int for all sides. Negative numbers crop.
    """

    axes = 3


class ZeroPad1d(_ZeroPad):
    """A border of zeros, around sequences (N, C, L) or (C, L).

    Padding (left, right); an int for all sides. Negative numbers crop.
    """


class ZeroPad2d(_ZeroPad):
    """A border of zeros, around images (N, C, H, W) or (C, H, W).

    Padding (left, right, top, bottom); an int for all sides. Negative numbers crop.
    """

    axes = 2


class ZeroPad3d(_ZeroPad):
    """A border of zeros, around volumes (N, C, D, H, W) or (C, D, H, W).

    Padding from the last axis on; an int for all sides. Negative numbers crop.
    """

    axes = 3


class ReflectionPad1d(_Pad):
    """A mirrored border, its edge not repeated, around sequences (N, C, L) or (C, L).

    Padding (left, right); an int for all sides. Negative numbers crop.
    """

    mode = "reflect"


class ReflectionPad2d(_Pad):
    """A mirrored border, its edge not repeated, around images (N, C, H, W) or (C, H, W).

    Padding (left, right, top, bottom); an int for all sides. Negative numbers crop.
    """

    axes = 2
    mode = "reflect"


class ReflectionPad3d(_Pad):
    """A mirrored border, its edge not repeated, around volumes (N, C, D, H, W) or (C, D, H, W).

    Padding from the last axis on; an int for all sides. Negative numbers crop.
    """

    axes = 3
    mode = "reflect"


class ReplicationPad1d(_Pad):
    """A border that repeats the edge, around sequences (N, C, L) or (C, L).

    Padding (left, right); an int for all sides. Negative numbers crop.
    """

    mode = "replicate"


class ReplicationPad2d(_Pad):
    """A border that repeats the edge, around images (N, C, H, W) or (C, H, W).

    Padding (left, right, top, bottom); an int for all sides. Negative numbers crop.
    """

    axes = 2
    mode = "replicate"


class ReplicationPad3d(_Pad):
    """A border that repeats the edge, around volumes (N, C, D, H, W) or (C, D, H, W).

    Padding from the last axis on; an int for all sides. Negative numbers crop.
    """

    axes = 3
    mode = "replicate"


class CircularPad1d(_Pad):
    """A border that shows the other side, around sequences (N, C, L) or (C, L).

    Padding (left, right); an int for all sides. Negative numbers crop.
    """

    mode = "circular"


class CircularPad2d(_Pad):
    """A border that shows the other side, around images (N, C, H, W) or (C, H, W).

    Padding (left, right, top, bottom); an int for all sides. Negative numbers crop.
    """

    axes = 2
    mode = "circular"


class CircularPad3d(_Pad):
    """A border that shows the other side, around volumes (N, C, D, H, W) or (C, D, H, W).

    Padding from the last axis on; an int for all sides. Negative numbers crop.
    """

    axes = 3
    mode = "circular"
