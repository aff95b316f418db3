"""Random numbers: a seeded generator, the same on every device (drawn on the host, then moved)."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

import numpy as np

from minigrad.backends import capture


class Generator:
    """A stream of random numbers with a seed and a state.

    Differs: the algorithm is NumPy's PCG64 (O'Neill 2014), not PyTorch's Mersenne Twister, so equal
    seeds give other numbers than in PyTorch, of the same distributions.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.seed()

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream that belongs to ``seed``."""
        self._seed = int(seed)
        vars(self).pop("rng", None)
        return self

    @cached_property
    def rng(self) -> np.random.Generator:
        """NumPy's generator, made for the first number: numpy.random takes 20 ms to import."""
        # SeedSequence takes non-negative integers; negative seeds wrap as in PyTorch
        return np.random.Generator(np.random.PCG64(self._seed % 2**64))

    def seed(self) -> int:
        """Start a stream that nobody can foresee; returns its seed."""
        return self.manual_seed(int.from_bytes(os.urandom(8), "little")).initial_seed()

    def initial_seed(self) -> int:
        """The seed this stream was started with."""
        return self._seed

    def get_state(self) -> dict[str, Any]:
        """The place in the stream, as plain data."""
        return {"seed": self._seed, "state": self.rng.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> Generator:
        """Go on from a place that ``get_state`` returned."""
        self.manual_seed(state["seed"])
        self.rng.bit_generator.state = state["state"]
        return self


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the generator that everything random uses unless it is given one."""
    return default_generator.manual_seed(seed)


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> dict[str, Any]:
    """The state of the default generator."""
    return default_generator.get_state()


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore the state of the default generator."""
    default_generator.set_state(state)


def rng_of(generator: Generator | None) -> np.random.Generator:
    """NumPy's generator behind ``generator``, or behind the default one."""
    owner = generator or default_generator
    if capture.active is not None:
        return capture.Draws(owner)  # type: ignore[return-value]
    return owner.rng
