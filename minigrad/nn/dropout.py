"""Dropout layers: in train mode, parts of the input are left out at random."""

from __future__ import annotations

from minigrad.nn import functional as F
from minigrad.nn.module import Module
from minigrad.tensor import Tensor


class Dropout(Module):
    """In train mode each element becomes 0 with probability p, else x / (1 - p); eval mode passes
    x.

    Source: Srivastava et al. (2014), JMLR 15, 1929-1958.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__} needs a probability between 0 and 1, got {p}.")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        """The input with parts left out."""
        return F.dropout(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        """Its probability."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout2d(Dropout):
    """Dropout of whole channels of (N, C, H, W). Source: Tompson et al. (2015), arXiv:1411.4280."""

    def forward(self, input: Tensor) -> Tensor:
        """The input with channels left out."""
        return F.dropout2d(input, self.p, self.training, self.inplace)
