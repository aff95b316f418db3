"""minigrad: a small tensor and autograd engine to learn from, to train with, and to look into."""

from minigrad import autograd, nn, ops
from minigrad.autograd import *  # noqa: F403
from minigrad.creation import *  # noqa: F403
from minigrad.dtypes import *  # noqa: F403
from minigrad.functions import *  # noqa: F403
from minigrad.generator import *  # noqa: F403
from minigrad.tensor import Tensor
