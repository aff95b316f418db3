"""Readers of IDX, MNIST and CIFAR-10 files, and the bundled digits."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import minigrad as mg
from minigrad import data
from minigrad.data import MNIST, load_cifar10, load_digits, load_mnist, read_cifar10, read_idx
from minigrad.data.cifar import CLASSES

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array, code=None):
    """An array in the IDX format, written from its description, not with the reader's table."""
    code = code or CODES[array.dtype.str[1:]]
    header = struct.pack(">HBB", 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(folder, name, array):
    content = idx_bytes(array)
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def write_mnist(folder, part, n=5, suffix="", seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 28, 28), np.uint8)
    labels = np.arange(n, dtype=np.uint8) % 10
    write(folder, f"{part}-images-idx3-ubyte{suffix}", images)
    write(folder, f"{part}-labels-idx1-ubyte{suffix}", labels)
    return images, labels


# ---- IDX ----------------------------------------------------------------------------------------

any_array = st.sampled_from(sorted(CODES)).flatmap(
    lambda code: arrays(code, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)


@given(any_array, st.booleans())
def test_idx_round_trip(tmp_path_factory, array, compressed):
    path = tmp_path_factory.mktemp("idx") / "array"
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content) if compressed else content)
    read = read_idx(path)
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    assert read.numpy().dtype.isnative
    assert np.array_equal(read.numpy(), array, equal_nan=array.dtype.kind == "f")


def test_idx_example_of_the_format(tmp_path):
    path = tmp_path / "two-shorts"
    path.write_bytes(bytes.fromhex("00 00 0b 02  00000001 00000002  0102 fffe"))
    read = read_idx(str(path))
    assert (read.dtype, read.tolist()) == (mg.int16, [[258, -2]])
    read += 1  # the memory is the tensor's own


@pytest.mark.parametrize("content", [b"", b"\0\0", b"PNG.", b"\0\1\x08\1", b"\0\0\x0a\1\0\0\0\0"])
def test_idx_refuses_another_format(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not an IDX file: expected it to start with 00 00"):
        read_idx(path)


@pytest.mark.parametrize(
    ("length", "says"),
    [
        (6, "expected a header of 12 bytes for 2 axes, got 6"),
        (12, r"is cut off: expected 24 bytes for int16 of shape \(2, 3\), got 12"),
        (23, "expected 24 bytes .* got 23"),
        (25, "is longer than its header says: expected 24 bytes .* got 25"),
    ],
)
def test_idx_refuses_another_size(tmp_path, length, says):
    path = tmp_path / "file"
    path.write_bytes((idx_bytes(np.ones((2, 3), np.int16)) + b"\0")[:length])
    with pytest.raises(ValueError, match=says):
        read_idx(path)


def test_idx_refuses_damaged_gzip(tmp_path):
    path = tmp_path / "file"
    content = gzip.compress(idx_bytes(np.arange(100, dtype=np.int32)))
    flipped = bytearray(content)
    flipped[-6] ^= 0xFF  # in the checksum
    for damaged in content[:-20], content[:5], bytes(flipped):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"is damaged: .*; fetch the file again"):
            read_idx(path)


def test_idx_of_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "nothing")


# ---- MNIST --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_official_split(tmp_path, suffix):
    images, labels = write_mnist(tmp_path, "train", 7, suffix)
    write_mnist(tmp_path, "t10k", 3, suffix, seed=1)
    train, test = load_mnist(tmp_path)
    assert (len(train), len(test)) == (7, 3)
    x, y = train.tensors
    assert (x.dtype, x.shape, y.dtype, y.shape) == (mg.float32, (7, 1, 28, 28), mg.int64, (7,))
    assert np.array_equal(x.numpy()[:, 0], images / np.float32(255))
    assert y.tolist() == labels.tolist()
    assert np.array_equal(MNIST(tmp_path, train=False).tensors[0], test.tensors[0])


