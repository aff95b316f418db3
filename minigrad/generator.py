"""Random numbers: a seeded generator, the same on every device (drawn on the host, then moved)."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from functools import cached_property
from typing import Any

import numpy as np

from minigrad.backends import capture, for_device


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


class DeviceGenerator:
    """What dropout on a GPU draws from: (seed, number of the next call), in the memory of each.

    There it is read and counted without the host, which never waits for it, and a captured step
    draws new numbers whenever it is run. Everything else that is random is drawn on the host.
    """

    def __init__(self) -> None:
        self._seeds: dict[str, int] = {}
        self.states: dict[str, Any] = {}  #: (seed, number of the next call) by device
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))

    def manual_seed(self, seed: int, device: str | None = None) -> None:
        """Start the stream that belongs to ``seed``, on one device or all."""
        if device is None:
            self._seed, self._seeds = int(seed), {}
        else:
            self._seeds[device] = int(seed)
        for name in self.states if device is None else {device} & self.states.keys():
            self.set_state(name, self.initial_seed(name), 0)

    def initial_seed(self, device: str) -> int:
        """The seed that the stream of a device was started with."""
        return self._seeds.get(device, self._seed)

    def state(self, device: str) -> Any:
        """The array (seed, number of the next call) on a device; always the same one."""
        if device not in self.states:
            start = np.array([self.initial_seed(device) % 2**64, 0], dtype=np.uint64)
            self.states[device] = for_device(device)[0].from_host(start, device)
        return self.states[device]

    def get_state(self, device: str) -> tuple[int, int]:
        """(seed, number of the next call); waits for the device."""
        seed, call = for_device(device)[0].to_host(self.state(device)).tolist()
        return seed, call

    def set_state(self, device: str, seed: int, call: int) -> None:
        """Go on from a place that ``get_state`` returned, in the same memory."""
        state = self.state(device)
        state[0:1], state[1:2] = seed % 2**64, call


#: Called before each draw, where it is set: a loader's thread waits its turn (data/prefetch.py).
before_drawing: ContextVar[Callable[[], None] | None] = ContextVar("before_drawing", default=None)

default_generator = Generator()
device_generator = DeviceGenerator()


def manual_seed(seed: int) -> Generator:
    """Seed the generator that everything random uses unless it is given one; and, as in PyTorch,
    those of the GPUs.
    """
    device_generator.manual_seed(seed)
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
    wait = before_drawing.get()
    if wait is not None:
        wait()
    owner = generator or default_generator
    if capture.active is not None:
        return capture.Draws(owner)  # type: ignore[return-value]
    return owner.rng
