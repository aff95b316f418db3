"""The public names that PyTorch has too, and which of them the parity tests mention."""

import ast
import re
from functools import cache
from pathlib import Path

import minigrad
from minigrad import functions, nn, optim

TESTS = Path(__file__).parent


@cache
def shared_names() -> frozenset[str]:
    """Functions, modules, losses, optimizers and schedulers that PyTorch has by the same name."""
    functions_ = {n for n, f in vars(functions).items() if callable(f) and not isinstance(f, type)}
    own = functions_ & set(minigrad.__all__)
    own |= set(nn.__all__) | set(nn.functional.__all__) | set(optim.__all__)
    for module in ("lr_scheduler", "swa_utils"):
        part = getattr(optim, module, None)
        own |= set(getattr(part, "__all__", ()))
    utils = getattr(nn, "utils", None)
    own |= set(getattr(utils, "__all__", ()))
    own |= {n for n in vars(nn.init) if n.endswith("_") and not n.startswith("_")}
    return frozenset(own)


@cache
def mentioned_names() -> frozenset[str]:
    """Every identifier and every word of a string in the test files that compare with PyTorch."""
    words: set[str] = set()
    for path in TESTS.glob("test_*.py"):
        text = path.read_text()
        if "parity" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Name):
                words.add(node.id)
            elif isinstance(node, ast.Attribute):
                words.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words |= set(re.findall(r"\w+", node.value))
    return frozenset(words)


@cache
def covered_names() -> frozenset[str]:
    """The shared names that some parity test mentions."""
    return shared_names() & mentioned_names()