def test_mnist_split_of_the_test_files(tmp_path):
    images, _ = write_mnist(tmp_path, "t10k", 20)
    train, test = load_mnist(tmp_path)
    assert (len(train), len(test)) == (16, 4)
    joined = np.concatenate([train.tensors[0], test.tensors[0]])[:, 0]
    assert sorted(map(bytes, joined)) == sorted(map(bytes, images / np.float32(255)))
    mg.manual_seed(5)  # the split does not depend on it, nor draws from it
    state = mg.get_rng_state()
    again, _ = load_mnist(tmp_path)
    assert np.array_equal(again.tensors[0], train.tensors[0])
    assert mg.get_rng_state() == state


def test_mnist_says_what_is_missing(tmp_path):
    for root in tmp_path, tmp_path / "nowhere":
        with pytest.raises(FileNotFoundError, match=r"t10k-images-idx3-ubyte or .*\.gz in "):
            load_mnist(root)
    write_mnist(tmp_path, "t10k")
    write_mnist(tmp_path, "train")
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="train-labels-idx1-ubyte"):
        load_mnist(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        ("images-idx3", np.zeros((5, 28, 27), np.uint8), r"\(N, 28, 28\), got uint8 .* 27\)"),
        ("images-idx3", np.zeros((5, 28, 28), np.int16), "expected uint8 images .* got int16"),
        ("images-idx3", np.zeros((), np.uint8), r"got uint8 of shape \(\)"),
        ("labels-idx1", np.zeros(4, np.uint8), r"labels of shape \(5,\), .* got uint8 of .*\(4,\)"),
        ("labels-idx1", np.full(5, 10, np.uint8), "labels from 0 to 9, got 10"),
    ],
)
def test_mnist_refuses_other_contents(tmp_path, name, array, says):
    write_mnist(tmp_path, "train")
    write(tmp_path, f"train-{name}-ubyte", array)
    with pytest.raises(ValueError, match=says):
        MNIST(tmp_path)


def test_mnist_takes_the_fast_path(tmp_path):
    write_mnist(tmp_path, "train")
    assert data.dataset.Rows.of(MNIST(tmp_path)) is not None


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="the MNIST test files are not there")
def test_mnist_itself():
    train, test = load_mnist(SHARED / "mnist")
    assert (len(train), len(test)) == (8000, 2000)
    x, y = (np.concatenate([a, b]) for a, b in zip(train.tensors, test.tensors, strict=True))
    # the known numbers of each digit among the 10,000, and the mean pixel
    assert np.bincount(y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert x.mean(dtype=np.float64) == pytest.approx(0.1325, abs=5e-5)
    assert MNIST(SHARED / "mnist", train=False).tensors[1][:10].tolist() == [
        *(7, 2, 1, 0, 4, 1, 4, 9, 5, 9)
    ]


# ---- CIFAR-10 -----------------------------------------------------------------------------------


def write_cifar(path, labels, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 3, 32, 32), np.uint8)
    rows = np.column_stack([np.array(labels, np.uint8), images.reshape(len(labels), -1)])
    path.write_bytes(rows.tobytes())
    return images


def test_cifar_joins_the_batches(tmp_path):
    first = write_cifar(tmp_path / "data_batch_1.bin", [3, 9])
    second = write_cifar(tmp_path / "data_batch_2.bin", [0, 1, 2], seed=1)
    write_cifar(tmp_path / "test_batch.bin", [5], seed=2)
    train, test = load_cifar10(tmp_path)
    x, y = train.tensors
    assert (x.dtype, x.shape, y.dtype) == (mg.float32, (5, 3, 32, 32), mg.int64)
    assert np.array_equal(x, np.concatenate([first, second]) / np.float32(255))
    assert (y.tolist(), test.tensors[1].tolist()) == ([3, 9, 0, 1, 2], [5])
    raw, _ = read_cifar10(tmp_path / "data_batch_1.bin")
    assert (raw.dtype, np.array_equal(raw, first)) == (mg.uint8, True)
    assert len(CLASSES) == 10


