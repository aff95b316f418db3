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
from tests.printed import as_in_pytorch

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
    ("n.ZeroPad1d(1)", (2, 3, 4)),
    ("n.ZeroPad1d((0, -2))", (4,)),
    ("n.ZeroPad2d((1, 2, -1, 0))", (2, 3, 4, 5)),
    ("n.ZeroPad2d(2)", (0, 3, 0, 5)),
    ("n.ZeroPad3d(1)", (2, 1, 2, 3)),
    ("n.ConstantPad1d(2, 1.5)", (2, 3)),
    ("n.ConstantPad2d([1, 2, 3, 4], -3)", (3, 4, 5)),
    ("n.ConstantPad3d((1, 0, 2, 0, 0, 1), 0.5)", (1, 2, 2, 3, 1)),
    ("n.ReflectionPad1d(2)", (3, 4)),
    ("n.ReflectionPad1d((-3, 5))", (2, 3, 6)),
    ("n.ReflectionPad2d((1, 2, 0, 3))", (2, 3, 4, 5)),
    ("n.ReflectionPad2d(1)", (0, 3, 4, 5)),
    ("n.ReflectionPad3d((1, 0, 2, 1, 0, 1))", (1, 2, 3, 3, 2)),
    ("n.ReplicationPad1d(7)", (2, 3, 4)),
    ("n.ReplicationPad1d((-2, 2))", (3, 4)),
    ("n.ReplicationPad2d((1, 2, 0, 5))", (3, 4, 5)),
    ("n.ReplicationPad2d(1)", (0, 3, 4, 5)),
    ("n.ReplicationPad3d(1)", (2, 1, 3, 2)),
    ("n.CircularPad1d((4, 1))", (2, 3, 4)),
    ("n.CircularPad1d((-1, 2))", (3, 4)),
    ("n.CircularPad2d((1, 2, 0, 3))", (2, 3, 4, 5)),
    ("n.CircularPad2d(1)", (3, 4, 5)),
    ("n.CircularPad3d((1, 0, 2, 1, 0, 1))", (2, 3, 3, 2)),
    ("n.MaxPool1d(2)", (2, 3, 7)),
    ("n.MaxPool1d((3,), 2, 1, 2, True, True)", (3, 8)),
    ("n.MaxPool1d(3, stride=1, padding=1, return_indices=True)", (0, 3, 8)),
    ("n.MaxPool1d(4, 3, ceil_mode=True)", (1, 2, 8)),
    ("n.MaxPool2d((3, 2), (2, 1), 1, (1, 2), True, True)", (3, 8, 5)),
    ("n.MaxPool2d(2)", (0, 3, 4, 5)),
    ("n.AvgPool1d(2)", (2, 3, 7)),
    ("n.AvgPool1d(3, 2, 1, True, False)", (3, 8)),
    ("n.AvgPool1d((4,), (3,), (2,), ceil_mode=True)", (2, 3, 8)),
    ("n.AvgPool1d(1)", (0, 3, 8)),
    ("n.AvgPool2d((3, 2), 2, 1, True, False)", (2, 3, 6, 5)),
    ("n.AvgPool2d(3, 2, (1, 0), divisor_override=-2)", (3, 6, 5)),
    ("n.AdaptiveAvgPool1d(3)", (2, 3, 7)),
    ("n.AdaptiveAvgPool1d((5,))", (3, 4)),
    ("n.AdaptiveAvgPool1d(1)", (0, 3, 4)),
    ("n.AdaptiveAvgPool2d((3, None))", (2, 3, 7, 5)),
    ("n.AdaptiveAvgPool2d((6, 8))", (3, 5, 5)),
    ("n.AdaptiveMaxPool1d(3)", (2, 3, 7)),
    ("n.AdaptiveMaxPool1d((5,), True)", (3, 4)),
    ("n.AdaptiveMaxPool1d(2)", (0, 3, 4)),
    ("n.AdaptiveMaxPool2d(2)", (2, 3, 7, 5)),
    ("n.AdaptiveMaxPool2d((3, None), return_indices=True)", (3, 7, 5)),
    ("n.AdaptiveMaxPool2d((6, 8), True)", (1, 2, 5, 5)),
    ("n.AdaptiveMaxPool2d(2)", (0, 3, 7, 5)),
    ("n.Upsample(scale_factor=2)", (2, 3, 4)),
    ("n.Upsample((5, 3))", (2, 3, 4, 5)),
    ("n.Upsample(size=7, mode='linear')", (2, 3, 4)),
    ("n.Upsample(scale_factor=(2, 1.3), mode='bilinear')", (2, 3, 4, 5)),
    ("n.Upsample((5, 7), None, 'bilinear', True)", (0, 3, 4, 5)),
    ("n.Upsample(None, 1.7, 'bicubic', False, True)", (2, 3, 4, 5)),
    ("n.UpsamplingNearest2d(scale_factor=3)", (2, 3, 4, 5)),
    ("n.UpsamplingBilinear2d(6)", (2, 3, 4, 5)),
    ("n.UpsamplingBilinear2d(scale_factor=(1.5, 2))", (1, 3, 4, 1)),
    ("n.PixelShuffle(2)", (2, 8, 3, 1)),
    ("n.PixelShuffle(3)", (9, 2, 2)),
    ("n.PixelShuffle(1)", (2, 1, 2, 2, 3)),
    ("n.PixelUnshuffle(2)", (2, 3, 4, 6)),
    ("n.PixelUnshuffle(3)", (1, 2, 2, 3, 6)),
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
    ("F.pad(a, (1, 2, -1, 0, 3, 1))", ((2, 3, 4),)),
    ("F.pad(a, [1, -2], 'constant', 2.5)", ((4,),)),
    ("F.pad(a, ())", ((4,),)),
    ("F.pad(a, (2, 3, 1, 1), mode='reflect')", ((2, 4, 5),)),
    ("F.pad(a, (0, -2, -1, 1), mode='reflect', value=0.0)", ((2, 3, 4, 5),)),
    ("F.pad(a, (1, 2, 2, 0, 1, 1), 'reflect')", ((1, 2, 3, 3, 3),)),
    ("F.pad(a, (5, 6), 'replicate')", ((2, 1),)),
    ("F.pad(a, (1, 2, 2, 0, 1, 1), 'replicate')", ((2, 3, 1, 3),)),
    ("F.pad(a, (3, 3), 'circular')", ((2, 3),)),
    ("F.pad(a, (-1, 2, 1, -2), 'circular')", ((2, 4, 5),)),
    ("F.pad(a, (1, 2, 2, 0, 1, 1), 'circular')", ((1, 2, 2, 3, 3),)),
    ("F.max_pool1d(a, 3, return_indices=True)", ((2, 3, 7),)),
    ("F.max_pool1d(a, 2, 3, 1, 2, ceil_mode=True)", ((3, 7),)),
    ("F.max_pool2d(a, 3, 2, 1, 1, True)", ((2, 3, 7, 4),)),
    ("F.avg_pool1d(a, 3, 2, 1, False, False)", ((2, 3, 7),)),
    ("F.avg_pool2d(a, (2, 3), None, (1, 0), True, True, 5)", ((3, 7, 4),)),
    ("F.adaptive_avg_pool1d(a, 3)", ((3, 7),)),
    ("F.adaptive_avg_pool2d(a, (None, 4))", ((2, 3, 7, 3),)),
    ("F.adaptive_avg_pool2d(a, (7, 3))", ((2, 3, 7, 3),)),
    ("F.adaptive_max_pool1d(a, 4, return_indices=True)", ((3, 7),)),
    ("F.adaptive_max_pool2d(a, (None, 4), True)", ((2, 3, 7, 3),)),
    ("F.interpolate(a, 9)", ((2, 3, 4),)),
    ("F.interpolate(a, scale_factor=0.7)", ((2, 3, 9, 4),)),
    ("F.interpolate(a, (4, 6, 2))", ((1, 2, 2, 4, 3),)),
    ("F.interpolate(a, 7, mode='nearest-exact')", ((2, 3, 4, 9),)),
    ("F.interpolate(a, scale_factor=2.0, mode='nearest-exact')", ((2, 3, 4),)),
    ("F.interpolate(a, 3, mode='linear', align_corners=True)", ((2, 3, 8),)),
    ("F.interpolate(a, scale_factor=2.3, mode='linear')", ((2, 3, 4),)),
    (
        "F.interpolate(a, scale_factor=2.3, mode='linear', recompute_scale_factor=True)",
        ((2, 3, 4),),
    ),
    ("F.interpolate(a, (1, 9), mode='bilinear')", ((2, 3, 4, 5),)),
    ("F.interpolate(a, [8, 2], mode='bilinear', align_corners=True)", ((2, 3, 4, 5),)),
    ("F.interpolate(a, (1, 9), mode='bicubic', align_corners=True)", ((2, 3, 4, 5),)),
    ("F.interpolate(a, scale_factor=1.3, mode='bicubic')", ((2, 3, 4, 5),)),
    ("F.interpolate(a, 3, mode='area')", ((2, 3, 4),)),
    ("F.interpolate(a, scale_factor=0.6, mode='area')", ((2, 3, 4, 5),)),
    ("F.pixel_shuffle(a, 2)", ((2, 2, 4, 1, 3),)),
    ("F.pixel_unshuffle(a, 2)", ((3, 2, 6),)),
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
ZeroPad1d ZeroPad2d ZeroPad3d ConstantPad1d ConstantPad2d ConstantPad3d ReflectionPad1d
ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d CircularPad1d
CircularPad2d CircularPad3d pad
MaxPool1d MaxPool2d AvgPool1d AvgPool2d AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool1d
AdaptiveMaxPool2d max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d
adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d
Upsample UpsamplingNearest2d UpsamplingBilinear2d PixelShuffle PixelUnshuffle interpolate
pixel_shuffle pixel_unshuffle
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
    assert as_in_pytorch(ours) == repr(theirs)
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


