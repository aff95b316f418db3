"""Modules as PyTorch prints them."""

from __future__ import annotations

import re
from typing import Any


def as_in_pytorch(module: Any) -> str:
    """``repr`` less what BatchNorm adds to PyTorch's: its update in words, as a comment."""
    return re.sub(r"  # running\b.*", "", repr(module))
