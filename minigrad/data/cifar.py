"""CIFAR-10: 32 x 32 colour images of ten kinds of things, from the files of its binary version.

A file is a row of records of 3,073 bytes: the label, then 1,024 bytes red, 1,024 green, 1,024 blue,
each row by row.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009).
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np

from minigrad.creation import from_numpy
from minigrad.data.dataset import TensorDataset
from minigrad.functions import cat
from minigrad.tensor import Tensor

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
RECORD = 1 + 3 * 32 * 32


def load_cifar10(root: str | PathLike[str]) -> tuple[TensorDataset, TensorDataset]:
    """(training set, test set) of the CIFAR-10 files in a folder (``cifar-10-batches-bin``).

    The training set joins every ``data_batch_*.bin`` there, in the order of their names (the five
    official ones hold 10,000 images each); the test set is ``test_batch.bin``. ``cifar.CLASSES``
    names the labels.

    Shapes: images (N, 3, 32, 32), float32 in [0, 1]; labels (N,), int64 in 0..9.

    Raises:
        FileNotFoundError: no training file, or no test file.
        ValueError: a file that is not made of CIFAR-10's records.
    """
    parts = []
    for pattern in "data_batch_*.bin", "test_batch.bin":
        files = sorted(Path(root).glob(pattern))
        if not files:
            raise FileNotFoundError(
                f"CIFAR-10 expects {pattern} in {root}, and there is none; pass the folder that "
                "holds the files of the binary version (cifar-10-batches-bin)."
            )
        images, labels = zip(*map(read_cifar10, files), strict=True)
        parts.append(TensorDataset(cat(images).float() / 255, cat(labels)))
    return parts[0], parts[1]


def read_cifar10(path: str | PathLike[str]) -> tuple[Tensor, Tensor]:
    """The images (N, 3, 32, 32), uint8, and labels (N,), int64, of one file.

    Raises:
        ValueError: a size that is no multiple of 3,073 bytes, or a label above 9.
    """
    content = np.fromfile(path, np.uint8)
    if not content.size or content.size % RECORD:
        raise ValueError(
            f"{path} is no CIFAR-10 file: expected a multiple of {RECORD} bytes (a label and a "
            f"3 x 32 x 32 image), got {content.size}; the binary version is needed, complete."
        )
    records = content.reshape(-1, RECORD)
    labels = records[:, 0]
    if labels.max() > 9:
        raise ValueError(
            f"{path} is no CIFAR-10 file: expected labels from 0 to 9, got {labels.max()} in "
            f"record {labels.argmax()}; CIFAR-100's records have two labels and are not read."
        )
    images = records[:, 1:].reshape(-1, 3, 32, 32)
    return from_numpy(images), from_numpy(labels.astype(np.int64))
