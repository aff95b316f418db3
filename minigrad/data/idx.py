"""The IDX format of the MNIST files: an array of one dtype, big-endian, under a header.

====================  =============================================================
bytes 0 and 1         zero
byte 2                the dtype: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64
byte 3                the number of axes
4 bytes an axis       its length, a big-endian integer
the rest              the values, row by row
====================  =============================================================

Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits (1998).
"""

from __future__ import annotations

import gzip
import zlib
from math import prod
from os import PathLike
from pathlib import Path

import numpy as np

from minigrad.creation import from_numpy
from minigrad.dtypes import Dtype, float32, float64, int8, int16, int32, uint8
from minigrad.tensor import Tensor

DTYPES: dict[int, Dtype] = {
    0x08: uint8,
    0x09: int8,
    0x0B: int16,
    0x0C: int32,
    0x0D: float32,
    0x0E: float64,
}


def read_idx(path: str | PathLike[str]) -> Tensor:
    """The array in an IDX file, compressed by gzip or not, in the dtype the file names.

    Raises:
        ValueError: a file that is no IDX file, is cut off, or goes on after the last value.
    """
    content = read_bytes(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in DTYPES:
        codes = ", ".join(f"{code:02x}" for code in DTYPES)
        raise ValueError(
            f"{path} is not an IDX file: expected it to start with 00 00, one of {codes}, and the "
            f"number of axes, got {content[:4].hex(' ') or 'an empty file'}."
        )
    dtype, ndim = DTYPES[content[2]], content[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise ValueError(
            f"{path} is cut off: expected a header of {start} bytes for {ndim} axes, got "
            f"{len(content)}; fetch the file again."
        )
    shape = tuple(np.frombuffer(content, ">u4", ndim, offset=4).tolist())
    expected = start + prod(shape) * dtype.itemsize
    if len(content) != expected:
        wrong = "is cut off" if len(content) < expected else "is longer than its header says"
        raise ValueError(
            f"{path} {wrong}: expected {expected} bytes for {dtype} of shape {shape}, got "
            f"{len(content)}; fetch the file again."
        )
    values = np.frombuffer(content, dtype.newbyteorder(">"), offset=start)
    return from_numpy(values.astype(dtype).reshape(shape))


def read_images(
    images: str | PathLike[str], labels: str | PathLike[str], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Grey images and their labels from two IDX files, as in MNIST.

    Shapes: images (N, 1, height, width), uint8; labels (N,), int64 in 0..9.

    Args:
        size: the (height, width) expected.

    Raises:
        ValueError: files that hold something else, or do not belong together.
    """
    x, y = read_idx(images), read_idx(labels)
    if x.dtype != uint8 or x.shape[1:] != size or x.ndim != 3:
        raise ValueError(
            f"{images}: expected uint8 images of shape (N, {size[0]}, {size[1]}), got {x.dtype} of "
            f"shape {x.shape}."
        )
    if y.dtype != uint8 or y.shape != (len(x),):
        raise ValueError(
            f"{labels}: expected uint8 labels of shape ({len(x)},), one an image of {images}, got "
            f"{y.dtype} of shape {y.shape}; both files must come from the same set."
        )
    if len(y) and y.max() > 9:
        raise ValueError(f"{labels}: expected labels from 0 to 9, got {y.max().item()}.")
    return x.unsqueeze(1), y.long()


def read_bytes(path: str | PathLike[str]) -> bytes:
    """The content of a file, decompressed where it is gzip's (by its first bytes, not its name)."""
    content = Path(path).read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}; fetch the file again.") from None
