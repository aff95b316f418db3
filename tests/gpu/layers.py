"""A row for every module: how it is made, and what it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn


def real(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).uniform(-1, 1, shape)


def positive(*shape: int) -> Any:
    return np.abs(real(*shape)) + 0.1


def places(high: int, *shape: int) -> Any:
    return np.random.default_rng(high).integers(0, high, shape)


def signs(*shape: int) -> Any:
    return np.sign(real(*shape))


image, sequence, rows = real(4, 4, 6, 6), real(4, 4, 8), real(6, 4)
Row = tuple[Callable[[], Any], tuple[Any, ...]]

ACTIVATIONS = [
    "CELU",
    "ELU",
    "GELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SELU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Identity",
]  # of one argument
ROWS: dict[str, Row] = {name: (getattr(nn, name), (rows,)) for name in ACTIVATIONS}
ROWS |= {
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(3), (sequence,)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(4), (image,)),
    "AdaptiveMaxPool1d": (lambda: nn.AdaptiveMaxPool1d(3), (sequence,)),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d(4), (image,)),
    "AvgPool1d": (lambda: nn.AvgPool1d(3, 2, 1), (sequence,)),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1), (image,)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4), (rows,)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), (image,)),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(2), (real(3, 2, 2, 3, 2),)),
    "BatchRenorm1d": (lambda: nn.BatchRenorm1d(4), (rows,)),
    "BatchRenorm2d": (lambda: nn.BatchRenorm2d(4), (image,)),
    "Bilinear": (lambda: nn.Bilinear(4, 3, 2), (rows, real(6, 3))),
    "ConstantPad1d": (lambda: nn.ConstantPad1d(2, 1.5), (sequence,)),
    "ConstantPad2d": (lambda: nn.ConstantPad2d(2, 1.5), (image,)),
    "ConstantPad3d": (lambda: nn.ConstantPad3d(1, 1.5), (real(1, 1, 2, 2, 2),)),
    "Conv1d": (lambda: nn.Conv1d(4, 2, 3, padding=1), (sequence,)),
    "Conv2d": (lambda: nn.Conv2d(4, 2, 3, 2, 1, groups=2), (image,)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 2, 3, 2), (sequence,)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 2, 3, 2), (image,)),
    "CosineSimilarity": (lambda: nn.CosineSimilarity(), (rows, real(6, 4) + 1)),
    "Embedding": (lambda: nn.Embedding(5, 3, padding_idx=1), (places(5, 4, 2),)),
    "Flatten": (lambda: nn.Flatten(), (image,)),
    "Fold": (lambda: nn.Fold((5, 6), 3, padding=1), (real(2, 18, 30),)),
    "GLU": (lambda: nn.GLU(), (rows,)),
    "GRU": (lambda: nn.GRU(4, 3, 2), (real(5, 2, 4),)),
    "GRUCell": (lambda: nn.GRUCell(4, 3), (rows,)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (image,)),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(4, affine=True), (sequence,)),
    "InstanceNorm2d": (
        lambda: nn.InstanceNorm2d(4, track_running_stats=True),
        (image,),
    ),
    "InstanceNorm3d": (lambda: nn.InstanceNorm3d(2), (real(3, 2, 2, 3, 2),)),
    "LSTM": (lambda: nn.LSTM(4, 3, bidirectional=True), (real(5, 2, 4),)),
    "LSTMCell": (lambda: nn.LSTMCell(4, 3), (rows,)),
    "LayerNorm": (lambda: nn.LayerNorm(4), (rows,)),
    "Linear": (lambda: nn.Linear(4, 3), (rows,)),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3), (image,)),
    "LogSoftmax": (lambda: nn.LogSoftmax(-1), (rows,)),
    "MaxPool1d": (lambda: nn.MaxPool1d(2), (sequence,)),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1), (image,)),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(4, 2), (real(5, 2, 4),) * 3),
    "PairwiseDistance": (lambda: nn.PairwiseDistance(), (rows, real(6, 4) + 1)),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), (image,)),
    "PixelUnshuffle": (lambda: nn.PixelUnshuffle(2), (image,)),
    "RMSNorm": (lambda: nn.RMSNorm(4), (rows,)),
    "RNN": (lambda: nn.RNN(4, 3), (real(5, 2, 4),)),
    "RNNCell": (lambda: nn.RNNCell(4, 3), (rows,)),
    "ReflectionPad1d": (lambda: nn.ReflectionPad1d(2), (sequence,)),
    "ReflectionPad2d": (lambda: nn.ReflectionPad2d(2), (image,)),
    "ReflectionPad3d": (lambda: nn.ReflectionPad3d(1), (real(1, 1, 2, 2, 2),)),
    "ReplicationPad1d": (lambda: nn.ReplicationPad1d(2), (sequence,)),
    "ReplicationPad2d": (lambda: nn.ReplicationPad2d(2), (image,)),
    "ReplicationPad3d": (lambda: nn.ReplicationPad3d(1), (real(1, 1, 2, 2, 2),)),
    "CircularPad1d": (lambda: nn.CircularPad1d(2), (sequence,)),
    "CircularPad2d": (lambda: nn.CircularPad2d(2), (image,)),
    "CircularPad3d": (lambda: nn.CircularPad3d(1), (real(1, 1, 2, 2, 2),)),
    "ZeroPad1d": (lambda: nn.ZeroPad1d(2), (sequence,)),
    "ZeroPad2d": (lambda: nn.ZeroPad2d(2), (image,)),
    "ZeroPad3d": (lambda: nn.ZeroPad3d(1), (real(1, 1, 2, 2, 2),)),
    "Softmax": (lambda: nn.Softmax(-1), (rows,)),
    "Softmax2d": (lambda: nn.Softmax2d(), (image,)),
    "Softmin": (lambda: nn.Softmin(-1), (rows,)),
    "Threshold": (lambda: nn.Threshold(0.1, 2.0), (rows,)),
    "TransformerEncoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 5, 0.0), 2),
        (real(5, 2, 4),),
    ),
    "TransformerEncoderLayer": (
        lambda: nn.TransformerEncoderLayer(4, 2, 5, 0.0),
        (real(5, 2, 4),),
    ),
    "Unflatten": (lambda: nn.Unflatten(1, (2, 2)), (rows,)),
    "Unfold": (lambda: nn.Unfold(3, padding=1), (image,)),
    "Upsample": (lambda: nn.Upsample(scale_factor=1.5, mode="bilinear"), (image,)),
    "UpsamplingBilinear2d": (lambda: nn.UpsamplingBilinear2d((7, 9)), (image,)),
    "UpsamplingNearest2d": (lambda: nn.UpsamplingNearest2d((7, 9)), (image,)),
    # losses
    "BCELoss": (nn.BCELoss, (positive(6, 4) / 2, places(2, 6, 4).astype(float))),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss, (rows, places(2, 6, 4).astype(float))),
    "CosineEmbeddingLoss": (nn.CosineEmbeddingLoss, (rows, real(6, 4) + 1, signs(6))),
    "CrossEntropyLoss": (nn.CrossEntropyLoss, (rows, places(4, 6))),
    "GaussianNLLLoss": (nn.GaussianNLLLoss, (rows, real(6, 4) + 1, positive(6, 4))),
    "HingeEmbeddingLoss": (nn.HingeEmbeddingLoss, (rows, signs(6, 4))),
    "HuberLoss": (nn.HuberLoss, (rows, real(6, 4) + 1)),
    "KLDivLoss": (lambda: nn.KLDivLoss(reduction="batchmean"), (rows, positive(6, 4))),
    "L1Loss": (nn.L1Loss, (rows, real(6, 4) + 1)),
    "MSELoss": (nn.MSELoss, (rows, real(6, 4) + 1)),
    "MarginRankingLoss": (nn.MarginRankingLoss, (real(6), real(6) + 1, signs(6))),
    "MultiLabelSoftMarginLoss": (
        nn.MultiLabelSoftMarginLoss,
        (rows, places(2, 6, 4).astype(float)),
    ),
    "NLLLoss": (nn.NLLLoss, (rows, places(4, 6))),
    "PoissonNLLLoss": (nn.PoissonNLLLoss, (rows, positive(6, 4))),
    "SmoothL1Loss": (nn.SmoothL1Loss, (rows, real(6, 4) + 1)),
    "SoftMarginLoss": (nn.SoftMarginLoss, (rows, signs(6, 4))),
    "TripletMarginLoss": (nn.TripletMarginLoss, (rows, real(6, 4) + 1, real(6, 4) * 2)),
    # what holds others
    "Sequential": (lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (rows,)),
}

#: Modules without a row, and why.
WITHOUT = {
    "Module": "a base class",
    "RNNBase": "a base class",
    "RNNCellBase": "a base class",
    "Parameter": "a tensor",
    "Buffer": "a tensor",
    "ModuleList": "has no forward",
    "ModuleDict": "has no forward",
    "ParameterList": "has no forward",
    "ParameterDict": "has no forward",
    "Ramp": "a number that changes",
    "Dropout": "random: see test_devices",
    "Dropout1d": "random: see test_devices",
    "Dropout2d": "random: see test_devices",
    "Dropout3d": "random: see test_devices",
    "AlphaDropout": "random: see test_devices",
}


def outcome(name: str, place: str, train: bool = True) -> list[Any]:
    """Value, gradients and buffers of a row on a device, as NumPy arrays."""
    make, inputs = ROWS[name]
    mg.manual_seed(0)
    module = make().double().to(place).train(train)
    tensors = [mg.tensor(x).to(place) for x in inputs]
    for t in tensors:
        t.requires_grad_(t.dtype.kind == "f")
    y = module(*tensors)
    y = [t for part in (y if isinstance(y, tuple) else [y]) for t in flat(part)]
    loss = sum((t * t).sum() for t in y if t.requires_grad)
    if y[0].requires_grad:
        loss.backward()
    given = [*tensors, *module.parameters()]
    found = [*y, *(t.grad for t in given if t.grad is not None), *module.buffers()]
    assert {t.device.type for t in found} == {place}
    return [t.detach().cpu().numpy() for t in found]


def flat(x: Any) -> list[Any]:
    return [t for e in x for t in flat(e)] if isinstance(x, tuple) else [x]