# ---- sizes, one after another -------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear", "area"])
def test_interpolation_to_every_size(mode: str) -> None:
    for n in range(1, 14):
        x = values((1, 2, n), n)
        for m in range(1, 30):
            ours = F.interpolate(mg.tensor(x), m, mode=mode)
            theirs = torch.nn.functional.interpolate(torch.tensor(x), m, mode=mode)
            close(ours, theirs, "float64", f"{n} to {m}")


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
def test_interpolation_by_every_factor(mode: str) -> None:
    for factor in (0.3, 0.5, 0.9, 1.0, 1.01, 1.1, 1.25, 1.5, 2.0, 2.2, 2.5, 3.0, 3.3, 4.0):
        for n in (4, 7, 10):
            x = values((1, 1, n, n + 1), n)
            ours = F.interpolate(mg.tensor(x), scale_factor=factor, mode=mode)
            theirs = torch.nn.functional.interpolate(
                torch.tensor(x), scale_factor=factor, mode=mode
            )
            close(ours, theirs, "float64", f"{n} by {factor}")


def test_pooling_of_every_size() -> None:
    for n in range(3, 12):
        x, y = mg.tensor(values((2, 2, n), n)), torch.tensor(values((2, 2, n), n))
        for m in range(1, 14):
            compare(
                F.adaptive_avg_pool1d(x, m),
                torch.nn.functional.adaptive_avg_pool1d(y, m),
                "float64",
            )
            compare(
                F.adaptive_max_pool1d(x, m, True),
                torch.nn.functional.adaptive_max_pool1d(y, m, True),
                "float64",
            )
        for kernel in (1, 2, 3):
            for stride in (1, 2, 3, 4):
                for padding in range(kernel // 2 + 1):
                    for up in (False, True):
                        given = (kernel, stride, padding)
                        compare(
                            F.avg_pool1d(x, *given, up),
                            torch.nn.functional.avg_pool1d(y, *given, up),
                            "float64",
                        )
                        compare(
                            F.max_pool1d(x, *given, 1, up, True),
                            torch.nn.functional.max_pool1d(y, *given, 1, up, True),
                            "float64",
                        )


def test_integers_are_padded_and_pooled() -> None:
    x = np.arange(16).reshape(1, 4, 4) - 9
    for source in (
        "F.pad(a, (1, 1), value=2.7)",
        "F.pad(a, (1, 1, 1, 1), 'reflect')",
        "F.max_pool2d(a, 3, 2, 1, return_indices=True)",
    ):
        compare(
            call(source, F, [mg.tensor(x)]),
            call(source, torch.nn.functional, [torch.tensor(x)]),
            "float64",
        )


# ---- where PyTorch's own gradients fail ---------------------------------------------------------

#: The value is PyTorch's. Its gradient is an error (no output cells; an empty batch of pixels), or
#: skips the map (a factor that rounds to the same size: it copies the output's gradient).
THEIRS_FAIL = [
    ("F.adaptive_avg_pool2d(a, 0)", (2, 3, 7, 5)),
    ("F.adaptive_max_pool2d(a, (0, 2))", (2, 3, 7, 5)),
    ("F.pixel_shuffle(a, 2)", (0, 8, 3, 1)),
    ("F.interpolate(a, scale_factor=1.1, mode='bicubic')", (1, 1, 4, 3)),
]


@pytest.mark.parametrize(("source", "shape"), THEIRS_FAIL)
def test_gradients_where_pytorchs_fail(source: str, shape: tuple[int, ...]) -> None:
    x = values(shape, 0)
    mine = mg.tensor(x, requires_grad=True)
    y = call(source, F, [mine])
    compare(y, call(source, torch.nn.functional, [torch.tensor(x)]), "float64")
    (y * mg.tensor(values(y.shape, 1))).sum().backward()
    assert mine.grad.shape == shape
    if y.numel():
        assert mg.gradcheck(lambda a: call(source, F, [a]), mine)


# ---- entry by entry, and the third order --------------------------------------------------------

TINY: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
    ("F.conv1d(a, b, c, 2, 1)", ((1, 2, 3), (2, 2, 2), (2,))),
    ("F.conv2d(a, b)", ((1, 1, 2, 3), (1, 1, 2, 2))),
    ("F.conv_transpose1d(a, b, c, 2, 1, 1)", ((1, 2, 2), (2, 1, 2), (1,))),
    ("F.conv_transpose2d(a, b, c, 2)", ((1, 1, 2, 2), (1, 2, 2, 1), (2,))),
    ("F.unfold(a, 2, padding=1)", ((1, 1, 2, 2),)),
    ("F.fold(a, 3, 2)", ((1, 4, 4),)),
    ("F.pad(a, (1, 0, 2, 1), 'reflect')", ((1, 3, 2),)),
    ("F.pad(a, (1, 2), 'replicate')", ((2, 2),)),
    ("F.pad(a, (1, 2), 'circular')", ((2, 2),)),
    ("F.pad(a, (1, -1), value=1.0)", ((2, 2),)),
    ("F.max_pool1d(a, 2, 1, 1)", ((1, 5),)),
    ("F.max_pool2d(a, 2)", ((1, 2, 4),)),
    ("F.avg_pool1d(a, 3, 2, 1, True, False)", ((1, 6),)),
    ("F.avg_pool2d(a, 2, 1)", ((1, 3, 2),)),
    ("F.adaptive_avg_pool1d(a, 2)", ((1, 5),)),
    ("F.adaptive_avg_pool2d(a, 2)", ((1, 3, 2),)),
    ("F.adaptive_max_pool1d(a, 2)", ((1, 5),)),
    ("F.adaptive_max_pool2d(a, 2)", ((1, 3, 2),)),
    ("F.interpolate(a, 5)", ((1, 1, 3),)),
    ("F.interpolate(a, 5, mode='linear')", ((1, 1, 3),)),
    ("F.interpolate(a, (3, 2), mode='bilinear', align_corners=True)", ((1, 1, 2, 3),)),
    ("F.interpolate(a, (3, 2), mode='bicubic')", ((1, 1, 2, 3),)),
    ("F.pixel_shuffle(a, 2)", ((4, 1, 2),)),
    ("F.pixel_unshuffle(a, 2)", ((1, 2, 4),)),
    ("F.group_norm(a, 2, b, c)", ((1, 4, 2), (4,), (4,))),
    ("F.instance_norm(a, weight=b, bias=c)", ((2, 1, 4), (1,), (1,))),
    ("F.rms_norm(a, (4,), b)", ((2, 4), (4,))),
    ("F.local_response_norm(a, 3, 0.5)", ((1, 4, 2),)),
    ("F.batch_norm(a, None, None, b, c, training=True)", ((3, 1, 2), (1,), (1,))),
]


