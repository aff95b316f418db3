"""A GPU for the tests of this folder."""

import pytest

from tests.gpu import device


@pytest.fixture
def gpu():
    """The backend of one GPU: of the stand-in, or with ``--cuda`` a real one."""
    with device.cuda() as backend:
        yield backend


@pytest.fixture
def two_gpus():
    """The backend of two GPUs of the stand-in."""
    if device.REAL:
        pytest.skip("two GPUs are those of the stand-in")
    with device.cuda(2) as backend:
        yield backend
