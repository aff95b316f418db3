"""Pooling: one number for each window of an image."""

from __future__ import annotations

from typing import Any

from minigrad.ops.op import Fused

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


def _slices(size: Pair, stride: Pair, dilation: Pair, i: int, j: int) -> tuple[Any, ...]:
    rows = slice(i * dilation[0], i * dilation[0] + stride[0] * (size[0] - 1) + 1, stride[0])
    columns = slice(j * dilation[1], j * dilation[1] + stride[1] * (size[1] - 1) + 1, stride[1])
    return (..., rows, columns)


class MaxPool2d(Fused):
    """The largest value of each window; the first of equal ones gets the gradient.

    Shapes: x (..., H, W), y (..., oh, ow). ``winner`` holds the number of each window's best cell.
    """

    formula, vjp = "y = max of each window", "dx = dy at the winner, 0 elsewhere"
    residuals = ("winner",)

    def __init__(
        self, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair, size: Pair
    ) -> None:
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.dilation, self.size = dilation, size

    def forward(self, xp: Any, x: Any) -> Any:
        self.x_shape = x.shape
        y, self.winner = xp.max_pool2d(
            x, self.kernel, self.stride, self.padding, self.dilation, self.size
        )
        return y

    def backward(self, xp: Any, grad: Any, x: Any) -> Any:
        options = self.kernel, self.stride, self.padding, self.dilation
        return (xp.max_pool2d_backward(grad, self.winner, *options, self.x_shape),)

    def composed(self, xp: Any, x: Any) -> Any:
        *rest, _, _ = x.shape
        widths = ((0, 0),) * len(rest) + tuple(self.padding)
        if any(map(any, self.padding)):
            x = xp.pad(x, widths, constant_values=-float("inf"))
        seen = xp.stack(
            [
                x[_slices(self.size, self.stride, self.dilation, i, j)]
                for i in range(self.kernel[0])
                for j in range(self.kernel[1])
            ]
        )
        winner = xp.argmax(seen, axis=0)  # the first of equal ones, as the kernel has it
        return xp.take_along_axis(seen, winner[None], 0)[0]


class AvgPool2d(Fused):
    """The mean of each window.

    Shapes: x (..., H, W), y (..., oh, ow). ``share`` (oh, ow): 1 / the cells that count.
    """

    formula, vjp = "y = mean of each window", "dx = dy / cells, over its window"

    def __init__(self, kernel: Pair, stride: Pair, padding: Pads, size: Pair, share: Any) -> None:
        self.kernel, self.stride, self.padding, self.size = kernel, stride, padding, size
        self.share = share

    def attributes(self) -> dict[str, Any]:
        return {"kernel": self.kernel, "stride": self.stride, "padding": self.padding}

    def forward(self, xp: Any, x: Any) -> Any:
        self.x_shape = x.shape
        share = self.share.astype(x.dtype, copy=False)
        return xp.avg_pool2d(x, self.kernel, self.stride, self.padding, self.size, share)

    def backward(self, xp: Any, grad: Any) -> Any:
        share = self.share.astype(grad.dtype, copy=False)
        return (
            xp.avg_pool2d_backward(
                grad, self.kernel, self.stride, self.padding, share, self.x_shape
            ),
        )

    def composed(self, xp: Any, x: Any) -> Any:
        *rest, _, _ = x.shape
        if any(map(any, self.padding)):
            x = xp.pad(x, ((0, 0),) * len(rest) + tuple(self.padding))
        y: Any = None
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                seen = x[_slices(self.size, self.stride, (1, 1), i, j)]
                y = seen if y is None else y + seen
        return y * self.share.astype(x.dtype, copy=False)
