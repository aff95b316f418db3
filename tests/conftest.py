"""What every test run says at its end: how much was compared with PyTorch."""

import pytest
from hypothesis import settings

from tests.public_names import covered_names

# A deadline an example would fail where the machine is busy, not where the code is wrong.
settings.register_profile("minigrad", deadline=None)
settings.load_profile("minigrad")


def pytest_terminal_summary(terminalreporter):
    ran = {"passed": 0, "failed": 0, "skipped": 0}
    for outcome in ran:
        for report in terminalreporter.stats.get(outcome, []):
            if "parity" in getattr(report, "keywords", {}):
                ran[outcome] += 1
    if ran["passed"] + ran["failed"]:
        terminalreporter.write_line(
            f"parity with PyTorch: {len(covered_names())} names covered, "
            f"{ran['passed'] + ran['failed']} samples run, {ran['failed']} samples failed"
        )
    elif ran["skipped"]:
        terminalreporter.write_line(
            f"parity with PyTorch: {ran['skipped']} samples skipped, PyTorch is not installed"
        )


@pytest.fixture(autouse=True)
def _own_random_state():
    """No test depends on what another drew."""
    import minigrad

    state = minigrad.get_rng_state()
    yield
    minigrad.set_rng_state(state)


def pytest_addoption(parser):
    parser.addoption(
        "--cuda", action="store_true", help="test on a GPU, with CuPy, instead of its stand-in"
    )
