"""Every named kernel, once, in plain array code, written to be read.

A backend inherits them and overrides what is slow; the tests hold each override against this file.
Names: ``x, y`` input and output, ``grad`` = dL/dy, shapes ``N C H W``, kernel ``kh kw``, output
``oh ow``. Statistics of float16 are computed in float32.
"""

from minigrad.backends.reference.activation import Activation
from minigrad.backends.reference.clipping import Clipping
from minigrad.backends.reference.convolution import Convolution
from minigrad.backends.reference.linear import Linear
from minigrad.backends.reference.normalization import Normalization, Running
from minigrad.backends.reference.pooling import Pooling
from minigrad.backends.reference.random import Random
from minigrad.backends.reference.softmax import Softmax
from minigrad.backends.reference.updates import Updates
from minigrad.backends.reference.windows import Pads, Pair

__all__ = ["Pads", "Pair", "Reference", "Running"]


class Reference(
    Linear, Convolution, Pooling, Normalization, Activation, Softmax, Random, Updates, Clipping
):
    """Kernels over the functions of ``Namespace``: the oracle for faster ones."""
