"""What can go wrong, by name. Every class subclasses the built-in a caller expects.

A message says what was expected, what came, and what to do. An exception that leaves a module
gains the module's path, such as ``[model.features.1]`` (see ``nn.Module.__call__``).
"""

from __future__ import annotations


class ShapeError(ValueError, RuntimeError):
    """Shapes do not fit. PyTorch raises RuntimeError here, NumPy ValueError: it is both."""


class DtypeError(TypeError, RuntimeError):
    """An operation was given a dtype it is not defined for."""


class RangeError(ValueError, IndexError, RuntimeError):
    """An argument is outside its range. PyTorch raises any of the three: it is all of them."""


class DivisionByZeroError(ZeroDivisionError, RuntimeError):
    """An integer divided by 0. PyTorch raises RuntimeError here, Python ZeroDivisionError."""


class DeviceError(RuntimeError):
    """Arrays on different devices, or a device that is not there."""


class GraphError(RuntimeError):
    """The graph cannot be differentiated as asked: freed, changed in place, or never recorded."""


class CheckpointError(RuntimeError):
    """A file or a state dict does not fit the model or is damaged."""
