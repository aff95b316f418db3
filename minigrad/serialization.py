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

    Args:
        map_location: the device to put the tensors on.
    Raises:
        FileNotFoundError: no such file.
        CheckpointError: not a safetensors file, or a damaged one.
    """
    path = Path(f)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the path.")
    backend, device = for_device(map_location)
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {
                k: wrap(backend.from_host(file.get_tensor(k), device))
                for k in file.keys()  # noqa: SIM118
            }
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}); save it again with minigrad.save."
        ) from None
    if "nest" not in metadata:
        return tensors
    return _unpack(json.loads(metadata["nest"]), tensors)


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
