"""fold: every BatchNorm of a model goes into the layer before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple

from minigrad.engine import set_recording
from minigrad.nn.container import Sequential
from minigrad.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from minigrad.nn.linear import Identity, Linear
from minigrad.nn.module import Module
from minigrad.nn.norm import _BatchNorm
from minigrad.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from minigrad.nn.utils.parametrize import is_parametrized
from minigrad.ops import BatchNormInference, Op
from minigrad.tensor import Tensor

TRANSPOSED = (ConvTranspose1d, ConvTranspose2d)
LAYERS = (Linear, Conv1d, Conv2d, *TRANSPOSED)


class Folding(NamedTuple):
    """What ``fold`` gives: the model, and what became of each of its BatchNorms."""

    model: Module
    folded: list[tuple[str, str]]  #: (path of the layer, path of the BatchNorm that went into it)
    left: list[tuple[str, str]]  #: (path of a BatchNorm that stays, why)

    def __str__(self) -> str:
        lines = [f"{norm} folded into {layer}" for layer, norm in self.folded]
        lines += [f"{norm} left: {why}" for norm, why in self.left]
        return "\n".join(lines) or "no BatchNorm"


def fold(model: Module, *example: Any) -> Folding:
    """A copy of a model in eval mode, with its BatchNorms folded into the layers before them.

    In eval mode a BatchNorm is y = s x + t for each channel (``as_affine``). After a layer
    x = W u + b this is y = (s W) u + (s b + t): a layer with other weights. In the place of the
    BatchNorm, which has nothing left to do, stands an Identity, so that all paths stay.

    Which layer stands before which BatchNorm: without an example, neighbours in a Sequential
    (nested ones, too). With one, the graph of a run tells, whatever ``forward`` does: the layer's
    output must go to that BatchNorm and nowhere else. The folded model is then compared with
    the original on the example.

    Args:
        model: in eval mode; it is left as it is.
        example: inputs to run it on, as in ``model(*example)``.

    Returns:
        ``Folding(model, folded, left)``: the copy, the pairs by their paths, and why the others
        stayed. Printed, it is that list.

    Raises:
        ValueError: a model in train mode, where the statistics are the batch's.
        RuntimeError: the folded model computes something else on the example.

    Source: Ioffe and Szegedy (2015), arXiv:1502.03167, section 3.1; Jacob et al. (2018),
        arXiv:1712.05877, section 3.2, for the folding.

    Example:
        >>> from minigrad import nn
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.BatchNorm1d(3))
        >>> print(fold(model.eval()))
        1 folded into 0
        3 left: it comes after a ReLU
    """
    norms = {path: m for path, m in model.named_modules() if isinstance(m, _BatchNorm)}
    busy = [path for path, m in norms.items() if m.training]
    if model.training or busy:
        raise ValueError(
            "fold() takes a model in eval mode, where the statistics are fixed; "
            f"{repr(busy[0]) if busy else 'the model'} is in train mode: call model.eval()."
        )
    before = _by_graph(model, example) if example else _by_place(model)
    paths = Counter(m for _, m in model.named_modules(remove_duplicate=False))
    folded, left = [], []
    made = deepcopy(model)
    for path, norm in norms.items():
        found = before.get(path, "it does not stand in a Sequential; pass an example input")
        if isinstance(found, str):
            left.append((path, found))
            continue
        layer_path, layer = found
        why = _obstacle(layer, norm, max(paths[layer], paths[norm]))
        if why:
            left.append((path, why))
            continue
        if isinstance(layer, Linear):
            new = fuse_linear_bn_eval(layer, norm)
        else:
            new = fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, TRANSPOSED))
        made.set_submodule(layer_path, new)
        made.set_submodule(path, Identity().eval())
        folded.append((layer_path, path))
    if example:
        _compare(model, made, example)
    return Folding(made, folded, left)


def _obstacle(layer: Any, norm: Any, times: int) -> str:
    """Why this pair cannot be folded; "" where it can."""
    if norm.running_mean is None or norm._by_batch():
        return "the batch's statistics normalise, in eval mode, too"
    if times > 1:
        return "it or the layer before it stands in several places"
    out = layer.out_features if isinstance(layer, Linear) else layer.out_channels
    if norm.num_features != out:
        return f"it normalises {norm.num_features} channels, the layer before it gives {out}"
    if isinstance(layer, TRANSPOSED) and layer.groups > 1:
        return "the transposed convolution before it has groups"
    if is_parametrized(layer):
        return "the weights of the layer before it are parametrized; remove the parametrization"
    if any(m._forward_hooks or m._forward_pre_hooks for m in (layer, norm)):
        return "it or the layer before it has hooks"
    return ""


Before = dict[str, "tuple[str, Module] | str"]


def _by_place(model: Module) -> Before:
    """For each BatchNorm in a Sequential: (path, layer) before it, or why there is none."""
    found: Before = {}
    inner: set[str] = set()  # the paths of Sequentials within others
    for path, module in model.named_modules():
        if path in inner or not _is_chain(module):
            continue
        last: tuple[str, Module] | None = None
        for place, m in _leaves(module, path, inner):
            if isinstance(m, _BatchNorm):
                if last is None:
                    found[place] = "nothing stands before it in its Sequential"
                elif isinstance(last[1], LAYERS):
                    found[place] = last
                else:
                    found[place] = f"it comes after a {type(last[1]).__name__}"
            last = place, m
    return found


def _is_chain(module: Module) -> bool:
    return isinstance(module, Sequential) and type(module).forward is Sequential.forward


def _leaves(chain: Module, path: str, inner: set[str]) -> Iterator[tuple[str, Module]]:
    """The modules of a Sequential in the order of their calls, through inner Sequentials."""
    for name, module in chain._modules.items():
        place = f"{path}.{name}" if path else name
        if module is None:
            continue
        if _is_chain(module) and not (module._forward_hooks or module._forward_pre_hooks):
            inner.add(place)
            yield from _leaves(module, place, inner)
        else:
            yield place, module


def _by_graph(model: Module, example: tuple[Any, ...]) -> Before:
    """The same, told by the graph of a run on the example."""
    probe = deepcopy(model)
    for module in probe.modules():
        if hasattr(module, "fused"):
            module.fused = True  # one op each
    probe.requires_grad_(True)
    inputs = [
        x.detach().clone().requires_grad_()
        if isinstance(x, Tensor) and x.is_floating_point()
        else x
        for x in example
    ]
    with set_recording(True):
        ends = [t.grad_fn for t in _tensors(probe(*inputs)) if t.grad_fn is not None]
    users: Counter[Op] = Counter(ends)  # an output is used by who gets it
    seen, stack = set(ends), list(ends)
    while stack:
        for edge in stack.pop().inputs:
            if isinstance(edge, Op):
                users[edge] += 1
                if edge not in seen:
                    seen.add(edge)
                    stack.append(edge)
    paths = {m: path for path, m in probe.named_modules()}
    calls: dict[Any, set[Any]] = {}
    for op in seen:
        if op.scope is not None:
            calls.setdefault(op.scope.module(), set()).add(op.scope)
    layers = dict(model.named_modules())
    found: Before = {
        path: "it took no part in the run on the example"
        for path, m in layers.items()
        if isinstance(m, _BatchNorm)
    }
    for op in seen:
        norm = None if op.scope is None else op.scope.module()
        if not isinstance(op, BatchNormInference) or not isinstance(norm, _BatchNorm):
            continue
        source = op.inputs[0]
        layer = None if not isinstance(source, Op) or not source.scope else source.scope.module()
        path = paths[norm]
        if not isinstance(layer, LAYERS):
            what = type(source).__name__ if isinstance(source, Op) else "input of the model"
            found[path] = f"it comes after {'an' if what[0] in 'AEIOUaeiou' else 'a'} {what}"
        elif users[source] > 1:
            found[path] = f"{paths[layer]}, before it, is used elsewhere, too"
        elif len(calls[layer]) > 1 or len(calls[norm]) > 1:
            found[path] = "it or the layer before it is called several times"
        else:
            found[path] = paths[layer], layers[paths[layer]]
    return found


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in what a model returns."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from _tensors(v)
    elif isinstance(value, list | tuple):
        for v in value:
            yield from _tensors(v)


def _compare(model: Module, made: Module, example: tuple[Any, ...]) -> None:
    with set_recording(False):
        pairs = list(zip(_tensors(model(*example)), _tensors(made(*example)), strict=True))
    for old, new in pairs:
        if not old.is_floating_point() or not old.numel():
            continue
        off = float((old - new).abs().max())
        size = float(old.abs().max())
        tolerance = {"float64": 1e-9, "float32": 1e-3}.get(str(old.dtype), 3e-2)
        if not off <= tolerance * (1 + size):
            raise RuntimeError(
                f"the folded model is off by {off:.2g} on the example, where its values reach "
                f"{size:.2g}; does forward() use a layer's output outside of the graph, as with "
                "detach()? Fold its parts by themselves."
            )
