"""Every public name that PyTorch has too is compared with it somewhere."""

import pytest

from tests.public_names import covered_names, shared_names

#: Base classes of others, never made by themselves.
BASES = {"RNNBase", "RNNCellBase"}
#: Names PyTorch does not have, or that compute nothing.
OURS = {
    "Momentum",
    "Buffer",
    "functional",
    "init",
    "utils",
    "InverseTimeLR",
    "InverseSqrtLR",
    "param_groups",
    "zero_gamma_",
    "fold",
    "Folding",
    "BatchRenorm1d",
    "BatchRenorm2d",
    "Ramp",
    "conventions",
    "batch_renorm",
    "InferenceStatistics",
    "inference_statistics",
}


def test_every_public_name_is_compared_with_pytorch():
    missing = shared_names() - covered_names() - OURS - BASES
    assert not missing, f"no parity test mentions {sorted(missing)}"


def test_pytorch_has_these_names():
    torch = pytest.importorskip("torch")
    places = (
        torch,
        torch.nn,
        torch.nn.functional,
        torch.nn.init,
        torch.nn.utils,
        torch.optim,
        torch.optim.lr_scheduler,
        torch.optim.swa_utils,
    )
    unknown = {n for n in covered_names() if not any(hasattr(p, n) for p in places)}
    assert unknown <= OURS, f"PyTorch has no {sorted(unknown - OURS)}"
