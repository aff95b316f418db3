"""Multi-head attention, and the encoder of the Transformer."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from math import inf, sqrt
from typing import Any

from minigrad.creation import empty, zeros, zeros_like
from minigrad.errors import ShapeError
from minigrad.functions import cat
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.nn.container import ModuleList
from minigrad.nn.dropout import Dropout
from minigrad.nn.linear import Linear
from minigrad.nn.module import Module, Parameter
from minigrad.nn.norm import LayerNorm
from minigrad.tensor import Tensor


class _OutputLinear(Linear):
    """A Linear under the name that PyTorch prints for the last one of MultiheadAttention."""

    def _get_name(self) -> str:
        return "NonDynamicallyQuantizableLinear"


class MultiheadAttention(Module):
    """Attention in several subspaces (heads) at a time, whose results are concatenated.

        y = concat(head_1, ..., head_h) W_oᵀ + b_o
        head_i = softmax(Q_i K_iᵀ / √d) V_i, where Q_i, K_i, V_i are parts of the projections

    Shapes: query (L, N, embed_dim), key (S, N, kdim), value (S, N, vdim); with ``batch_first`` N
    first; or all without N. Result: y as query, and the weights (N, L, S), or (N, heads, L, S).

    Args:
        embed_dim: size of query and result, split among the heads: d = embed_dim / num_heads.
        dropout: chance for each weight to be zeroed, in train mode.
        bias: whether the projections have biases.
        add_bias_kv: learn one more key and value, for every sequence.
        add_zero_attn: one more key and value of zeros: where to look when nothing matches.
        kdim, vdim: sizes of keys and values, embed_dim by default.
    Source: Vaswani et al. (2017), arXiv:1706.03762, section 3.2.2.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(
                f"MultiheadAttention needs embed_dim and num_heads of at least 1, got {embed_dim} "
                f"and {num_heads}."
            )
        if embed_dim % num_heads:
            raise AssertionError(
                f"MultiheadAttention needs an embed_dim that num_heads divides, got {embed_dim} "
                f"and {num_heads}; take one of the divisors of {embed_dim}."
            )
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.head_dim, self.dropout = embed_dim // num_heads, dropout
        self.batch_first, self.add_zero_attn = batch_first, add_zero_attn
        place = {"device": device, "dtype": dtype}
        together = self.kdim == self.vdim == embed_dim
        for name, width in (("q", embed_dim), ("k", self.kdim), ("v", self.vdim)):
            weight = None if together else Parameter(empty(embed_dim, width, **place))
            self.register_parameter(f"{name}_proj_weight", weight)
        self.register_parameter(
            "in_proj_weight",
            Parameter(empty(3 * embed_dim, embed_dim, **place)) if together else None,
        )
        self.register_parameter(
            "in_proj_bias", Parameter(empty(3 * embed_dim, **place)) if bias else None
        )
        self.out_proj = _OutputLinear(embed_dim, embed_dim, bias, **place)
        self.bias_k: Parameter | None
        self.bias_v: Parameter | None
        for name in ("bias_k", "bias_v"):
            extra = Parameter(empty(1, 1, embed_dim, **place)) if add_bias_kv else None
            self.register_parameter(name, extra)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for name in ("in", "q", "k", "v"):
            weight = getattr(self, f"{name}_proj_weight")
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)  # type: ignore[arg-type]
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(y, the weights or None).

        Args:
            key_padding_mask: (N, S), or (S,); bool, True where a key is padding that nobody looks
                at; or floating, added to the scores.
            need_weights: return the weights, too. A query that may look at nothing gets NaN with
                them and 0 without, as in PyTorch.
            attn_mask: (L, S), or (N · heads, L, S); bool, True where a query may *not* look at a
                key (the opposite of ``scaled_dot_product_attention``); or floating, added.
            average_attn_weights: one matrix of weights for all heads, their mean.
            is_causal: says that attn_mask, which must be given, is the causal one: without
                need_weights and padding, the causal mask itself is used.
        """
        self._check(query, key, value, key_padding_mask, attn_mask)
        batched = query.ndim == 3
        bias = self.in_proj_bias
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        weights = (
            (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            if self.in_proj_weight is None
            else self.in_proj_weight.chunk(3)
        )
        if self.in_proj_weight is not None and query is key is value:
            q, k, v = F.linear(query, self.in_proj_weight, bias).chunk(3, -1)
        else:
            q, k, v = (
                F.linear(x, w, b)
                for x, w, b in zip((query, key, value), weights, biases, strict=True)
            )
        if not batched:  # from here on (N, length, embed_dim)
            q, k, v = (x.unsqueeze(0) for x in (q, k, v))
        elif not self.batch_first:
            q, k, v = (x.swapaxes(0, 1) for x in (q, k, v))
        if key_padding_mask is not None and not batched:
            key_padding_mask = key_padding_mask.unsqueeze(0)
        n, length, _ = q.shape
        if k.shape[:2] != v.shape[:2] or k.shape[0] != n:
            raise AssertionError(
                f"MultiheadAttention needs as many values as keys, and one batch size, got query "
                f"{query.shape}, key {key.shape} and value {value.shape}."
            )
        if is_causal and attn_mask is None:
            raise RuntimeError(
                "MultiheadAttention needs an attn_mask beside is_causal=True, got None; pass "
                "attn_mask=minigrad.ones(L, S).triu(1).bool()."
            )
        mask = self._mask(key_padding_mask, attn_mask, q, k.shape[1])
        fast = is_causal and key_padding_mask is None and not need_weights
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (
                cat([x, b.expand(n, 1, self.embed_dim)], 1)
                for x, b in ((k, self.bias_k), (v, self.bias_v))
            )
        q, k, v = (
            x.reshape(n, x.shape[1], self.num_heads, self.head_dim).swapaxes(1, 2)
            for x in (q, k, v)
        )
        if self.add_zero_attn:
            none = zeros(n, self.num_heads, 1, self.head_dim, dtype=k.dtype, device=k.device)
            k, v = cat([k, none], 2), cat([v, none], 2)
        if mask is not None and k.shape[2] > mask.shape[-1]:  # everybody may look at what we added
            mask = F.pad(mask, (0, k.shape[2] - mask.shape[-1]))
        drop = self.dropout if self.training else 0.0
        shares = None
        if need_weights:
            scores = (q * (1 / sqrt(self.head_dim))).matmul(k.swapaxes(-1, -2))
            shares = F.dropout(F.softmax(scores if mask is None else scores + mask, -1), drop)
            y = shares.matmul(v)
            shares = shares.mean(1) if average_attn_weights else shares
        else:
            y = F.scaled_dot_product_attention(q, k, v, None if fast else mask, drop, fast)
        y = self.out_proj(y.swapaxes(1, 2).reshape(n, length, self.embed_dim))
        if not batched:
            return y.squeeze(0), None if shares is None else shares.squeeze(0)
        return y if self.batch_first else y.swapaxes(0, 1), shares

    def _mask(
        self, padding: Tensor | None, mask: Tensor | None, q: Tensor, keys: int
    ) -> Tensor | None:
        """Both masks as one, to be added to scores (N, heads, L, S)."""
        n, length, _ = q.shape
        if padding is not None:
            padding = _added(padding, "key_padding_mask", q)
            if padding.shape != (n, keys):
                raise AssertionError(
                    f"MultiheadAttention needs a key_padding_mask of shape {(n, keys)}, one entry "
                    f"for each key, got {padding.shape}."
                )
            padding = padding.reshape(n, 1, 1, keys)
        if mask is not None:
            mask = _added(mask, "attn_mask", q)
            wanted = (length, keys) if mask.ndim == 2 else (n * self.num_heads, length, keys)
            if mask.shape != wanted:
                raise ShapeError(
                    f"MultiheadAttention needs an attn_mask of shape {(length, keys)} or "
                    f"{(n * self.num_heads, length, keys)}, got {mask.shape}."
                )
            if mask.ndim == 3:
                mask = mask.reshape(n, self.num_heads, length, keys)
        if padding is None or mask is None:
            return mask if padding is None else padding
        return mask + padding

    def _check(self, query: Any, key: Any, value: Any, padding: Any, mask: Any) -> None:
        label = f"MultiheadAttention({self.embed_dim}, {self.num_heads})"
        layout = "(N, L, {0})" if self.batch_first else "(L, N, {0})"
        expected = f"{label} expects a query {layout} or (L, {{0}})".format(self.embed_dim)
        shapes = f"query {query.shape}, key {key.shape} and value {value.shape}"
        if query.ndim not in (2, 3):
            raise AssertionError(f"{expected}, got {query.shape}: {query.ndim} axes.")
        if key.ndim != query.ndim or value.ndim != query.ndim:
            raise AssertionError(f"{expected}, and key and value of as many axes, got {shapes}.")
        sizes = (self.embed_dim, self.kdim, self.vdim)
        for name, x, size in zip(
            ("query", "key", "value"), (query, key, value), sizes, strict=True
        ):
            if x.shape[-1] != size:
                error = AssertionError if self.in_proj_weight is not None else ShapeError
                raise error(
                    f"{label} expects a {name} whose last axis is {size}, got {x.shape}; project "
                    "it, or pass kdim and vdim."
                )
        if padding is not None and padding.ndim != query.ndim - 1:
            raise AssertionError(
                f"{label} expects a key_padding_mask {'(N, S)' if query.ndim == 3 else '(S,)'}, "
                f"got {padding.shape}."
            )
        if mask is not None and mask.ndim not in (2, 3):
            raise AssertionError(
                f"{label} expects an attn_mask (L, S) or (N · heads, L, S), got {mask.shape}."
            )


def _added(mask: Tensor, name: str, like: Tensor) -> Tensor:
    """A mask to add to scores: -inf where a bool one is True."""
    if mask.dtype.kind == "b":
        return zeros_like(mask, dtype=like.dtype).masked_fill(mask, -inf)
    if mask.dtype.kind != "f":
        raise AssertionError(
            f"MultiheadAttention needs a {name} of bool (True: may not look) or floating (added to "
            f"the scores), got {mask.dtype}; compare it, as in mask == 0."
        )
    return mask


class TransformerEncoderLayer(Module):
    """Self-attention and a network of two Linears, each with a residual around it.

        x = norm1(x + attention(x))              norm_first: x = x + attention(norm1(x))
        y = norm2(x + W2 f(W1 x))                            y = x + W2 f(W1 norm2(x))

    Shapes: src and y (L, N, d_model), (N, L, d_model) with ``batch_first``, or (L, d_model).

    Args:
        dim_feedforward: size between the two Linears.
        activation: f, a function or ``"relu"`` or ``"gelu"``.
        norm_first: normalize before each part; trains without warm-up (Xiong et al. (2020),
            arXiv:2002.04745).
    Source: Vaswani et al. (2017), arXiv:1706.03762, section 3.1.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, **place
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, **place)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **place)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)
        self.activation = _activation(activation)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """One layer; the masks are those of MultiheadAttention."""
        masks = (src_mask, src_key_padding_mask, is_causal)
        if self.norm_first:
            x = src + self._attend(self.norm1(src), *masks)
            return x + self._feed(self.norm2(x))
        x = self.norm1(src + self._attend(src, *masks))
        return self.norm2(x + self._feed(x))  # type: ignore[no-any-return]

    def _attend(
        self, x: Tensor, mask: Tensor | None, padding: Tensor | None, is_causal: bool
    ) -> Tensor:
        y, _ = self.self_attn(x, x, x, padding, False, mask, is_causal=is_causal)
        return self.dropout1(y)  # type: ignore[no-any-return]

    def _feed(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.activation(self.linear1(x)))
        return self.dropout2(self.linear2(hidden))  # type: ignore[no-any-return]


