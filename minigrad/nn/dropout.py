"""Dropout layers: in train mode, parts of the input are left out at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from minigrad.nn import functional as F
from minigrad.nn.functional.dropout import check_probability
from minigrad.nn.module import Module
from minigrad.tensor import Tensor


class Dropout(Module):
    """In train mode each element becomes 0 with probability p, else x / (1 - p); eval mode passes
    x.

    Source: Srivastava et al. (2014), JMLR 15, 1929-1958.
    """

    function: ClassVar[Callable[..., Tensor]] = staticmethod(F.dropout)

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        check_probability(type(self).__name__, p)
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        """The input with parts left out."""
        return type(self).function(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        """Its probability."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout1d(Dropout):
    """Dropout of whole channels of (N, C, L) or (C, L)."""

    function = staticmethod(F.dropout1d)


class Dropout2d(Dropout):
    """Dropout of whole channels of (N, C, H, W). Source: Tompson et al. (2015), arXiv:1411.4280."""

    function = staticmethod(F.dropout2d)


class Dropout3d(Dropout):
    """Dropout of whole channels of (N, C, D, H, W) or (C, D, H, W)."""

    function = staticmethod(F.dropout3d)


class AlphaDropout(Dropout):
    """Dropout that keeps mean 0 and variance 1, for SELU. Source: arXiv:1706.02515."""

    function = staticmethod(F.alpha_dropout)
