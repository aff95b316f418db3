"""Recurrent layers: a state carried along a sequence, step by step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from math import sqrt
from numbers import Number
from typing import Any, ClassVar

from minigrad.creation import empty, zeros
from minigrad.errors import ShapeError
from minigrad.functions import cat, stack
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.nn.module import Module, Parameter
from minigrad.tensor import Tensor

State = tuple[Tensor, ...]  #: (h,), or (h, c) of an LSTM
#: step(gates of the input, state, weight_hh, bias_hh) -> the next state
Step = Callable[[Tensor, State, Any, Any], State]


def _tanh(gates: Tensor, state: State, weight: Any, bias: Any) -> State:
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh)."""
    return ((gates + F.linear(state[0], weight, bias)).tanh(),)


def _relu(gates: Tensor, state: State, weight: Any, bias: Any) -> State:
    """h' = max(W_ih x + b_ih + W_hh h + b_hh, 0)."""
    return ((gates + F.linear(state[0], weight, bias)).relu(),)


def _lstm(gates: Tensor, state: State, weight: Any, bias: Any) -> State:
    """c' = σ(f) c + σ(i) tanh(g),  h' = σ(o) tanh(c')."""
    h, c = state
    i, f, g, o = (gates + F.linear(h, weight, bias)).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(gates: Tensor, state: State, weight: Any, bias: Any) -> State:
    """n = tanh(x_n + σ(r) h_n),  h' = n + σ(z) (h - n)."""
    (h,) = state
    r, z, n = gates.chunk(3, -1)
    h_r, h_z, h_n = F.linear(h, weight, bias).chunk(3, -1)
    n = (n + (r + h_r).sigmoid() * h_n).tanh()
    return (n + (z + h_z).sigmoid() * (h - n),)


_STEPS: dict[str, tuple[Step, int]] = {  # mode: one step, and how many gates its weights hold
    "RNN_TANH": (_tanh, 1),
    "RNN_RELU": (_relu, 1),
    "LSTM": (_lstm, 4),
    "GRU": (_gru, 3),
}


