"""Saving and loading: safetensors files, which hold arrays and plain data, never code.

Any nest of dicts, lists, tuples, numbers, strings, None and tensors can be saved: the tensors as
they are, the nest around them as JSON in the file's metadata. A state dict (tensors by name, no
nest) gives a file that every other reader of safetensors understands.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from minigrad.backends import backend_of, for_device
from minigrad.errors import CheckpointError
from minigrad.tensor import Tensor, wrap

FORMAT = "1"
READABLE = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U8", "BOOL")


def save(obj: Any, f: str | os.PathLike[str]) -> None:
    """Write a state dict, or any nest of tensors and plain data, to a safetensors file.

    The file appears whole or not at all: it is written beside its place and moved there.

    Raises:
        TypeError: something in the nest is neither a tensor nor plain data.
    """
    path = Path(f)
    arrays: dict[str, Any] = {}
    if isinstance(obj, Mapping) and all(isinstance(v, Tensor) for v in obj.values()):
        arrays = {str(k): _host(v) for k, v in obj.items()}
        metadata = {"format": "minigrad", "version": FORMAT}
    else:
        nest = _pack(obj, arrays, "")
        metadata = {"format": "minigrad", "version": FORMAT, "nest": json.dumps(nest)}
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(to_bytes(arrays, metadata))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load(f: str | os.PathLike[str], map_location: Any = "cpu") -> Any:
    """What ``save`` wrote, or the tensors of any safetensors file by name.

    bfloat16, which NumPy has not, is read as float32: every bfloat16 is a float32.

    Args:
        map_location: the device to put the tensors on.
    Raises:
        FileNotFoundError: no such file.
        CheckpointError: not a safetensors file, or a damaged one; or a tensor in it has a dtype
            that there is none for.
    """
    path = Path(f)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the path.")
    backend, device = for_device(map_location)
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {
                k: wrap(backend.from_host(_read(file, path, k), device))
                for k in file.keys()  # noqa: SIM118
            }
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}); save it again with minigrad.save."
        ) from None
    if "nest" not in metadata:
        return tensors
    return _unpack(json.loads(metadata["nest"]), tensors)


def _read(file: Any, path: Path, key: str) -> Any:
    """One array of an open file."""
    dtype = file.get_slice(key).get_dtype()
    if dtype == "BF16":
        return _bfloat16(path, key)
    if dtype not in READABLE:
        raise CheckpointError(
            f"{key} in {path} is {dtype}, for which there is no dtype here; save it as one of "
            f"{', '.join(READABLE)} or BF16."
        )
    return file.get_tensor(key)


def _bfloat16(path: Path, key: str) -> Any:
    """A bfloat16 array as float32, of which it is the upper half: sign, exponent, 7 bits."""
    with path.open("rb") as raw:
        size = int.from_bytes(raw.read(8), "little")
        entry = json.loads(raw.read(size))[key]
        start, end = entry["data_offsets"]
        raw.seek(8 + size + start)
        halves = np.frombuffer(raw.read(end - start), "<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def _host(tensor: Tensor) -> Any:
    array = tensor.detach().array
    return np.ascontiguousarray(backend_of(array).to_host(array)).reshape(tensor.shape)


def _pack(obj: Any, arrays: dict[str, Any], path: str) -> Any:
    """``obj`` as JSON, with its tensors put into ``arrays`` under their paths."""
    if isinstance(obj, Tensor):
        key = path or "tensor"
        arrays[key] = _host(obj)
        return {"tensor": key}
    if obj is None or isinstance(obj, bool | int | float | str):
        return {"value": obj}
    if isinstance(obj, Mapping):
        entries = [
            [_pack(k, arrays, ""), _pack(v, arrays, f"{path}.{k}" if path else str(k))]
            for k, v in obj.items()
        ]
        return {"dict": entries}
    if isinstance(obj, list | tuple):
        kind = "list" if isinstance(obj, list) else "tuple"
        return {
            kind: [_pack(v, arrays, f"{path}.{i}" if path else str(i)) for i, v in enumerate(obj)]
        }
    raise TypeError(
        f"cannot save {type(obj).__name__} at {path or 'the top'}; save state_dict()s: tensors, "
        "numbers, strings, lists and dicts of them."
    )


def _unpack(nest: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, value),) = nest.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {_unpack(k, tensors): _unpack(v, tensors) for k, v in value}
    if kind in ("list", "tuple"):
        made = [_unpack(v, tensors) for v in value]
        return made if kind == "list" else tuple(made)
    return value
