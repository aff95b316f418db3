"""Pooling by kernels/pool.cu."""

from __future__ import annotations

from minigrad.backends.base import Array
from minigrad.backends.cuda.base import Launching
from minigrad.backends.cuda.launch import elements
from minigrad.backends.reference import pooling as reference
from minigrad.backends.reference.windows import Pads, Pair
from minigrad.shapes import prod


class Pooling(Launching, reference.Pooling):
    """A thread for each window, and for each place of a gradient."""

    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair, size: Pair
    ) -> tuple[Array, Array]:
        shape = (*x.shape[:-2], *size)
        if not self.takes(x) or not prod(shape):
            return super().max_pool2d(x, kernel, stride, padding, dilation, size)
        x, cell = self.plain(x), self._cell_type(kernel)
        y, winner = self.empty(shape, dtype=x.dtype), self.empty(shape, dtype=cell)
        name = "pool.max_pool2d" if cell == "uint8" else "pool.max_pool2d_large"
        numbers = window(x.shape[-2:], size, kernel, stride, padding)
        self.launch(
            name,
            elements(y.size),
            x.dtype.char,
            x=x,
            y=y,
            winner=winner,
            n=y.size,
            dh=dilation[0],
            dw=dilation[1],
            **numbers,
        )
        return y, winner

    def max_pool2d_backward(
        self,
        grad: Array,
        winner: Array,
        kernel: Pair,
        stride: Pair,
        padding: Pads,
        dilation: Pair,
        shape: tuple[int, ...],
    ) -> Array:
        if not self.takes(grad) or not prod(shape):
            return super().max_pool2d_backward(
                grad, winner, kernel, stride, padding, dilation, shape
            )
        dx = self.empty(tuple(shape), dtype=grad.dtype)
        name = "pool.max_pool2d" if winner.dtype == "uint8" else "pool.max_pool2d_large"
        numbers = window(shape[-2:], grad.shape[-2:], kernel, stride, padding)
        self.launch(
            f"{name}_backward",
            elements(dx.size),
            dx.dtype.char,
            grad=self.plain(grad),
            winner=self.plain(winner),
            dx=dx,
            n=dx.size,
            dh=dilation[0],
            dw=dilation[1],
            **numbers,
        )
        return dx

    def avg_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pads, size: Pair, share: Array
    ) -> Array:
        shape = (*x.shape[:-2], *size)
        if not self.takes(x) or not prod(shape):
            return super().avg_pool2d(x, kernel, stride, padding, size, share)
        x, y = self.plain(x), self.empty(shape, dtype=x.dtype)
        self.launch(
            "pool.avg_pool2d",
            elements(y.size),
            x.dtype.char,
            x=x,
            share=self._shares(share, size, x),
            y=y,
            n=y.size,
            **window(x.shape[-2:], size, kernel, stride, padding),
        )
        return y

    def avg_pool2d_backward(
        self,
        grad: Array,
        kernel: Pair,
        stride: Pair,
        padding: Pads,
        share: Array,
        shape: tuple[int, ...],
    ) -> Array:
        if not self.takes(grad) or not prod(shape):
            return super().avg_pool2d_backward(grad, kernel, stride, padding, share, shape)
        dx, size = self.empty(tuple(shape), dtype=grad.dtype), grad.shape[-2:]
        self.launch(
            "pool.avg_pool2d_backward",
            elements(dx.size),
            dx.dtype.char,
            grad=self.plain(grad),
            share=self._shares(share, size, grad),
            dx=dx,
            n=dx.size,
            **window(shape[-2:], size, kernel, stride, padding),
        )
        return dx

    def _shares(self, share: Array, size: Pair, x: Array) -> Array:
        """``share`` as (oh, ow), in the dtype of x."""
        return self.plain(self.broadcast_to(share, tuple(size)), x.dtype)


def window(
    image: tuple[int, ...], size: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pads
) -> dict[str, int]:
    """The numbers of a window, by the kernels' names."""
    (H, W), (oh, ow), (kh, kw), (sh, sw) = image, size, kernel, stride
    top, left = padding[0][0], padding[1][0]
    values = (H, W, oh, ow, kh, kw, sh, sw, top, left)
    return dict(
        zip(("H", "W", "oh", "ow", "kh", "kw", "sh", "sw", "top", "left"), values, strict=True)
    )
