"""``device``: where a tensor lives, by name."""

from __future__ import annotations

from typing import Any


class device(str):  # noqa: N801 - PyTorch's name
    """The name of a device, such as ``"cpu"`` or ``"cuda:1"``, with its parts.

    ``type`` is ``"cpu"`` or ``"cuda"``, ``index`` the number of the GPU, None where none is named
    (the current one is meant).

    Args:
        type: a name, or with ``index`` the kind of device; a number alone is that of a GPU.

    Example:
        >>> device("cuda", 1) == device("cuda:1")
        True
        >>> device("cuda:1").index
        1

    Differs: it is a string, and equal to one; PyTorch's is a type of its own.
    """

    __slots__ = ()

    def __new__(cls, type: Any, index: int | None = None) -> device:
        """See the class."""
        if isinstance(type, int):
            type, index = "cuda", type
        return super().__new__(cls, type if index is None else f"{type}:{index}")

    @property
    def type(self) -> str:
        """``"cpu"`` or ``"cuda"``."""
        return self.partition(":")[0]

    @property
    def index(self) -> int | None:  # type: ignore[override]
        """The number of the GPU, or None."""
        number = self.partition(":")[2]
        return int(number) if number else None

    def __repr__(self) -> str:
        place = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{place})"
