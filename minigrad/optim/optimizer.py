"""Optimizer: parameters in groups, each group with its settings, and what is kept between steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from minigrad.backends import backend_of, device_of, numpy
from minigrad.backends.capture import effect, in_graph
from minigrad.dtypes import Dtype, float16, float32
from minigrad.engine import changed, set_recording
from minigrad.errors import DeviceError, DtypeError, ShapeError
from minigrad.nn.hooks import ModuleHandle
from minigrad.optim.again import Again, once_more
from minigrad.tensor import Tensor, as_array, wrap

Array = Any
Params = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]
Group = dict[str, Any]
State = dict[str, Any]

#: Settings in PyTorch's state dicts that choose an implementation, not a result.
_OF_PYTORCH = ("foreach", "fused", "capturable", "differentiable")

#: What is kept as one number for a whole parameter; everything else has the parameter's shape.
NUMBERS = ("step", "mu_product")


class Optimizer:
    """Base class of the optimizers.

    ``param_groups`` is a list of dicts: the tensors of each group under ``"params"``, beside its
    settings (``"lr"``, ...), which may be changed between steps. ``state`` holds, for each
    parameter that has been updated, what its optimizer keeps: tensors by name.

    A subclass defines ``update``, the rule for one parameter, and may define ``check``.

    Args:
        params: what to optimize: tensors, (name, tensor) pairs such as
            ``model.named_parameters()``, or dicts of ``"params"`` and the settings in which that
            group differs from ``defaults``.
        defaults: the settings of every group that does not give its own.

    Example:
        >>> class Descent(Optimizer):
        ...     def update(self, param, grad, state, group):
        ...         param -= group["lr"] * grad
        >>> w = Tensor([1.0, -2.0], requires_grad=True)
        >>> (w * w).sum().backward()
        >>> Descent([w], {"lr": 0.25}).step()
        >>> w
        tensor([ 0.5000, -1.0000], requires_grad=True)
    """

    #: What the state of a parameter always holds, and what it may hold; checked by load_state_dict.
    #: None: not declared, anything is loaded.
    keeps: tuple[str, ...] | None = None
    may_keep: tuple[str, ...] = ()

    #: Whether ``step`` was called: a learning rate schedule is to begin after it.
    stepped: bool = False

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.state: defaultdict[Tensor, State] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self._step_pre_hooks: dict[int, Any] = {}
        self._step_post_hooks: dict[int, Any] = {}
        self._ready: Callable[[], bool] | None = None  # what prepare() made
        self._checked: list[Any] = []  # the settings of each group when they were last checked
        given = _listed(params)
        if not given:
            raise ValueError(
                "the optimizer got an empty parameter list; does the model register its parameters "
                "(nn.Parameter and nn.Module attributes), or was an iterator used up before?"
            )
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    # ---- the rule ----------------------------------------------------------------------

    def update(self, param: Array, grad: Array, state: State, group: Group) -> None:
        """Change ``param`` in place: this optimizer's rule, on the raw arrays of one parameter.

        Args:
            param: the parameter's array.
            grad: its gradient, negated for ``maximize``; not to be changed.
            state: what the rule keeps for this parameter between steps; empty at first.
            group: the settings.
        """
        raise NotImplementedError(f"{type(self).__name__} has no update(); define one.")

    def update_group(self, work: list[tuple[Array, Array, State]], group: Group) -> None:
        """Change the parameters of a group in place, (param, grad, state) each, by ``update``; a
        rule with a kernel for them all overrides it.
        """
        for param, grad, state in work:
            self.update(param, grad, state, group)

    def numbers(self, group: Group, t: float) -> tuple[float, ...] | None:
        """What of the rule changes from step to step (of step ``t``) while the settings stay: what
        its kernel on a GPU reads from memory when a step is recorded. None: there is no such
        kernel. It belongs to the ``update`` of the same class.
        """
        return None

    def check(self, group: Group) -> None:
        """Raise where a setting is out of range. Called whenever it may have changed."""
        if "lr" in group:
            in_range(group, "lr")

    def average(self, state: State, name: str, param: Array, start: float = 0.0) -> Array:
        """The array kept under ``name``, for the rule to change; at first like ``param``, filled
        with ``start``.
        """
        if name not in state:
            state[name] = wrap(backend_of(param).zeros_like(param, dtype=kept_dtype(param)))
            if start:
                state[name].array += start
        array = state[name].array
        changed(array)
        return array

    def number(self, state: State, name: str, start: float) -> Array:
        """The number kept under ``name``, for the rule to change in place; at first ``start``.

        Kept as PyTorch does, as a float32 tensor on the CPU. ``NUMBERS`` lists the names.
        """
        if name not in state:
            state[name] = Tensor(start, dtype=float32)
        array = state[name].array
        changed(array)
        return array

    def count(self, state: State) -> float:
        """Count this step: 1 at the first."""
        step = self.number(state, "step", 0.0)
        step += 1
        return float(step)

    # ---- what training calls -----------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; the others stay as they are.

        A frozen parameter gets no gradient; one it got before it was frozen counts until
        ``zero_grad()``. Settings and gradients are checked first: on an error nothing is changed.

        Args:
            closure: computes the loss anew (zero_grad, forward, backward) and returns it.

        Returns:
            What the closure returned; None without one.
        """
        loss = None
        self.stepped = True
        args: tuple[Any, ...] = (self,) if closure is None else (self, closure)
        kwargs: dict[str, Any] = {}
        for hook in list(self._step_pre_hooks.values()):
            changes = effect(hook, self, args, kwargs)
            if changes is not None:
                if not isinstance(changes, tuple) or len(changes) != 2:
                    raise RuntimeError(
                        "a step pre-hook must return None or a pair (args, kwargs), got "
                        f"{changes!r}."
                    )
                args, kwargs = changes
                closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is not None:
            with set_recording(True):
                loss = closure()
        effect(self._step)
        for hook in list(self._step_post_hooks.values()):
            effect(hook, self, args, kwargs)
        return loss

    def _step(self) -> None:
        if self._ready is not None and self._ready():
            return
        everything = self._work()
        for group, work in everything:
            self._update(work, group)
        self._ready = self._prepared(everything)

    def _update(self, work: list[tuple[Any, State]], group: Group) -> None:
        """Update the parameters of a group."""
        arrays = []
        for param, state in work:
            array, grad = param.array, param._grad.array
            if array.dtype is not float32 and array.dtype == float16:
                with device_of(grad):
                    grad = backend_of(grad).astype(grad, float32)
            if group.get("maximize"):
                with device_of(grad):
                    grad = -grad
            arrays.append((array, grad, state))
        for part in one_device_each(arrays):
            with device_of(part[0][0]):
                self.update_group(part, group)
        for param, state in work:
            changed(param.array)
            if state:
                self.state[param] = state

    def _prepared(self, everything: list[tuple[Group, list[tuple[Any, State]]]]) -> Any:
        parts = []
        for group, work in everything:
            update = self.repeat([(param.array, state) for param, state in work], group)
            if update is None:
                return None
            parts.append(Again(self.state, group, self.check, work, update))
        return once_more(parts)

    def repeat(self, work: list[tuple[Array, State]], group: Group) -> Any:
        """A function of the group's settings that gives one of the gradients, which updates these
        parameters once more; None where the rule, or the backend, has no such short cut.
        """
        return None

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> ModuleHandle:
        """Call ``hook(optimizer, args, kwargs)`` before every ``step``, whose arguments they are
        (the optimizer first); a pair that it returns replaces them.
        """
        return ModuleHandle(self._step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> ModuleHandle:
        """Call ``hook(optimizer, args, kwargs)`` after every ``step``."""
        return ModuleHandle(self._step_post_hooks, hook)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget every parameter's gradient, or set it to zero.

        Zeros are not nothing: a parameter with a gradient of zero still moves by its momentum and
        its weight decay.
        """
        effect(self._zero_grad, set_to_none)

    @in_graph
    def _zero_grad(self, set_to_none: bool) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none or p._grad is None:
                    p._grad = None
                else:
                    p._grad = wrap(backend_of(p._grad.array).zeros_like(p._grad.array))

    def _work(self) -> list[tuple[Group, list[tuple[Any, State]]]]:
        """For each group the parameters to update, each with its state; all of it checked."""
        everything = []
        for number, group in enumerate(self.param_groups):
            settings = [*group.values()]
            if self._checked[number:] == [] or self._checked[number] != settings:
                self.check(group)
                self._checked[number:] = [settings]
            work = []
            for i, param in enumerate(group["params"]):
                if param._grad is not None:
                    state = self.state.get(param, {})
                    if not fits(param._grad, param.array):
                        check_gradient(param, _label(group, i))
                    if self.keeps is not None:
                        check_kept(param, state, group, i)
                    work.append((param, state))
            everything.append((group, work))
        return everything

    # ---- groups ------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Optimize more parameters: ``"params"``, and the settings in which this group differs."""
        if not isinstance(param_group, dict):
            raise TypeError(
                "a parameter group is a dict of 'params' and settings, got "
                f"{type(param_group).__name__}."
            )
        if "params" not in param_group:
            raise ValueError(f"a parameter group needs 'params', got {sorted(param_group)}.")
        params = param_group["params"]
        entries = [params] if isinstance(params, Tensor) else _listed(params)
        pairs = [e for e in entries if isinstance(e, tuple)]
        if pairs and len(pairs) < len(entries):
            raise ValueError(
                f"either all parameters or none come with a name, got {len(pairs)} names for "
                f"{len(entries)} parameters."
            )
        group = {**self.defaults, **param_group}
        group["params"] = [p for _, p in pairs] if pairs else entries
        if pairs:
            group["param_names"] = [name for name, _ in pairs]
        if self.param_groups and bool(pairs) != ("param_names" in self.param_groups[0]):
            raise ValueError(
                "either all parameter groups or none come with names; the groups before this one "
                f"have {'none' if pairs else 'names'}."
            )
        taken = {id(p) for g in self.param_groups for p in g["params"]}
        for i, p in enumerate(group["params"]):
            label = _label(group, i)
            if not isinstance(p, Tensor):
                raise TypeError(f"an optimizer optimizes tensors; {label} is a {type(p).__name__}.")
            if not p.is_leaf:
                raise ValueError(
                    f"can't optimize a non-leaf tensor: {label} was made by an operation, and a "
                    "change in place would not reach what it was made from; pass the leaves it was "
                    "made from, or p.detach()."
                )
            if id(p) in taken:
                raise ValueError(
                    f"{label} appears twice, in one parameter group or in two; it would be updated "
                    "twice a step. Name each parameter once."
                )
            taken.add(id(p))
        self.check(group)
        self.param_groups.append(group)
        self._ready = None

    # ---- state -------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The state and the settings, in PyTorch's layout, with parameters as numbers.

        ``{"state": {0: {"exp_avg": ..., ...}}, "param_groups": [{"lr": ..., "params": [0]}]}``. It
        shares memory with the optimizer: ``copy.deepcopy`` it to keep it over further steps.
        """
        number = {p: i for i, p in enumerate(self._params())}
        return {
            "state": {number[p]: state for p, state in self.state.items() if p in number},
            "param_groups": [
                {
                    **{k: v for k, v in group.items() if k != "params"},
                    "params": [number[p] for p in group["params"]],
                }
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over state and settings: training goes on, bit for bit, as where they were saved.

        Parameters are matched in order. Everything is checked first: on an error nothing is
        changed. Values are copied, to the dtype and device of their parameter; PyTorch's state
        dicts are read.

        Raises:
            ValueError: where groups, sizes, names or shapes do not match.
        """
        if not {"state", "param_groups"} <= set(state_dict):
            raise ValueError(
                "an optimizer's state dict holds 'state' and 'param_groups', got "
                f"{sorted(map(str, state_dict))}; is it a model's?"
            )
        saved_groups = state_dict["param_groups"]
        here, there = ([len(g["params"]) for g in gs] for gs in (self.param_groups, saved_groups))
        if here != there:
            raise ValueError(
                f"the state dict has {len(there)} parameter group(s) of {there} parameters, this "
                f"{type(self).__name__} has {len(here)} of {here}; build the groups as they were."
            )
        numbers = [n for g in saved_groups for n in g["params"]]
        owners = dict(zip(numbers, zip(self._params(), self._labels(), strict=True), strict=True))
        state: defaultdict[Tensor, State] = defaultdict(dict)
        for number, values in state_dict["state"].items():
            if number not in owners:
                raise ValueError(
                    f"the state dict has state for parameter {number!r}, but its groups list only "
                    f"{numbers}."
                )
            param, label = owners[number]
            state[param] = self._restored(values, param, label)
        settings = [
            {k: deepcopy(v) for k, v in g.items() if k not in ("params", *_OF_PYTORCH)}
            for g in saved_groups
        ]
        for group, new in zip(self.param_groups, settings, strict=True):
            self.check({**group, **new})

        self.state, self._ready = state, None
        for group, new in zip(self.param_groups, settings, strict=True):
            group.update(new)

    def _restored(self, values: Mapping[str, Any], param: Tensor, label: str) -> State:
        """A copy of one parameter's state, fit for that parameter."""
        values = {k: v for k, v in values.items() if v is not None}
        if values and self.keeps is not None:
            missing = [k for k in self.keeps if k not in values]
            unknown = [k for k in values if k not in self.keeps + self.may_keep]
            if missing or unknown:
                raise ValueError(
                    f"{type(self).__name__} keeps {list(self.keeps + self.may_keep)}, the state "
                    f"dict has {sorted(values)} for {label}; is it that of another optimizer?"
                )
        state: State = {}
        for name, value in values.items():
            if name in NUMBERS:
                state[name] = Tensor(float(value), dtype=float32)
            elif not hasattr(value, "shape"):
                state[name] = deepcopy(value)
            else:
                if self.keeps is not None and tuple(value.shape) != param.shape:
                    raise ValueError(
                        f"{name} of {label} has shape {tuple(value.shape)} in the state dict, the "
                        f"parameter {param.shape}; is it the state of another model?"
                    )
                given = value.detach() if isinstance(value, Tensor) else wrap(as_array(value))
                dtype = kept_dtype(param.array) if given.is_floating_point() else None
                state[name] = given.to(param.device, dtype).clone()
        return state

    def _params(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    def _labels(self) -> Iterator[str]:
        return (_label(g, i) for g in self.param_groups for i in range(len(g["params"])))

    # ---- printing ----------------------------------------------------------------------

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def one_device_each(work: list[tuple[Array, Array, State]]) -> Iterable[list[Any]]:
    """What is to be updated, device by device where there are several."""
    if not work or not backend_of(work[0][0]).several:
        return [work] if work else []
    parts: defaultdict[str, list[Any]] = defaultdict(list)
    for entry in work:
        parts[backend_of(entry[0]).device_of(entry[0])].append(entry)
    return parts.values()


def in_range(
    group: Group, *names: str, below: float = float("inf"), up_to: float = float("inf")
) -> None:
    """Raise unless 0 <= setting < below and setting <= up_to, for each of the settings named."""
    for name in names:
        value = group[name]
        try:
            fits = bool(0 <= value < below) and bool(value <= up_to)
        except TypeError:
            raise TypeError(
                f"{name} must be a number, got {value!r} ({type(value).__name__})."
            ) from None
        if not fits:
            limit = "finite" if below == float("inf") else f"below {below:g}"
            limit = limit if up_to == float("inf") else f"at most {up_to:g}"
            raise ValueError(f"{name} must be at least 0 and {limit}, got {value}.")


def check_betas(group: Group) -> None:
    """Raise unless the setting ``betas`` is a pair of shares."""
    betas = group["betas"]
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ValueError(f"betas must be a pair (beta1, beta2), got {betas!r}.")
    in_range({"betas[0]": betas[0], "betas[1]": betas[1]}, "betas[0]", "betas[1]", below=1)


def kept_dtype(param: Array) -> Dtype:
    """The dtype of running averages: the parameter's, but float32 for float16.

    In float16, (1 - beta2) g^2 is 0 for every gradient below 0.005, and eps = 1e-8 is 0 itself.
    """
    dtype: Dtype = param.dtype
    return float32 if dtype == float16 else dtype


def fits(grad: Any, array: Array) -> bool:
    """Whether an array on the CPU can be updated with ``grad``; False where more is to be asked."""
    if not isinstance(grad, Tensor):
        return False
    given = grad.array
    return (
        given.shape == array.shape
        and given.dtype is array.dtype
        and given.__class__ is array.__class__ is numpy.array_type
        and array.flags.writeable
    )


def check_gradient(param: Tensor, label: str) -> None:
    """Raise where a parameter cannot be updated with the gradient it has."""
    grad: Any = param.grad
    if not isinstance(grad, Tensor):
        raise TypeError(f"the grad of {label} must be a tensor, got {type(grad).__name__}.")
    if grad.array.shape != param.array.shape:
        raise ShapeError(
            f"the grad of {label} has shape {grad.shape}, the parameter {param.shape}; set one of "
            "the parameter's shape."
        )
    if grad.array.dtype != param.array.dtype:
        raise DtypeError(
            f"the grad of {label} is {grad.dtype}, the parameter {param.dtype}; set "
            "p.grad = p.grad.to(p.dtype)."
        )
    if grad.device != param.device:
        raise DeviceError(
            f"the grad of {label} is on {grad.device}, the parameter on {param.device}; set "
            "p.grad = p.grad.to(p.device)."
        )
    if not getattr(param.array.flags, "writeable", True):
        raise ValueError(
            f"the memory of {label} is read-only; optimize a copy, as in p.detach().clone()."
        )


def check_kept(param: Tensor, state: State, group: Group, i: int) -> None:
    """Raise where what is kept for a parameter no longer fits it."""
    array = param.array
    dtype = kept_dtype(array)
    for name, kept in state.items():
        if name not in NUMBERS and (
            kept.array.shape != array.shape
            or kept.array.dtype != dtype
            or kept.array.__class__ is not array.__class__
            or (array.__class__ is not numpy.array_type and kept.device != param.device)
        ):
            label = _label(group, i)
            raise RuntimeError(
                f"{name} of {label} is {kept.dtype} of shape {kept.shape} on {kept.device}, but "
                f"the parameter now {param.dtype} of shape {param.shape} on {param.device}; after "
                "a model was converted or moved, "
                "optimizer.load_state_dict(optimizer.state_dict()) has the state follow."
            )


def _label(group: Group, i: int) -> str:
    """How a message names a parameter."""
    names = group.get("param_names")
    return f"parameter {i}" if names is None else f"parameter {i} ({names[i]})"


def _listed(params: Any) -> list[Any]:
    """What an optimizer or a group was given, as a list."""
    if isinstance(params, Tensor | Mapping) or not isinstance(params, Iterable):
        raise TypeError(
            "params must be an iterable of tensors, of (name, tensor) pairs, or of dicts, got "
            f"{type(params).__name__}; pass model.parameters(), or a list."
        )
    if isinstance(params, set | frozenset):
        raise TypeError(
            "params must come in an order that is the same in every run, got a set; pass a list."
        )
    return list(params)
