"""The bundled data set: 1,797 handwritten digits as 8 x 8 grey images, there without a download.

Each pixel counts, 0 to 16, the inked points in a 4 x 4 block of a 32 x 32 bitmap. The 1,797 are the
test set of the original, written by 13 people; the images here are split anew, so the same hands
wrote training and test digits.

Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits (1998), UCI Machine
Learning Repository, doi 10.24432/C50P49, licence CC BY 4.0; see LICENSE-digits.md beside this file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minigrad.data.dataset import TensorDataset
from minigrad.data.idx import read_images
from minigrad.generator import Generator, rng_of


def load_digits(test_fraction: float = 0.2, seed: int = 0) -> tuple[TensorDataset, TensorDataset]:
    """(training set, test set) of the bundled 8 x 8 digits: 1,438 and 359 of them by default.

    The split is drawn from ``seed``, class by class, so that every digit has its share of the test
    set (to the nearest whole number).

    Shapes: images (N, 1, 8, 8), float32 in [0, 1]; labels (N,), int64 in 0..9.

    Args:
        test_fraction: the share of the test set, from 0 up to but without 1.

    Example:
        >>> train, test = load_digits()
        >>> len(train), len(test)
        (1438, 359)
    """
    if not 0 <= test_fraction < 1:
        raise ValueError(f"test_fraction must be at least 0 and below 1, got {test_fraction}.")
    folder = Path(__file__).parent
    images, labels = read_images(
        folder / "digits-images-idx3-ubyte.gz", folder / "digits-labels-idx1-ubyte.gz", size=(8, 8)
    )
    images, classes = images.float() / 16, labels.numpy()
    rng = rng_of(Generator().manual_seed(seed))
    in_test = np.zeros(len(classes), bool)
    for digit in range(10):
        places = rng.permutation(np.flatnonzero(classes == digit))
        in_test[places[: round(len(places) * test_fraction)]] = True
    train, test = np.flatnonzero(~in_test), np.flatnonzero(in_test)
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test])
