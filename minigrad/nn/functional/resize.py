"""Images in other sizes: interpolation, and channels rearranged as pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.backends import backend_of
from minigrad.errors import DtypeError, ShapeError
from minigrad.nn.functional.pool import adaptive_avg_pool1d, adaptive_avg_pool2d
from minigrad.shapes import Shape
from minigrad.tensor import Tensor, apply, wrap

#: Each mode, and how many axes the input has.
MODES = {
    "nearest": (3, 4, 5),
    "nearest-exact": (3, 4, 5),
    "linear": (3,),
    "bilinear": (4,),
    "bicubic": (4,),
    "area": (3, 4),
}


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """The input in another size.

    Output cell i of an axis looks at the source place
        (i + ½) · scale - ½,  scale = size before / size after (or 1 / scale_factor)
    and with ``align_corners`` at i · (before - 1) / (after - 1), where the first and last cells lie
    on one another. ``"linear"``, ``"bilinear"`` and ``"bicubic"`` weigh the 2 or 4 cells an axis
    around that place: a linear map of each axis, computed as A x Bᵀ. ``"area"`` is adaptive average
    pooling.

    Shapes: input (N, C, L), (N, C, H, W), or with a nearest mode also (N, C, D, H, W).
    Args:
        size, scale_factor: one of them; a number for every axis, or one for each.
        mode: ``"nearest"`` (cell floor(i · scale); ``"nearest-exact"``: floor((i + ½) · scale)),
            ``"linear"``, ``"bilinear"``, ``"bicubic"``, ``"area"``.
        recompute_scale_factor: take scale from the sizes even where scale_factor is given.
        antialias: not there; False alone.
    Source: Keys (1981), "Cubic convolution interpolation", with a = -0.75 (PyTorch's, OpenCV's).
    Differs: Pillow's bicubic has a = -0.5, and it filters when it shrinks.
    """
    _check_mode(input, mode, align_corners, antialias)
    axes = input.ndim - 2
    if (size is None) == (scale_factor is None):
        raise ShapeError(
            "interpolate expects either size or scale_factor, got "
            f"{'neither' if size is None else 'both'}."
        )
    if size is not None and recompute_scale_factor:
        raise ShapeError("interpolate with a size has no scale_factor to recompute; leave it out.")
    after = _per_axis(size if scale_factor is None else scale_factor, axes, input.shape)
    before = input.shape[2:]
    scales: tuple[float | None, ...] = (None,) * axes
    if scale_factor is not None:
        scales = scales if recompute_scale_factor or mode == "area" else after
        after = tuple(int(n * s) for n, s in zip(before, after, strict=True))
    elif not all(hasattr(n, "__index__") for n in after):
        raise TypeError(f"interpolate expects a size of ints, got {size}; or give scale_factor.")
    if min(*before, *after, input.shape[1]) < 1:
        raise ShapeError(
            f"interpolate needs sizes of at least 1, got {input.shape} and an output of {after}."
        )
    if mode == "area":
        return (adaptive_avg_pool1d if axes == 1 else adaptive_avg_pool2d)(input, after)
    if mode.startswith("nearest"):
        for axis, (n, m, s) in enumerate(zip(before, after, scales, strict=True), start=2):
            input = _taken(input, axis, _nearest(n, m, s, mode == "nearest-exact"))
        return input
    weigh = _cubic if mode == "bicubic" else _linear
    xp = backend_of(input.array)
    maps = [
        wrap(xp.constant(weigh(n, m, s, bool(align_corners)).astype(input.dtype), input.device))
        for n, m, s in zip(before, after, scales, strict=True)
    ]
    y = input @ maps[-1].T
    return y if axes == 1 else maps[0] @ y


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels as pixels: (*, C r², H, W) -> (*, C, H r, W r).

    Source: Shi et al. (2016), arXiv:1609.05158, eq. 4.
    """
    r = _factor("pixel_shuffle", input, upscale_factor)
    *rest, channels, h, w = input.shape
    if channels % (r * r):
        raise ShapeError(
            f"pixel_shuffle by {r} expects (*, C · {r * r}, H, W), got {input.shape}: {channels} "
            f"channels are no multiple of {r * r}."
        )
    k, c = len(rest), channels // (r * r)
    y = input.reshape(*rest, c, r, r, h, w).permute(*range(k + 1), k + 3, k + 1, k + 4, k + 2)
    return y.reshape(*rest, c, h * r, w * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Pixels as channels: (*, C, H r, W r) -> (*, C r², H, W); pixel_shuffle undone."""
    r = _factor("pixel_unshuffle", input, downscale_factor)
    *rest, c, height, width = input.shape
    if height % r or width % r:
        raise ShapeError(
            f"pixel_unshuffle by {r} expects (*, C, H · {r}, W · {r}), got {input.shape}; pad or "
            "crop the image to a multiple."
        )
    k, h, w = len(rest), height // r, width // r
    y = input.reshape(*rest, c, h, r, w, r).permute(*range(k + 1), k + 2, k + 4, k + 1, k + 3)
    return y.reshape(*rest, c * r * r, h, w)


def _factor(name: str, input: Tensor, factor: int) -> int:
    if not hasattr(factor, "__index__"):
        raise TypeError(f"{name} expects an int as its factor, got {factor!r}.")
    if factor < 1:
        raise ShapeError(f"{name} needs a factor of at least 1, got {factor}.")
    if input.ndim < 3:
        raise ShapeError(f"{name} expects (*, C, H, W), got {input.shape}.")
    return int(factor)


def _check_mode(input: Tensor, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if align_corners is not None and mode in ("nearest", "nearest-exact", "area"):
        raise ShapeError(
            f"interpolate takes align_corners with linear, bilinear and bicubic, got it with "
            f"{mode!r}; leave it out."
        )
    if antialias:
        raise ShapeError("interpolate has no antialias, got True; blur the image before.")
    if mode not in MODES or input.ndim not in MODES[mode]:
        known = ", ".join(f"{m} ({' or '.join(map(str, k))} axes)" for m, k in MODES.items())
        raise NotImplementedError(
            f"interpolate knows {known}; got mode {mode!r} and an input of {input.shape}."
        )
    if input.dtype.kind != "f":
        raise DtypeError(f"interpolate expects floating values, got {input.dtype}; use x.float().")


def _per_axis(given: Any, axes: int, shape: Shape) -> tuple[Any, ...]:
    if not isinstance(given, Sequence):
        return (given,) * axes
    if len(given) != axes:
        raise ShapeError(
            f"interpolate of {shape} expects a number or {axes} of them, one for each axis after "
            f"(N, C), got {tuple(given)}."
        )
    return tuple(given)


def _nearest(before: int, after: int, scale_factor: float | None, exact: bool) -> Any:
    """The source place of every output; in float32, as PyTorch computes it."""
    i = np.arange(after)
    if not exact and after in (before, 2 * before):
        return i // (after // before)
    step = np.float32(1 / scale_factor if scale_factor else np.float32(before) / np.float32(after))
    place = (i.astype(np.float32) + np.float32(0.5 if exact else 0)) * step
    return np.minimum(np.floor(place).astype(np.int64), before - 1)


def _taken(input: Tensor, axis: int, places: Any) -> Tensor:
    """``input`` at ``places`` of an axis; as a view where each stands equally often in a row."""
    n, m = input.shape[axis], len(places)
    shape = input.shape
    if not m % n and (places == np.arange(m) // (m // n)).all():
        wide = input.unsqueeze(axis + 1).expand(*shape[: axis + 1], m // n, *shape[axis + 1 :])
        return wide.reshape(*shape[:axis], m, *shape[axis + 1 :])
    xp = backend_of(input.array)
    index = (slice(None),) * axis + (xp.constant(places, input.device),)
    return apply(ops.Index(index), input)


def _source(before: int, after: int, scale_factor: float | None, align_corners: bool) -> Any:
    i = np.arange(after)
    if align_corners:
        return i * ((before - 1) / (after - 1) if after > 1 else 0.0)
    return (i + 0.5) * (1 / scale_factor if scale_factor else before / after) - 0.5


def _linear(before: int, after: int, scale_factor: float | None, align_corners: bool) -> Any:
    """The weights (after, before): two neighbours a row."""
    place = np.maximum(_source(before, after, scale_factor, align_corners), 0)
    if after == before:
        place = np.arange(after, dtype=np.float64)
    low = np.minimum(np.floor(place).astype(np.int64), before - 1)
    share = np.clip(place - low, 0, 1)
    rows, weights = np.arange(after), np.zeros((after, before))
    weights[rows, low] = 1 - share
    weights[rows, np.minimum(low + 1, before - 1)] += share
    return weights


def _cubic(before: int, after: int, scale_factor: float | None, align_corners: bool) -> Any:
    """The weights (after, before): four neighbours a row, by Keys' cubic with a = -0.75."""
    place = _source(before, after, scale_factor, align_corners)
    low = np.floor(place).astype(np.int64)
    t, a = place - low, -0.75

    def near(d: Any) -> Any:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    rows, weights = np.arange(after), np.zeros((after, before))
    for shift, part in ((-1, far(t + 1)), (0, near(t)), (1, near(1 - t)), (2, far(2 - t))):
        np.add.at(weights, (rows, np.clip(low + shift, 0, before - 1)), part)
    return weights