def test_cifar_order_of_colours(tmp_path):
    path = tmp_path / "one.bin"
    path.write_bytes(bytes([7]) + b"\x10" * 1024 + b"\x20" * 1024 + b"\x30" * 1023 + b"\x31")
    images, labels = read_cifar10(path)
    assert (labels.item(), CLASSES[labels.item()]) == (7, "horse")
    assert [images[0, c, 0, 0].item() for c in range(3)] == [0x10, 0x20, 0x30]
    assert images[0, 2, 31, 31].item() == 0x31


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "expected a multiple of 3073 bytes .* got 0"),
        (bytes(3072), "got 3072"),
        (bytes(3073) + bytes([10]) + bytes(3072), "labels from 0 to 9, got 10 in record 1"),
    ],
)
def test_cifar_refuses_another_format(tmp_path, content, says):
    path = tmp_path / "file.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says):
        read_cifar10(path)


def test_cifar_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data_batch_\*\.bin in "):
        load_cifar10(tmp_path)
    write_cifar(tmp_path / "data_batch_4.bin", [1])
    with pytest.raises(FileNotFoundError, match=r"test_batch\.bin in "):
        load_cifar10(tmp_path)


@pytest.mark.skipif(not (SHARED / "cifar10").is_dir(), reason="the CIFAR-10 files are not there")
def test_cifar_itself():
    train, test = load_cifar10(SHARED / "cifar10")
    assert train.tensors[0].shape == (10000, 3, 32, 32)
    assert np.bincount(train.tensors[1]).tolist() == [1000] * 10
    assert np.bincount(test.tensors[1]).tolist() == [200] * 10
    # the well-known means of the channels of the 50,000
    mean = train.tensors[0].mean((0, 2, 3)).tolist()
    assert mean == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.005)


# ---- digits -------------------------------------------------------------------------------------


def test_digits_shapes_and_ranges():
    train, test = load_digits()
    for part, n in (train, 1438), (test, 359):
        x, y = part.tensors
        assert (x.dtype, x.shape, y.dtype, y.shape) == (mg.float32, (n, 1, 8, 8), mg.int64, (n,))
        assert (x.min().item(), x.max().item()) == (0, 1)


@given(st.floats(0, 0.99), st.integers(0, 9))
def test_digits_split_is_stratified(fraction, seed):
    train, test = load_digits(fraction, seed)
    counts = [np.bincount(part.tensors[1], minlength=10) for part in (train, test)]
    assert (sum(counts) == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]).all()
    assert np.abs(counts[1] - fraction * sum(counts)).max() <= 0.5


def test_digits_follow_the_seed_alone():
    mg.manual_seed(0)
    state = mg.get_rng_state()
    first, again, other = load_digits(), load_digits(), load_digits(seed=1)
    assert np.array_equal(first[1].tensors[0], again[1].tensors[0])
    assert not np.array_equal(first[1].tensors[0], other[1].tensors[0])
    assert mg.get_rng_state() == state


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_digits_refuse_a_fraction(fraction):
    with pytest.raises(ValueError, match="test_fraction must be at least 0 and below 1"):
        load_digits(fraction)


def test_digits_first_image():
    x, y = (t[0] for t in load_digits(test_fraction=0)[0].tensors)
    assert y.item() == 0
    assert (16 * x[0]).int().tolist() == [
        [0, 0, 5, 13, 9, 1, 0, 0],
        [0, 0, 13, 15, 10, 15, 5, 0],
        [0, 3, 15, 2, 0, 11, 8, 0],
        [0, 4, 12, 0, 0, 8, 8, 0],
        [0, 5, 8, 0, 0, 9, 8, 0],
        [0, 4, 11, 0, 1, 12, 7, 0],
        [0, 2, 14, 5, 10, 12, 0, 0],
        [0, 0, 6, 13, 10, 0, 0, 0],
    ]


def test_digits_are_scikit_learns():
    datasets = pytest.importorskip("sklearn.datasets")
    expected = datasets.load_digits()
    (x, y), (_, none) = (part.tensors for part in load_digits(test_fraction=0))
    assert np.array_equal(16 * x.numpy()[:, 0], expected.images)
    assert np.array_equal(y, expected.target)
    assert none.shape == (0,)


def test_digits_come_with_their_licence():
    folder = Path(data.__file__).parent
    assert "CC BY 4.0" in (folder / "LICENSE-digits.md").read_text()
    assert sum(file.stat().st_size for file in folder.glob("digits-*.gz")) < 57_000