class TransformerEncoder(Module):
    """Encoder layers, one after another.

    Args:
        encoder_layer: the model of every layer: each is a copy of it, with equal initial values.
        norm: applied to the result, as a LayerNorm for ``norm_first`` layers.
        enable_nested_tensor, mask_check: taken for PyTorch's sake; nothing depends on them.
            Differs: with padding, PyTorch's shortcut in eval mode writes 0 at padded places.
    """

    def __init__(
        self,
        encoder_layer: TransformerEncoderLayer,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = ModuleList([deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm
        self.enable_nested_tensor, self.mask_check = enable_nested_tensor, mask_check

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Through every layer; the masks are those of MultiheadAttention.

        Args:
            is_causal: whether mask is the causal one; False is right for any mask.
        """
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, bool(is_causal))
        return src if self.norm is None else self.norm(src)


def _activation(activation: Any) -> Any:
    if not isinstance(activation, str):
        return activation
    if activation not in ("relu", "gelu"):
        raise RuntimeError(
            f"a TransformerEncoderLayer's activation is 'relu', 'gelu' or a function, got "
            f"{activation!r}."
        )
    return F.relu if activation == "relu" else getattr(F, "gelu", _gelu)


def _gelu(x: Tensor) -> Tensor:
    """x Φ(x), where Φ is the normal distribution's: Hendrycks and Gimpel (2016)."""
    return x * ((x * sqrt(0.5)).erf() + 1) * 0.5