class RNNBase(Module):
    """What RNN, LSTM and GRU share: layers and directions, shapes, initial states.

    Each layer and direction computes W_ih x + b_ih for the whole sequence with one Linear, then
    steps through it.
    """

    states: ClassVar[int] = 1  #: tensors in a state

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if not isinstance(dropout, Number) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(
                f"{mode} needs a dropout between 0 and 1, the chance that an element of a layer's "
                f"output is zeroed, got {dropout!r}."
            )
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout acts between layers, after each but the last: it does nothing with "
                f"num_layers=1, got dropout={dropout}.",
                stacklevel=3,
            )
        for name, value, kind in (
            ("bias", bias, bool),
            ("batch_first", batch_first, bool),
            ("input_size", input_size, int),
            ("hidden_size", hidden_size, int),
        ):
            if not isinstance(value, kind):
                raise TypeError(
                    f"{mode} needs {name} as {kind.__name__}, got {type(value).__name__} {value!r}."
                )
        for name, value in (
            ("input_size", input_size),
            ("hidden_size", hidden_size),
            ("num_layers", num_layers),
        ):
            if value <= 0:
                raise ValueError(f"{mode} needs {name} of at least 1, got {value}.")
        if not 0 <= proj_size < hidden_size:
            raise ValueError(
                f"{mode} needs proj_size of 0 (none) or more and below hidden_size={hidden_size}, "
                f"got {proj_size}."
            )
        if mode not in _STEPS:
            raise ValueError(f"an RNN's mode is one of {', '.join(_STEPS)}, got {mode!r}.")
        self.mode, self.input_size, self.hidden_size = mode, input_size, hidden_size
        self.num_layers, self.bias, self.batch_first = num_layers, bias, batch_first
        self.dropout, self.bidirectional = float(dropout), bool(bidirectional)
        self.proj_size = proj_size
        out, rows = proj_size or hidden_size, _STEPS[mode][1] * hidden_size
        self._names: list[list[str]] = []
        for layer in range(num_layers):
            width = input_size if layer == 0 else out * (2 if bidirectional else 1)
            for suffix in ("", "_reverse")[: 1 + self.bidirectional]:
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (rows, width),
                    "weight_hh": (rows, out),
                }
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes |= {"weight_hr": (proj_size, hidden_size)}
                names = [f"{name}_l{layer}{suffix}" for name in shapes]
                for name, shape in zip(names, shapes.values(), strict=True):
                    setattr(self, name, Parameter(empty(shape, device=device, dtype=dtype)))
                self._names.append(names)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-k, k) with k = 1 / √hidden_size."""
        bound = 1 / sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction: W_ih, W_hh, b_ih, b_hh (and W_hr)."""
        return [[getattr(self, name) for name in names] for names in self._names]

    def flatten_parameters(self) -> None:
        """Nothing: there is no one block of memory that the weights would have to share."""

    # ---- one pass -------------------------------------------------------------------------------

    def _run(self, input: Any, hx: Sequence[Any] | None) -> tuple[Tensor, State]:
        """(output, last states) of a sequence; the states come and go as RNN, LSTM, GRU do."""
        label = f"{type(self).__name__}({self.input_size}, {self.hidden_size})"
        if not isinstance(input, Tensor):
            raise TypeError(
                f"{label} expects a tensor, got {type(input).__name__}; a packed sequence is not "
                "supported: pad the sequences to one length instead."
            )
        layout = "(N, L, {0})" if self.batch_first else "(L, N, {0})"
        shapes = f"{layout} or (L, {{0}})".format(self.input_size)
        if input.ndim not in (2, 3):
            raise ShapeError(f"{label} expects {shapes}, got {input.shape}: {input.ndim} axes.")
        if input.shape[-1] != self.input_size:
            raise ShapeError(
                f"{label} expects {shapes}, got {input.shape}: last axis is {input.shape[-1]}, not "
                f"input_size={self.input_size}."
            )
        weight = self.all_weights[0][0]
        if input.dtype != weight.dtype:
            raise ValueError(
                f"{label} has {weight.dtype} weights and got {input.dtype}; convert one, as in "
                f"x.to({str(weight.dtype)!r})."
            )
        batched = input.ndim == 3
        x = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            x = x.swapaxes(0, 1)
        if not x.shape[0]:
            raise ShapeError(f"{label} expects at least one step, got {input.shape}.")
        state = self._initial(x, hx, batched, label)
        y, last = self._layers(x, state)
        if not batched:
            return y.squeeze(1), tuple(s.squeeze(1) for s in last)
        return y.swapaxes(0, 1) if self.batch_first else y, last

    def _initial(self, x: Tensor, hx: Sequence[Any] | None, batched: bool, label: str) -> State:
        """The initial states (layers · directions, N, size), zeros unless given."""
        layers, batch = self.num_layers * (1 + self.bidirectional), x.shape[1]
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)[: self.states]
        if hx is None:
            return tuple(zeros(layers, batch, n, dtype=x.dtype, device=x.device) for n in sizes)
        if isinstance(hx, Tensor) or len(hx) != self.states:
            raise TypeError(
                f"{label} takes its initial state as a pair of tensors (h, c), got "
                f"{type(hx).__name__}."
            )
        state = []
        for name, n, given in zip("hc", sizes, hx, strict=False):
            wanted = (layers, batch, n) if batched else (layers, n)
            if not isinstance(given, Tensor):
                raise TypeError(
                    f"{label} takes the initial {name} as a tensor of shape {wanted}, got "
                    f"{type(given).__name__}."
                )
            if given.shape != wanted:
                raise ShapeError(
                    f"{label} expects an initial {name} of shape {wanted} (layers · directions, "
                    f"{'N, ' if batched else ''}size), got {given.shape}."
                )
            state.append(given if batched else given.unsqueeze(1))
        return tuple(state)

    def _layers(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Through every layer: x (L, N, in), states (layers · directions, N, size)."""
        step, last = _STEPS[self.mode][0], []
        directions = 1 + self.bidirectional
        for layer in range(self.num_layers):
            ways = []
            for way in range(directions):
                at = layer * directions + way
                outputs, final = self._direction(step, x, tuple(s[at] for s in state), at)
                ways.append(outputs)
                last.append(final)
            x = cat(ways, -1) if directions == 2 else ways[0]
            if layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        return x, tuple(stack(parts) for parts in zip(*last, strict=True))

    def _direction(self, step: Step, x: Tensor, state: State, at: int) -> tuple[Tensor, State]:
        """Along the sequence (or, for every second ``at`` of a bidirectional one, against it)."""
        own = dict(zip(("w_ih", "w_hh", "b_ih", "b_hh"), self.all_weights[at], strict=False))
        if not self.bias:
            own = {k: v for k, v in own.items() if k[0] == "w"}
        project = self.all_weights[at][-1] if self.proj_size else None
        steps = _steps(F.linear(x, own["w_ih"], own.get("b_ih")))
        backwards = self.bidirectional and at % 2 == 1
        outputs = []
        for gates in reversed(steps) if backwards else steps:
            state = step(gates, state, own["w_hh"], own.get("b_hh"))
            if project is not None:
                state = (F.linear(state[0], project), *state[1:])
            outputs.append(state[0])
        return stack(outputs[::-1] if backwards else outputs), state

    def extra_repr(self) -> str:
        """Its sizes, and the settings that are not the defaults."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        for name, default in (
            ("proj_size", 0),
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0),
            ("bidirectional", False),
        ):
            if getattr(self, name) != default:
                parts.append(f"{name}={getattr(self, name)}")
        return ", ".join(parts)