def test_every_function_is_checked_entry_by_entry() -> None:
    checked = {re.search(r"F\.(\w+)", source).group(1) for source, _ in TINY}  # type: ignore[union-attr]
    assert {name for name in NAMES if name[0].islower()} <= checked


@pytest.mark.parametrize(("source", "shapes"), TINY)
def test_second_derivatives_entry_by_entry(source: str, shapes: Any) -> None:
    inputs = [mg.tensor(values(s, i), requires_grad=True) for i, s in enumerate(shapes)]
    assert mg.gradgradcheck(lambda *v: call(source, F, list(v)), inputs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("source", "shapes"), TINY)
def test_third_derivatives(source: str, shapes: Any) -> None:
    """The gradient of a cubic function of the value has the second derivatives of its difference
    quotients: gradgradcheck of the gradient."""
    inputs = [mg.tensor(values(s, i), requires_grad=True) for i, s in enumerate(shapes)]

    def slope(*v: Any) -> Any:
        y = call(source, F, list(v))
        return mg.grad((y * y * y).sum(), v[:1], create_graph=True)[0]

    assert mg.gradgradcheck(slope, inputs, atol=1e-5, rtol=1e-4)


# ---- misuse -------------------------------------------------------------------------------------
# (source, PyTorch's exception, a part of the message); r draws a tensor of a shape.

