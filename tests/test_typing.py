"""Types: user code passes mypy's strict mode, and every public name is there for an IDE."""

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import minigrad

EXAMPLE = Path(__file__).parent / "typing" / "user_code.py"


def test_user_code_is_accepted_by_mypy():
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(EXAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=EXAMPLE.parents[2])
    assert done.returncode == 0, done.stdout + done.stderr


def test_user_code_runs(capsys):
    minigrad.manual_seed(0)
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "(2, 64)" in capsys.readouterr().out


def test_names_are_static():
    """No ``__getattr__`` on a module, and every name of ``__all__`` is really there."""
    for module in (minigrad, minigrad.nn, minigrad.nn.functional, minigrad.optim, minigrad.data):
        tree = ast.parse(Path(module.__file__).read_text())
        assert not any(isinstance(n, ast.FunctionDef) for n in tree.body)
        assert sorted(module.__all__) == sorted(set(module.__all__))
        assert all(hasattr(module, name) for name in module.__all__)
