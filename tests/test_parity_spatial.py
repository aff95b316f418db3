"""Convolution, padding, pooling, resizing and normalization against PyTorch, sample by sample.

A module sample is compared in values, gradients of input and parameters, buffers, repr and
state-dict keys, in train and eval mode, in float64 and float32; a function sample in values and
gradients; both from non-contiguous input, too, and in second derivatives by finite differences.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

# ---- samples ------------------------------------------------------------------------------------
# (source of the module, shape of the input): the source is run with n = torch.nn and minigrad.nn.

MODULES: list[tuple[str, tuple[int, ...]]] = [
    ("n.Conv1d(4, 6, 3)", (2, 4, 9)),
    ("n.Conv1d(4, 6, 3)", (4, 9)),
    ("n.Conv1d(4, 6, 3)", (0, 4, 9)),
    ("n.Conv1d(4, 6, 1, bias=False)", (2, 4, 1)),
    ("n.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2)", (2, 4, 11)),
    ("n.Conv1d(4, 6, (4,), padding='same', padding_mode='circular')", (2, 4, 9)),
    ("n.Conv1d(4, 4, 3, padding=2, padding_mode='reflect', groups=4)", (4, 7)),
    ("n.Conv1d(4, 4, 3, padding=1, padding_mode='replicate')", (1, 4, 7)),
    ("n.Conv1d(4, 2, 4, padding='valid')", (3, 4, 4)),
    ("n.Conv2d(4, 6, (3, 2), padding='same', padding_mode='reflect', dilation=(1, 2))", (4, 5, 7)),
    ("n.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0))", (0, 4, 5, 7)),
    ("n.ConvTranspose1d(4, 6, 3)", (2, 4, 5)),
    ("n.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2, True, 2)", (4, 5)),
    ("n.ConvTranspose1d(4, 6, 3, stride=3, output_padding=2, bias=False)", (0, 4, 5)),
    ("n.ConvTranspose2d(4, 6, 3)", (2, 4, 5, 4)),
    ("n.ConvTranspose2d(4, 6, 3)", (4, 5, 4)),
    ("n.ConvTranspose2d(4, 6, 3)", (0, 4, 5, 4)),
    (
        "n.ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 2), output_padding=1)",
        (2, 4, 5, 4),
    ),
    ("n.ConvTranspose2d(4, 6, 3, stride=2, output_padding=(1, 0), groups=2)", (2, 4, 3, 4)),
    ("n.ConvTranspose2d(4, 4, (1, 3), dilation=(1, 2), groups=4, bias=False)", (2, 4, 3, 4)),
    ("n.ConvTranspose2d(4, 2, 2, dilation=3, output_padding=2, padding=1)", (2, 4, 3, 4)),
    ("n.ConvTranspose2d(4, 2, 1)", (2, 4, 1, 1)),
    ("n.Unfold(2)", (2, 3, 5, 4)),
    ("n.Unfold((2, 3), dilation=(2, 1), padding=(1, 2), stride=(2, 1))", (2, 3, 5, 4)),
    ("n.Unfold([3, 2], stride=2)", (3, 5, 4)),
    ("n.Unfold(2)", (0, 3, 5, 4)),
    ("n.Fold((5, 4), 2)", (2, 12, 12)),
    ("n.Fold((5, 4), (2, 3), dilation=(2, 1), padding=(1, 2), stride=(2, 1))", (2, 18, 18)),
    ("n.Fold([4, 5], 2, stride=2)", (12, 4)),
    ("n.Fold((5, 4), 2)", (0, 12, 12)),
    ("n.BatchNorm3d(3)", (2, 3, 2, 3, 2)),
    ("n.BatchNorm3d(3, 1e-3, None, affine=False)", (1, 3, 2, 1, 4)),
    ("n.BatchNorm3d(3, momentum=0.7, track_running_stats=False, bias=False)", (2, 3, 2, 3, 2)),
    ("n.InstanceNorm1d(3)", (2, 3, 5)),
    ("n.InstanceNorm1d(3, affine=True)", (3, 5)),
    ("n.InstanceNorm1d(3, 1e-2, 0.3, True, True)", (2, 3, 5)),
    ("n.InstanceNorm1d(3, track_running_stats=True)", (3, 5)),
    ("n.InstanceNorm2d(3)", (3, 2, 3)),
    ("n.InstanceNorm2d(3, affine=True, bias=False)", (2, 3, 2, 3)),
    ("n.InstanceNorm2d(3, momentum=None, track_running_stats=True)", (2, 3, 2, 3)),
    ("n.InstanceNorm2d(3, affine=True, track_running_stats=True)", (1, 3, 1, 3)),
    ("n.InstanceNorm3d(3, affine=True)", (2, 3, 2, 3, 2)),
    ("n.InstanceNorm3d(3)", (3, 2, 1, 2)),
    ("n.GroupNorm(2, 4)", (3, 4, 2, 3)),
    ("n.GroupNorm(4, 4, affine=False)", (3, 4, 5)),
    ("n.GroupNorm(1, 4, eps=0.1, bias=False)", (3, 4)),
    ("n.GroupNorm(2, 4)", (0, 4, 3)),
    ("n.GroupNorm(2, 6)", (1, 6, 2, 1, 2)),
    ("n.RMSNorm(4)", (3, 4)),
    ("n.RMSNorm((3, 4), eps=1e-2)", (2, 3, 4)),
    ("n.RMSNorm([4], elementwise_affine=False)", (4,)),
    ("n.RMSNorm(4)", (0, 4)),
    ("n.LocalResponseNorm(2)", (2, 5, 3)),
    ("n.LocalResponseNorm(5, alpha=0.7, beta=0.5, k=2.0)", (2, 4, 3, 2)),
    ("n.LocalResponseNorm(3, 1.0, 1.0, 0.5)", (1, 4, 3, 2, 2)),
    ("n.LocalResponseNorm(2)", (0, 5, 3)),
]

# (source of the call, shapes of the inputs a, b, c)
FUNCTIONS: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
    ("F.conv1d(a, b)", ((2, 4, 9), (3, 4, 3))),
    ("F.conv1d(a, b, c, 2, 1, 2, 2)", ((2, 4, 9), (6, 2, 3), (6,))),
    ("F.conv1d(a, b, padding='same', dilation=(2,))", ((4, 9), (3, 4, 4))),
    ("F.conv2d(a, b, c, (2,), padding=(1, 2))", ((4, 9, 7), (3, 4, 3, 2), (3,))),
    ("F.conv_transpose1d(a, b, c, 3, 1, 2)", ((2, 4, 3), (4, 2, 4), (2,))),
    ("F.conv_transpose1d(a, b, None, 2, 1, 0, 2, 2)", ((4, 3), (4, 2, 4))),
    ("F.conv_transpose2d(a, b)", ((2, 4, 3, 5), (4, 2, 3, 2))),
    (
        "F.conv_transpose2d(a, b, c, (1, 2), (2, 1), (0, 1), 2, (3, 1))",
        ((2, 4, 3, 5), (4, 2, 3, 2), (4,)),
    ),
    ("F.conv_transpose2d(a, b, c, 2, 0, 0, 4)", ((4, 3, 1), (4, 1, 1, 2), (4,))),
    ("F.unfold(a, 3, 1, 1, 2)", ((2, 3, 5, 4),)),
    ("F.unfold(a, (1, 4))", ((3, 5, 4),)),
    ("F.fold(a, 4, 2, 2, 1, 2)", ((2, 8, 4),)),
    ("F.fold(a, (4, 5), (1, 5))", ((10, 4),)),
    ("F.group_norm(a, 2)", ((3, 4),)),
    ("F.group_norm(a, 2, b, c, 1e-2)", ((3, 4, 5), (4,), (4,))),
    ("F.instance_norm(a)", ((3, 4, 5),)),
    ("F.instance_norm(a, weight=b, bias=c, eps=0.1)", ((3, 4, 5, 1), (4,), (4,))),
    (
        "F.instance_norm(a, b.detach(), c.detach() ** 2 + 1, use_input_stats=False)",
        ((3, 4, 5), (4,), (4,)),
    ),
    ("F.rms_norm(a, (5,))", ((3, 4, 5),)),
    ("F.rms_norm(a, [4, 5], b, eps=0.1)", ((3, 4, 5), (4, 5))),
    ("F.local_response_norm(a, 3)", ((3, 4, 5),)),
    ("F.local_response_norm(a, size=4, alpha=1.0, beta=1.5, k=0.5)", ((2, 4, 5, 2),)),
]

# ---- every name ---------------------------------------------------------------------------------

NAMES = re.findall(
    r"\w+",
    """
