"""Activations at NumPy's best."""

from __future__ import annotations

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.cpu.layout import BLOCK, flat, in_blocks
from minigrad.backends.reference import activation as reference

#: Numbers up to which the simplest call is the fastest.
FEW = 1 << 14


class Activation(reference.Activation):
    """ReLU of many numbers as the maximum of two arrays; the logistic function block by block."""

    def relu(self, x: Array) -> Array:
        if x.size < FEW or x.dtype.char not in "fd":
            return super().relu(x)
        # NumPy's vectorized loop takes two arrays: 25,000 numbers in 5 us, against a number in 20
        y = np.empty_like(x)
        zeros = np.zeros(min(x.size, BLOCK), x.dtype)
        numbers, out = flat(x, y)
        for start in range(0, x.size, BLOCK):
            part = numbers[start : start + BLOCK]
            np.maximum(part, zeros[: len(part)], out=out[start : start + BLOCK])
        return y

    def sigmoid(self, x: Array) -> Array:
        if x.size < FEW or x.dtype.char not in "fd":
            return super().sigmoid(x)
        y = np.empty_like(x)
        numbers, out = flat(x, y)

        def job(block: slice) -> None:
            part = np.negative(numbers[block], out=out[block])
            np.exp(part, out=part)
            part += 1
            np.divide(1, part, out=part)

        in_blocks(job, numbers)
        return y
