"""Datasets, loaders, transforms, and readers of the data that small models are trained on."""

from minigrad.data.cifar import load_cifar10, read_cifar10
from minigrad.data.dataset import ConcatDataset, Dataset, Subset, TensorDataset, random_split
from minigrad.data.digits import load_digits
from minigrad.data.idx import read_idx
from minigrad.data.loader import DataLoader, default_collate
from minigrad.data.mnist import MNIST, load_mnist
from minigrad.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler
from minigrad.data.transforms import Compose, MinMax, Normalize, Standardize, Transform
from minigrad.data.whitening import PCAWhitening, ZCAWhitening

__all__ = [
    "MNIST",
    "BatchSampler",
    "Compose",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "MinMax",
    "Normalize",
    "PCAWhitening",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Standardize",
    "Subset",
    "TensorDataset",
    "Transform",
    "ZCAWhitening",
    "default_collate",
    "load_cifar10",
    "load_digits",
    "load_mnist",
    "random_split",
    "read_cifar10",
    "read_idx",
]