def _steps(x: Tensor) -> list[Tensor]:
    """x[0], x[1], ..., by halving: the gradient of a part is as large as what it is a part of, so
    that L parts of the whole would cost O(L²) backward; halves of halves cost O(L log L). Measured
    with LSTM(64, 64), N = 16: 0.6 s backward against 2.9 s for L = 256, 0.14 against 0.25 for 64.
    """
    parts = [x]
    while parts[0].shape[0] > 1:
        parts = [h for p in parts for h in (p.split((p.shape[0] + 1) // 2) if len(p) > 1 else [p])]
    return [p.squeeze(0) for p in parts]


class RNN(RNNBase):
    """The simple recurrent layer: h' = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Shapes: x (L, N, input_size), (N, L, input_size) with ``batch_first``, or (L, input_size); the
    initial h (num_layers · directions, N, hidden_size) (without N for an unbatched x), zeros unless
    given. Result: y, as x with directions · hidden_size for input_size, and the last h, shaped as
    the initial one.

    Args:
        num_layers: layers, each reading the sequence of h of the one below.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: whether there are b_ih and b_hh. Their sum is all that counts; two are kept for
            PyTorch's checkpoints.
        dropout: chance for an element between two layers to be zeroed, in train mode.
        bidirectional: a second state runs from the end to the start; both are concatenated.
    Source: Elman (1990), "Finding structure in time", Cognitive Science 14.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        _no_projection("RNN", options)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN needs nonlinearity 'tanh' or 'relu', got {nonlinearity!r}.")
        super().__init__(
            f"RNN_{nonlinearity.upper()}",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            device,
            dtype,
        )
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(the h of the last layer at every step, the last h of every layer)."""
        output, (h,) = self._run(input, None if hx is None else (hx,))
        return output, h


class LSTM(RNNBase):
    """Long short-term memory: a cell c that gates write to, keep, and read.

        i = σ(W_ii x + b_ii + W_hi h + b_hi)        c' = f c + i g
        f = σ(W_if x + b_if + W_hf h + b_hf)        h' = o tanh(c')
        g = tanh(W_ig x + b_ig + W_hg h + b_hg)
        o = σ(W_io x + b_io + W_ho h + b_ho)

    Shapes: as RNN, with the pair (h, c) for h; the weights hold i, f, g, o one below the other.

    Args:
        proj_size: where positive, h' is W_hr (o tanh(c')), of this size.
    Source: Hochreiter and Schmidhuber (1997); the forget gate: Gers et al. (2000); projections:
        Sak et al. (2014), arXiv:1402.1128.
    """

    states = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(the h of the last layer at every step, (the last h, the last c) of every layer)."""
        output, (h, c) = self._run(input, hx)
        return output, (h, c)


class GRU(RNNBase):
    """Gated recurrent units.

        r = σ(W_ir x + b_ir + W_hr h + b_hr)        n = tanh(W_in x + b_in + r (W_hn h + b_hn))
        z = σ(W_iz x + b_iz + W_hz h + b_hz)        h' = (1 - z) n + z h

    Shapes: as RNN; the weights hold r, z, n one below the other.

    Source: Cho et al. (2014), arXiv:1406.1078. Differs: there r multiplies h before W_hn; with r
        after it, one product serves all three gates.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        _no_projection("GRU", options)
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            device,
            dtype,
        )

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(the h of the last layer at every step, the last h of every layer)."""
        output, (h,) = self._run(input, None if hx is None else (hx,))
        return output, h


def _no_projection(name: str, options: dict[str, Any]) -> None:
    if "proj_size" in options:
        raise ValueError(f"proj_size is for an LSTM, {name} has none; leave it out.")
    if options:
        raise TypeError(f"{name} got an unexpected keyword argument {next(iter(options))!r}.")


class RNNCellBase(Module):
    """What RNNCell, LSTMCell and GRUCell share: the weights of one step."""

    states: ClassVar[int] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        place, rows = {"device": device, "dtype": dtype}, num_chunks * hidden_size
        self.weight_ih = Parameter(empty(rows, input_size, **place))
        self.weight_hh = Parameter(empty(rows, hidden_size, **place))
        self.bias_ih: Parameter | None
        self.bias_hh: Parameter | None
        if bias:
            self.bias_ih = Parameter(empty(rows, **place))
            self.bias_hh = Parameter(empty(rows, **place))
        else:
            self.register_parameter("bias_ih", None)
            self.register_parameter("bias_hh", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-k, k) with k = 1 / √hidden_size."""
        bound = 1 / sqrt(self.hidden_size) if self.hidden_size else 0.0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _step(self, step: Step, input: Tensor, hx: Sequence[Any] | None) -> State:
        """One step of (N, input_size) or (input_size,) and states of the same kind."""
        label = f"{type(self).__name__}({self.input_size}, {self.hidden_size})"
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ShapeError(
                f"{label} expects (N, {self.input_size}) or ({self.input_size},), got "
                f"{input.shape}; a whole sequence goes to {type(self).__name__[:-4]}."
            )
        wanted = (*input.shape[:-1], self.hidden_size)
        state: State
        if hx is None:
            zero = zeros(wanted, dtype=input.dtype, device=input.device)
            state = (zero,) * self.states
        elif isinstance(hx, Tensor) or len(hx) != self.states:
            raise TypeError(
                f"{label} takes its state as a pair of tensors (h, c), got {type(hx).__name__}."
            )
        else:
            state = tuple(hx)
        for s in state:
            if s.shape != wanted:
                raise ShapeError(f"{label} expects a state of shape {wanted}, got {s.shape}.")
        gates = F.linear(input, self.weight_ih, self.bias_ih)
        return step(gates, state, self.weight_hh, self.bias_hh)

    def extra_repr(self) -> str:
        """Its sizes, and the settings that are not the defaults."""
        text = f"{self.input_size}, {self.hidden_size}"
        text += "" if self.bias is True else f", bias={self.bias}"
        kind = self.__dict__.get("nonlinearity", "tanh")
        return text if kind == "tanh" else f"{text}, nonlinearity={kind}"


class RNNCell(RNNCellBase):
    """One step of an RNN: h' = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Shapes: x (N, input_size) or (input_size,), h and h' (N, hidden_size) or (hidden_size,).

    Args:
        nonlinearity: ``"tanh"`` or ``"relu"``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next h; a missing one is 0."""
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(
                f"RNNCell needs nonlinearity 'tanh' or 'relu', got {self.nonlinearity!r}."
            )
        step = _tanh if self.nonlinearity == "tanh" else _relu
        return self._step(step, input, None if hx is None else (hx,))[0]


class LSTMCell(RNNCellBase):
    """One step of an LSTM, with its equations.

    Shapes: x (N, input_size) or (input_size,), h and c (N, hidden_size) or (hidden_size,).
    """

    states = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The next (h, c); a missing one is 0."""
        h, c = self._step(_lstm, input, hx)
        return h, c


class GRUCell(RNNCellBase):
    """One step of a GRU, with its equations.

    Shapes: x (N, input_size) or (input_size,), h and h' (N, hidden_size) or (hidden_size,).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next h; a missing one is 0."""
        return self._step(_gru, input, None if hx is None else (hx,))[0]
