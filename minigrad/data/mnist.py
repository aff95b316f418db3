"""MNIST: 28 x 28 grey images of handwritten digits, from the four IDX files it comes in.

Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits (1998). Data sets
in files of the same names and shapes (Fashion-MNIST, KMNIST) are read alike.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from minigrad.creation import randperm
from minigrad.data.dataset import TensorDataset
from minigrad.data.idx import read_images
from minigrad.generator import Generator


class MNIST(TensorDataset):
    """The training or the test images of MNIST with their labels, out of a folder.

    Shapes: images (N, 1, 28, 28), float32 in [0, 1]; labels (N,), int64 in 0..9. N is 60,000 for
    the training files, 10,000 for the test files.

    Args:
        root: the folder with ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
            ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, each with ``.gz`` or without.
        train: the ``train`` pair, or the ``t10k`` pair.

    Raises:
        FileNotFoundError: a file that is not in the folder.
        ValueError: a file that is damaged or holds something else.

    Differs: torchvision's yields PIL images and Python ints until transforms make them tensors.
    """

    def __init__(self, root: str | PathLike[str], train: bool = True) -> None:
        part = "train" if train else "t10k"
        images, labels = read_images(
            find(root, f"{part}-images-idx3-ubyte"),
            find(root, f"{part}-labels-idx1-ubyte"),
            size=(28, 28),
        )
        super().__init__(images.float() / 255, labels)


def load_mnist(root: str | PathLike[str]) -> tuple[TensorDataset, TensorDataset]:
    """(training set, test set) of the MNIST files in a folder; see ``MNIST``.

    With all four files these are the official 60,000 and 10,000 images. With the ``t10k`` pair
    alone, its 10,000 images are split into 8,000 and 2,000 by a permutation that is always the
    same (the first half of that file is easier than the second). Numbers obtained on that split
    are not comparable with those on the 60,000/10,000 split: say so beside them.

    Raises:
        FileNotFoundError: a folder without the ``t10k`` pair, or with half of the ``train`` pair.
        ValueError: a file that is damaged or holds something else.
    """
    if any(Path(root).glob("train-*-ubyte*")):
        return MNIST(root, train=True), MNIST(root, train=False)
    t10k = MNIST(root, train=False)
    order = randperm(len(t10k), generator=Generator().manual_seed(0))
    split = len(t10k) * 4 // 5
    return TensorDataset(*t10k[order[:split]]), TensorDataset(*t10k[order[split:]])


def find(root: str | PathLike[str], name: str) -> Path:
    """The file ``name`` or ``name.gz`` in a folder."""
    for file in Path(root) / name, Path(root) / f"{name}.gz":
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"MNIST expects {name} or {name}.gz in {root}, and there is none; pass the folder that "
        "holds the files of the data set."
    )
