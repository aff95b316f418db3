"""jacobian: what every output owes to every input, as a matrix and as a heat map."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from os import PathLike
from typing import Any

import numpy as np

from minigrad.creation import zeros_like
from minigrad.errors import ShapeError
from minigrad.gradients import grad as gradients_of
from minigrad.nn.module import Module
from minigrad.tensor import Tensor
from minigrad.unchanged import host, unchanged
from minigrad.viz.charts import Chart
from minigrad.viz.tables import number

#: The most outputs: each costs a backward pass.
MOST = 4096
ORDERS = ("channel", "sample")


def jacobian(module: Module | Callable[[Tensor], Tensor], x: Tensor) -> Jacobian:
    """The Jacobian J[i, j] = ∂y_i/∂x_j of a module, or of any function of one tensor, at x.

    BatchNorm in train mode has a dense block for each channel: every sample of the batch takes part
    in μ and σ², so each output depends on each of the channel's inputs. In eval mode, where they
    are constants, J is diagonal. One backward pass an output. Nothing of the module changes; a
    random layer draws once, and the generator is put back.

    Shapes: x (N, C, ...), y of any shape; ``array`` is (*y.shape, *x.shape).
    Raises:
        ShapeError: y has more than 4,096 elements.

    Example:
        >>> from minigrad import nn, tensor
        >>> x = tensor([[0.0], [1.0], [5.0]])
        >>> jacobian(nn.BatchNorm1d(1), x).matrix().round(2)
        array([[ 0.18, -0.22,  0.04],
               [-0.22,  0.28, -0.06],
               [ 0.04, -0.06,  0.01]], dtype=float32)
        >>> jacobian(nn.BatchNorm1d(1).eval(), x).matrix().round(2)
        array([[1., 0., 0.],
               [0., 1., 0.],
               [0., 0., 1.]], dtype=float32)
    """
    still: Any = unchanged(module) if isinstance(module, Module) else nullcontext()
    with still:
        source = x.detach().clone().requires_grad_()
        y = module(source)
        if y.numel() > MOST:
            raise ShapeError(
                f"jacobian() runs one backward pass an output, at most {MOST}; got an output of "
                f"shape {y.shape}. Pass fewer samples or channels."
            )
        array = np.zeros((y.numel(), x.numel()), dtype=x.dtype)
        for i in range(y.numel()):
            seed = zeros_like(y.detach())
            seed.array.reshape(-1)[i] = 1
            (row,) = gradients_of(y, source, seed, retain_graph=True, materialize_grads=True)
            array[i] = host(row).reshape(-1)
    name = type(module).__name__ if isinstance(module, Module) else "function"
    mode = f", {'train' if module.training else 'eval'} mode" if isinstance(module, Module) else ""
    return Jacobian(array, x.shape, y.shape, f"{name}{mode}")


class Jacobian:
    """What ``jacobian`` found: ``array`` (*y.shape, *x.shape); ``matrix()``; ``plot()``."""

    def __init__(self, matrix: Any, x: tuple[int, ...], y: tuple[int, ...], title: str) -> None:
        self.array = matrix.reshape(*y, *x)
        self.x_shape, self.y_shape, self.title = x, y, title

    def matrix(self, order: str = "sample") -> Any:
        """One row an output, one column an input.

        Args:
            order: ``"sample"``: as the tensors lie in memory, sample by sample; ``"channel"``: one
                channel after another (axis 1), its samples together: what shares a BatchNorm's
                statistics makes a block.
        """
        if order not in ORDERS:
            raise ValueError(f"order= must be one of {', '.join(ORDERS)}; got {order!r}.")
        rows, columns = self._places(self.y_shape, order), self._places(self.x_shape, order)
        return self.array.reshape(len(rows), len(columns))[rows][:, columns]

    def _places(self, shape: tuple[int, ...], order: str) -> Any:
        places = np.arange(int(np.prod(shape))).reshape(shape)
        return (places.swapaxes(0, 1) if order == "channel" and len(shape) > 1 else places).ravel()

    @property
    def density(self) -> float:
        """The share of entries that are not 0."""
        return float(np.count_nonzero(self.array) / max(self.array.size, 1))

    def plot(
        self,
        path: str | PathLike[str] | None = None,
        *,
        order: str = "channel",
        theme: str = "light",
    ) -> Any:
        """The matrix as a heat map: outputs downwards, inputs to the right, lines between blocks.

        Args:
            path: where to write it (.png, .svg, .pdf); not at all by default.
            order: see ``matrix``.
            theme: ``"light"`` or ``"dark"``.
        Returns:
            The matplotlib figure.
        """
        matrix = self.matrix(order)
        chart = Chart(6.0, 5.2, theme)
        axes = chart.axes[0]
        axes.grid(visible=False)
        limit = float(np.abs(matrix).max(initial=0)) or 1.0
        image = axes.imshow(matrix, cmap=chart.diverging(), vmin=-limit, vmax=limit)
        for shape, line in ((self.y_shape, axes.axhline), (self.x_shape, axes.axvline)):
            blocks = shape[1 if order == "channel" else 0] if len(shape) > 1 else 1
            for i in range(1, min(blocks, 65)):
                line(i * np.prod(shape) / blocks - 0.5, color=chart.theme.muted, linewidth=0.5)
        within = "by channel, then sample" if order == "channel" else "by sample"
        chart.label(axes, "", f"input x, {within}", f"output y, {within}")
        bar = chart.figure.colorbar(image, ax=axes, shrink=0.8)
        bar.ax.tick_params(colors=chart.theme.muted, labelsize=8)
        bar.outline.set_visible(False)
        chart.title(f"∂y/∂x of {self.title}: {self.density:.0%} not 0")
        return chart.save(path)

    def __repr__(self) -> str:
        low, high = number(self.array.min(initial=0)), number(self.array.max(initial=0))
        return (
            f"<Jacobian of {self.title}: {self.y_shape} by {self.x_shape}, from {low} to {high}, "
            f"{self.density:.0%} not 0>"
        )