Conv1d Conv2d ConvTranspose1d ConvTranspose2d Unfold Fold
BatchNorm3d InstanceNorm1d InstanceNorm2d InstanceNorm3d GroupNorm RMSNorm LocalResponseNorm
group_norm instance_norm rms_norm local_response_norm
conv1d conv2d conv_transpose1d conv_transpose2d unfold fold
""",
)


def test_every_name_has_a_sample() -> None:
    text = " ".join(source for source, _ in (*MODULES, *FUNCTIONS))
    assert set(NAMES) <= set(re.findall(r"\b[nF]\.(\w+)\(", text))
    assert all(name in (nn if name[0].isupper() else F).__all__ for name in NAMES)


# ---- comparison ---------------------------------------------------------------------------------


def values(shape: tuple[int, ...], seed: int, strided: bool = False) -> Any:
    """Values 0.01 apart at least: no maximum changes under a finite difference."""
    rng = np.random.default_rng(seed)
    n = int(np.prod(shape))
    x = (rng.permutation(n) * (3.0 / max(n, 1)) - 1.5 + 0.001 * rng.random(n)).reshape(shape)
    if strided and x.ndim:
        large = np.zeros([2 * k + 1 for k in shape[::-1]]).T
        view = large[tuple(slice(1, None, 2) for _ in shape)]
        view[...] = x
        return view
    return x


def close(found: Any, wanted: Any, dtype: str, what: str) -> None:
    tolerance = {"float64": 1e-7, "float32": 2e-5}[dtype]
    assert tuple(found.shape) == tuple(wanted.shape), what
    assert str(found.dtype) == str(wanted.dtype).removeprefix("torch."), what
    np.testing.assert_allclose(
        found.detach().numpy(),
        wanted.detach().numpy(),
        rtol=tolerance,
        atol=10 * tolerance,
        err_msg=what,
    )


def compare(ours: Any, theirs: Any, dtype: str) -> tuple[Any, Any]:
    """The outputs, and the sums to differentiate: indices are compared, values weighed."""
    ours = ours if isinstance(ours, tuple) else (ours,)
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    mine: Any = 0.0
    yours: Any = 0.0
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        close(a, b, dtype, f"output {i}")
        if b.dtype.is_floating_point:
            weights = values(tuple(b.shape), 9).astype(dtype)
            mine = mine + (a * mg.tensor(weights)).sum()
            yours = yours + (b * torch.tensor(weights)).sum()
    return mine, yours


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("source", "shape"), MODULES)
def test_module(source: str, shape: tuple[int, ...], mode: str, dtype: str) -> None:
    theirs = eval(source, {"n": torch.nn}).to(getattr(torch, dtype))
    ours = eval(source, {"n": nn}).to(dtype)
    assert repr(ours) == repr(theirs)
    with torch.no_grad():
        for i, p in enumerate(theirs.parameters()):
            p.copy_(torch.tensor(values(tuple(p.shape), i + 1)))
        for i, p in enumerate(theirs.buffers()):
            if p.dtype.is_floating_point:
                p.copy_(torch.tensor(abs(values(tuple(p.shape), i + 1)) + 0.2))
    ours.load_state_dict({k: mg.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    getattr(theirs, mode)(), getattr(ours, mode)()
    for turn in range(2):  # the second time from non-contiguous memory
        x = values(shape, 0, strided=bool(turn)).astype(dtype)
        tx = torch.tensor(np.ascontiguousarray(x), requires_grad=True)
        mx = mg.from_numpy(x).requires_grad_()
        mine, yours = compare(ours(mx), theirs(tx), dtype)
        mine.backward()
        yours.backward()
        close(mx.grad, tx.grad, dtype, "dx")
        for (name, p), (their_name, q) in zip(
            ours.named_parameters(), theirs.named_parameters(), strict=True
        ):
            assert name == their_name
            close(p.grad, q.grad, dtype, name)
            p.grad = q.grad = None
        state = ours.state_dict()
        assert list(state) == list(theirs.state_dict())
        for name, value in theirs.state_dict().items():
            close(state[name], value, dtype, name)


def call(source: str, functional: Any, inputs: list[Any]) -> Any:
    return eval(source, {"F": functional, **dict(zip("abc", inputs, strict=False))})


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
@pytest.mark.parametrize(("source", "shapes"), FUNCTIONS)
def test_function(source: str, shapes: Any, strided: bool, dtype: str) -> None:
    drawn = [values(s, i, strided).astype(dtype) for i, s in enumerate(shapes)]
    theirs_in = [torch.tensor(x, requires_grad=True) for x in drawn]
    ours_in = [mg.from_numpy(x).requires_grad_() for x in drawn]
    mine, yours = compare(
        call(source, F, ours_in), call(source, torch.nn.functional, theirs_in), dtype
    )
    mine.backward()
    yours.backward()
    for i, (a, b) in enumerate(zip(ours_in, theirs_in, strict=True)):
        if b.grad is None:
            assert a.grad is None
        else:
            close(a.grad, b.grad, dtype, f"gradient {i}")


# ---- derivatives of derivatives -----------------------------------------------------------------


def floating(y: Any) -> Any:
    """The value alone, of (value, indices)."""
    return y[0] if isinstance(y, tuple) else y


def check_twice(function: Any, inputs: list[Any]) -> None:
    """Second derivatives along the inputs of a nonlinear function of the value."""
    sample = floating(function(*inputs))
    weights = mg.tensor(values(sample.shape, 5))

    def total(*v: Any) -> Any:
        y = floating(function(*v))
        return (weights * y * y).sum() + (weights * y).sum()

    reached = mg.grad(total(*inputs), inputs, allow_unused=True)
    sought = [x for x, g in zip(inputs, reached, strict=True) if g is not None]
    rng = np.random.default_rng(2)
    along = [mg.tensor(rng.uniform(-1, 1, x.shape)) for x in sought]
    slopes = mg.grad(total(*inputs), sought, create_graph=True)
    found = mg.grad(
        sum((g * d).sum() for g, d in zip(slopes, along, strict=True)), sought, allow_unused=True
    )
    exact = sum((g * d).sum().item() for g, d in zip(found, along, strict=True) if g is not None)
    h, origin, slope = 1e-4, [x.array for x in sought], 0.0
    for sign in (1, -1):
        for x, at, d in zip(sought, origin, along, strict=True):
            x.array = at + sign * h * d.array
        first = mg.grad(total(*inputs), sought)
        slope += sign * sum((g * d).sum().item() for g, d in zip(first, along, strict=True))
    for x, at in zip(sought, origin, strict=True):
        x.array = at
    assert exact == pytest.approx(slope / (2 * h), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("source", "shape"), MODULES)
def test_second_derivatives_of_modules(source: str, shape: tuple[int, ...]) -> None:
    if 0 in shape:
        return  # nothing to differentiate: test_module compares the shapes
    module = eval(source, {"n": nn}).double()
    x = mg.tensor(values(shape, 0), requires_grad=True)
    check_twice(lambda x, *_: module(x), [x, *module.parameters()])


@pytest.mark.parametrize(("source", "shapes"), FUNCTIONS)
def test_second_derivatives_of_functions(source: str, shapes: Any) -> None:
    inputs = [mg.tensor(values(s, i), requires_grad=True) for i, s in enumerate(shapes)]
    check_twice(lambda *v: call(source, F, list(v)), inputs)
