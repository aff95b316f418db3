"""The operators and methods of Tensor, a line or a few each: which op, with which arguments.

Names, arguments and defaults are PyTorch's; NumPy's ``axis`` and ``keepdims`` are accepted beside
``dim`` and ``keepdim``, because the formulas in ``ops/`` run on Tensors too. One file a family.
"""

from __future__ import annotations

from minigrad.methods.arithmetic import Arithmetic
from minigrad.methods.base import Base, Dim, ValuesIndices
from minigrad.methods.conversions import Conversions
from minigrad.methods.elementwise import Elementwise
from minigrad.methods.indexing import Indexing
from minigrad.methods.inplace import InPlace
from minigrad.methods.order import Order
from minigrad.methods.pieces import Pieces
from minigrad.methods.products import Products
from minigrad.methods.reductions import Reductions
from minigrad.methods.shape import Shapes

__all__ = ["Base", "Dim", "Methods", "ValuesIndices"]


class Methods(
    Arithmetic,
    Elementwise,
    Reductions,
    Shapes,
    Pieces,
    Indexing,
    Order,
    Products,
    Conversions,
    InPlace,
):
    """Base class of Tensor: everything that is one op, or a few."""

    __slots__ = ()
