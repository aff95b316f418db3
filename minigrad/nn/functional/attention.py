"""Attention: every query takes a mean of the values, weighed by how well their keys match."""

from __future__ import annotations

from math import inf, sqrt
from typing import Any

from minigrad.creation import ones
from minigrad.errors import DtypeError, ShapeError
from minigrad.functions import where
from minigrad.nn.functional.activation import softmax
from minigrad.nn.functional.dropout import dropout
from minigrad.tensor import Tensor


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(Q Kᵀ · scale + mask) V.

    Shapes: query (..., L, E), key (..., S, E), value (..., S, V), y (..., L, V); the axes in front
    broadcast. attn_mask broadcasts to (..., L, S).

    Args:
        attn_mask: bool, True where a query may look at a key; or floating, added to the scores. A
            query that may look at nothing gets 0.
        dropout_p: chance for each weight to be zeroed; there is no train mode here, so pass 0.0 in
            evaluation.
        is_causal: query i looks at keys 0 ... i only; instead of an attn_mask.
        scale: 1 / √E by default, which keeps the scores' variance at that of Q and K.
        enable_gqa: key and value have fewer heads (axis -3), each serving several of the query's.
    Source: Vaswani et al. (2017), arXiv:1706.03762, equation 1; grouped queries: Ainslie et al.
        (2023), arXiv:2305.13245.
    """
    weights = _weights(query, key, value, attn_mask, is_causal, scale, enable_gqa)
    if enable_gqa:
        value = _repeat_heads(value, query.shape[-3])
    return dropout(weights, dropout_p).matmul(value)


def _weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Tensor:
    """The weights (..., L, S), each row a mean or, where everything is masked, 0."""
    _check(query, key, value, attn_mask, is_causal, enable_gqa)
    if enable_gqa:
        key = _repeat_heads(key, query.shape[-3])
    scale = 1 / sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale).matmul(key.swapaxes(-1, -2))
    if is_causal:
        shape = scores.shape[-2:]
        attn_mask = ones(*shape, device=query.device).tril() > 0
    if attn_mask is None:
        return softmax(scores, -1)
    masked = attn_mask.dtype.kind == "b"
    scores = where(attn_mask, scores, -inf) if masked else scores + attn_mask
    blind: Tensor = scores.detach().amax(-1, keepdim=True) == -inf
    if not bool(blind.any()):
        return softmax(scores, -1)
    weights: Tensor = where(blind, 0.0, softmax(where(blind, 0.0, scores), -1))
    return weights


def _repeat_heads(x: Tensor, heads: int) -> Tensor:
    """Each of the heads (axis -3) of x several times in a row, to ``heads`` in all."""
    *batch, own, length, width = x.shape
    wide = x.unsqueeze(-3).expand(*batch, own, heads // own, length, width)
    return wide.reshape(*batch, heads, length, width)


def _check(query: Any, key: Any, value: Any, mask: Any, is_causal: bool, enable_gqa: bool) -> None:
    name = "scaled_dot_product_attention"
    shapes = f"{query.shape}, {key.shape} and {value.shape}"
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise ShapeError(
            f"{name} expects query (..., L, E), key (..., S, E) and value (..., S, V), got {shapes}"
            "; add the missing axes, as in x.unsqueeze(0)."
        )
    if query.shape[-1] != key.shape[-1]:
        raise ShapeError(
            f"{name} needs queries and keys of one size E (last axis), got {shapes}: "
            f"{query.shape[-1]} and {key.shape[-1]}; project one to the size of the other."
        )
    if key.shape[-2] != value.shape[-2]:
        raise ShapeError(
            f"{name} needs one value for each key (axis -2), got {shapes}: {key.shape[-2]} keys "
            f"and {value.shape[-2]} values."
        )
    if not query.dtype == key.dtype == value.dtype:
        raise DtypeError(
            f"{name} needs query, key and value of one dtype, got {query.dtype}, {key.dtype} and "
            f"{value.dtype}; convert them, as in key.to(query.dtype)."
        )
    if enable_gqa:
        heads = [x.shape[-3] if x.ndim > 2 else 0 for x in (query, key, value)]
        if not all(heads) or heads[0] % heads[1] or heads[0] % heads[2]:
            raise ShapeError(
                f"{name} with enable_gqa needs heads (axis -3) of the query in multiples of those "
                f"of key and value, got {shapes}."
            )
    if mask is not None and is_causal:
        raise RuntimeError(
            f"{name} takes is_causal=True or an attn_mask, not both; add the causal mask to yours: "
            "attn_mask & minigrad.ones(L, S).tril().bool()."
        )
    if mask is not None and mask.dtype.kind != "b" and mask.dtype != query.dtype:
        raise DtypeError(
            f"{name} needs an attn_mask of bool (True: may look) or of the query's {query.dtype} "
            f"(added to the scores), got {mask.dtype}; compare or convert it."
        )