MISUSE: list[tuple[str, type[Exception], str]] = [
    ("F.conv1d(r(1, 3, 4), r(2, 4, 2))", RuntimeError, "expects (N, 4, L) or (4, L), got"),
    ("F.conv1d(r(1, 1, 3, 4), r(2, 3, 2))", RuntimeError, "got (1, 1, 3, 4)"),
    ("F.conv1d(r(1, 3, 4), r(2, 3, 2).double())", RuntimeError, "x.to('float64')"),
    ("F.conv1d(r(1, 3, 4), r(2, 3, 5))", RuntimeError, "at least 5, the kernel's reach, got 4"),
    ("F.conv1d(r(1, 3, 4), r(2, 3, 2), padding=-1)", RuntimeError, "use F.pad to crop"),
    ("F.conv1d(r(1, 3, 4), r(2, 3, 2), stride=0)", RuntimeError, "at least 1, got 0"),
    ("F.conv1d(r(1, 3, 4), r(2, 3, 2), r(3))", RuntimeError, "bias of shape (2,), got (3,)"),
    ("F.conv1d(r(1, 3, 4), r(2, 3, 2), stride=2, padding='same')", RuntimeError, "needs stride 1"),
    ("F.conv1d(r(1, 3, 4), r(2, 3, 2), padding='x')", RuntimeError, "'same', 'valid' or numbers"),
    ("n.Conv1d(3, 4, 2, groups=2)", ValueError, "groups that divide"),
    ("n.Conv1d(3, 4, 2, padding_mode='x')", ValueError, "zeros or reflect"),
    ("n.ConvTranspose2d(1, 1, 1, padding_mode='reflect')", ValueError, "padding_mode of zeros"),
    ("n.ConvTranspose2d(1, 1, 2, 2)(r(1, 1, 2, 2), output_size=(9, 9))", ValueError, "(4, 4) to"),
    ("F.conv_transpose2d(r(1, 2, 3, 3), r(2, 1, 2, 2), output_padding=1)", RuntimeError, "smaller"),
    ("F.conv_transpose2d(r(1, 2, 1, 1), r(2, 1, 2, 2), padding=1)", RuntimeError, "less padding"),
    ("F.conv_transpose1d(r(1, 2, 1), r(2, 1, 2), padding=1)", RuntimeError, "less padding"),
    ("F.conv_transpose2d(r(1, 3, 3, 3), r(2, 1, 2, 2))", RuntimeError, "expects (N, 2, H, W)"),
    ("F.conv_transpose2d(r(1, 2, 3, 3), r(2, 1, 2, 2), groups=0)", RuntimeError, "at least 1"),
    ("F.unfold(r(1, 3, 4, 4), 5)", RuntimeError, "use padding or a larger image"),
    ("F.unfold(r(1, 3, 4, 4), 0)", RuntimeError, "at least 1"),
    ("F.fold(r(1, 4, 5), (3, 3), 2)", RuntimeError, "expects 2 x 2 columns, got 5"),
    ("F.fold(r(1, 5, 4), (3, 3), 2)", RuntimeError, "no multiple of 4"),
    ("F.pad(r(4), (1, 1), 'reflect')", NotImplementedError, "add axes with unsqueeze"),
    ("F.pad(r(2, 3, 4, 5), (1, 1), 'replicate')", NotImplementedError, "a pair for each axis"),
    ("F.pad(r(2, 3, 4), (1, 1), 'reflect', 1.0)", RuntimeError, "leave it out"),
    ("F.pad(r(2, 3, 4), (1, 1), 'x')", NotImplementedError, "constant, reflect"),
    ("F.pad(r(2, 3), (1, 1, 1))", RuntimeError, "pairs for at most 2 axes"),
    ("F.pad(r(2, 3), (-2, -2))", RuntimeError, "crop at most 3"),
    ("F.pad(r(1, 3), (3, 0), 'reflect')", RuntimeError, "longer than the border, got 3"),
    ("F.pad(r(1, 3), (4, 0), 'circular')", RuntimeError, "longer than the border, got 3"),
    ("n.CircularPad2d(1)(r(4, 4))", ValueError, "expects 3 or 4 axes"),
    ("F.max_pool1d(r(4), 2)", RuntimeError, "(N, C, L) or (C, L), got (4,)"),
    ("F.max_pool1d(r(3, 4), 2, padding=2)", RuntimeError, "padding <= kernel / 2"),
    ("F.max_pool1d(r(3, 4), 0)", RuntimeError, "at least 1"),
    ("F.max_pool1d(r(3, 4), 5)", RuntimeError, "smaller kernel"),
    ("F.avg_pool1d(r(1, 1, 3, 4), 2)", RuntimeError, "got (1, 1, 3, 4)"),
    ("F.avg_pool1d(r(3, 4), 2, stride=-1)", RuntimeError, "at least 1"),
    ("F.avg_pool2d(r(1, 3, 4), 2, divisor_override=0)", RuntimeError, "other than 0"),
    ("F.adaptive_avg_pool1d(r(3, 4), None)", TypeError, "expects ints"),
    ("F.adaptive_avg_pool1d(r(3, 4), (2, 2))", RuntimeError, "an int, got (2, 2)"),
    ("F.adaptive_avg_pool2d(r(3, 4, 4), -1)", RuntimeError, "at least 0, got -1"),
    ("F.adaptive_max_pool2d(r(4, 4), 2)", RuntimeError, "got (4, 4)"),
    ("F.interpolate(r(3, 4), 2)", NotImplementedError, "nearest (3 or 4 or 5 axes)"),
    ("F.interpolate(r(1, 3, 4))", ValueError, "got neither"),
    ("F.interpolate(r(1, 3, 4), 2, 2)", ValueError, "got both"),
    ("F.interpolate(r(1, 3, 4), 2, mode='bilinear')", NotImplementedError, "bilinear (4 axes)"),
    ("F.interpolate(r(1, 3, 4), 2, mode='x')", NotImplementedError, "got mode 'x'"),
    ("F.interpolate(r(1, 3, 4), 2, align_corners=True)", ValueError, "leave it out"),
    ("F.interpolate(r(1, 3, 4), (2, 2))", ValueError, "a number or 1 of them"),
    ("F.interpolate(r(1, 3, 4), (2.5,))", TypeError, "a size of ints"),
    ("F.interpolate(r(1, 3, 4), scale_factor=0.1)", RuntimeError, "at least 1"),
    ("F.pixel_shuffle(r(3, 2, 2), 2)", RuntimeError, "no multiple of 4"),
    ("F.pixel_shuffle(r(4, 2, 2), 2.0)", TypeError, "an int as its factor"),
    ("F.pixel_shuffle(r(2, 2), 1)", RuntimeError, "(*, C, H, W), got (2, 2)"),
    ("F.pixel_unshuffle(r(3, 5, 2), 2)", RuntimeError, "pad or crop"),
    ("F.pixel_unshuffle(r(4, 2, 2), 0)", RuntimeError, "at least 1, got 0"),
    ("F.group_norm(r(2, 3, 4), 2)", RuntimeError, "divisors of 3"),
    ("F.group_norm(r(1, 2), 2)", ValueError, "use fewer groups"),
    ("F.group_norm(r(2, 4, 3), 2, r(3))", RuntimeError, "weight of shape (4,), got (3,)"),
    ("n.GroupNorm(2, 3)", ValueError, "choose a divisor"),
    ("F.instance_norm(r(2, 3, 1))", ValueError, "use a larger image"),
    ("F.instance_norm(r(2, 3, 4), use_input_stats=False)", RuntimeError, "pass them, or"),
    ("n.InstanceNorm1d(3)(r(2, 3, 4, 4))", ValueError, "(N, 3, L) or (3, L)"),
    ("n.InstanceNorm2d(3, affine=True)(r(2, 4, 4, 4))", ValueError, "axis 1 has 4, not 3"),
    ("F.rms_norm(r(2, 3), (4,))", RuntimeError, "(..., 4), got (2, 3)"),
    ("F.rms_norm(r(2, 3), ())", RuntimeError, "at least one axis"),
    ("F.rms_norm(r(2, 3), (3,), r(2))", RuntimeError, "weight of shape (3,), got (2,)"),
    ("F.local_response_norm(r(2, 3), 2)", ValueError, "at least three axes"),
    ("F.local_response_norm(r(2, 3, 3), 0)", RuntimeError, "at least 1, got 0"),
    ("F.batch_norm(r(4, 3), None, None, r(3).double(), training=True)", RuntimeError, "weight in"),
    ("F.batch_norm(r(4, 3), r(3).half(), r(3).half())", RuntimeError, "running_mean in float32"),
    ("F.batch_norm(r(4, 3), r(2), r(3))", RuntimeError, "of shape (3,), got (2,)"),
    ("F.batch_norm(r(4, 3).half(), r(3).double(), r(3).double())", RuntimeError, "or float32"),
    ("F.layer_norm(r(4, 3).double(), (3,), r(3))", RuntimeError, "x.to('float32')"),
    ("F.group_norm(r(4, 4), 2, r(4), r(4).double())", RuntimeError, "bias in float32"),
    ("F.instance_norm(r(4, 3, 2), weight=r(3).double())", RuntimeError, "weight in float32"),
    ("n.BatchNorm2d(3).double()(r(2, 3, 4, 4))", RuntimeError, "got float64"),
    ("n.BatchNorm3d(3)(r(2, 3, 4, 4))", ValueError, "(N, 3, D, H, W), got"),
    ("n.BatchNorm3d(3)(r(2, 4, 4, 4, 4))", RuntimeError, "axis 1 has 4, not 3"),
]


@pytest.mark.parametrize(("source", "error", "says"), MISUSE)
def test_misuse(source: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error):
        eval(source, {"F": torch.nn.functional, "n": torch.nn, "r": torch.randn})
    with pytest.raises(error) as caught:
        eval(source, {"F": F, "n": nn, "r": mg.randn})
    message = str(caught.value)
    assert says in message
    assert re.search(r"expect|need|take|divide|give|get|know|crop|leave|use|no place", message)
    assert re.search(r"got|of \(", message), "what came is missing"


def test_a_number_of_features_that_makes_no_difference_is_remarked() -> None:
    with pytest.warns(UserWarning, match="axis 1 has 4, not 3; with affine=False"):
        nn.InstanceNorm2d(3)(mg.randn(2, 4, 4, 4))
