"""Module: a piece of a model, with its state by name. Parameter, Buffer: two kinds of state."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from minigrad.backends import backend_of
from minigrad.engine import set_recording
from minigrad.errors import CheckpointError
from minigrad.tensor import Tensor, parse_to, scope, wrap


class Parameter(Tensor):
    """A tensor that is learnt: a module registers it by its attribute name.

    Args:
        data: the values; shares their memory.
        requires_grad: whether gradients flow to it (False: frozen).
    """

    __slots__ = ()

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        self.array = (
            data if isinstance(data, Tensor) else Tensor(() if data is None else data)
        ).array
        self._op = self.grad = None
        self._requires_grad = False
        if requires_grad:
            self.requires_grad = True


class Buffer(Tensor):
    """State that is not learnt, such as running statistics: no gradient, but moved and saved.

    Args:
        data: the values; shares their memory.
        persistent: whether it is part of the state dict.
    """

    __slots__ = ("persistent",)

    def __init__(self, data: Any = None, *, persistent: bool = True) -> None:
        self.array = (
            data if isinstance(data, Tensor) else Tensor(() if data is None else data)
        ).array
        self._op = self.grad = None
        self._requires_grad = False
        self.persistent = persistent


class Call:
    """One call of a module: who, and inside whose call. Ops remember theirs (``op.scope``).

    ``module`` is a weak reference, so that a graph kept in a module's attribute makes no cycle.
    """

    __slots__ = ("module", "parent")

    def __init__(self, parent: Call | None, module: Any) -> None:
        self.parent, self.module = parent, module


class Module:
    """Base class of everything with parameters.

    A subclass sets parameters, buffers and other modules as attributes in ``__init__`` and
    computes in ``forward``; calling the module calls ``forward`` between its hooks.

    Example:
        >>> from minigrad import nn
        >>> class Twice(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.linear = nn.Linear(2, 2)
        ...     def forward(self, x):
        ...         return self.linear(self.linear(x))
        >>> sorted(Twice().state_dict())
        ['linear.bias', 'linear.weight']
    """

    training: bool
    forward: Callable[..., Any]

    def __init__(self) -> None:
        state = self.__dict__
        state["_parameters"] = {}
        state["_buffers"] = {}
        state["_modules"] = {}
        state["_forward_pre_hooks"] = {}
        state["_forward_hooks"] = {}
        state["training"] = True

    def __init_subclass__(cls) -> None:
        if "forward" not in cls.__dict__ and not hasattr(cls, "forward"):

            def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
                raise NotImplementedError(f"{type(self).__name__} has no forward(); define one.")

            cls.forward = forward

    # ---- registration ---------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        state = self.__dict__
        for kind, register in (
            (Parameter, "_parameters"),
            (Module, "_modules"),
            (Buffer, "_buffers"),
        ):
            if isinstance(value, kind):
                if register not in state:
                    raise AttributeError(
                        f"call super().__init__() in {type(self).__name__}.__init__ before "
                        f"setting {name!r}."
                    )
                for other in ("_parameters", "_modules", "_buffers"):
                    if other != register:
                        state[other].pop(name, None)
                state.pop(name, None)
                state[register][name] = value
                return
        for register in ("_parameters", "_modules", "_buffers"):
            if name in state.get(register, ()):
                if value is None:
                    state[register][name] = None
                    return
                if register == "_buffers" and isinstance(value, Tensor):
                    old = state[register][name]
                    keep = True if old is None else old.persistent
                    state[register][name] = Buffer(value, persistent=keep)
                    return
                if register == "_parameters":
                    raise TypeError(
                        f"{name!r} is a parameter and takes an nn.Parameter or None, got "
                        f"{type(value).__name__}."
                    )
                del state[register][name]
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        state = self.__dict__
        for register in ("_parameters", "_buffers", "_modules"):
            if name in state.get(register, ()):
                return state[register][name]
        raise AttributeError(
            f"{type(self).__name__} has no attribute {name!r}" + _suggestion(name, self.__dir__())
        )

    def __delattr__(self, name: str) -> None:
        for register in ("_parameters", "_buffers", "_modules"):
            if name in self.__dict__[register]:
                del self.__dict__[register][name]
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        state = self.__dict__
        own = [n for r in ("_parameters", "_buffers", "_modules") for n in state.get(r, ())]
        return [*object.__dir__(self), *own]

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """As ``self.name = param``; None reserves the name."""
        self._check_name(name)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"parameter {name!r} must be an nn.Parameter, got {type(param).__name__}."
            )
        self.__dict__["_parameters"][name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """As ``self.name = Buffer(tensor)``; None reserves the name."""
        self._check_name(name)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"buffer {name!r} must be a tensor, got {type(tensor).__name__}.")
        made = None if tensor is None else Buffer(tensor, persistent=persistent)
        self.__dict__["_buffers"][name] = made

    def register_module(self, name: str, module: Module | None) -> None:
        """As ``self.name = module``; None reserves the name."""
        self._check_name(name)
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"module {name!r} must be an nn.Module, got {type(module).__name__}.")
        self.__dict__["_modules"][name] = module

    add_module = register_module

    def _check_name(self, name: str) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError("call super().__init__() before registering anything.")
        if not isinstance(name, str) or "." in name or not name:
            raise KeyError(f"a name is a non-empty string without dots, got {name!r}.")
        if hasattr(self, name) and all(
            name not in self.__dict__[r] for r in ("_parameters", "_buffers", "_modules")
        ):
            raise KeyError(f"attribute {name!r} exists already.")

    # ---- walking --------------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(path, module) of this module and everything in it, in order of declaration."""
        memo = set() if memo is None else memo
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if remove_duplicate and module in memo:
                continue
            memo.add(module)
            yield path, module
            stack.extend(
                (f"{path}.{name}" if path else name, child)
                for name, child in reversed(module._modules.items())
                if child is not None
            )

    def modules(self) -> Iterator[Module]:
        """This module and everything in it."""
        return (m for _, m in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the modules set on this one."""
        return ((n, m) for n, m in self._modules.items() if m is not None)

    def children(self) -> Iterator[Module]:
        """The modules set on this one."""
        return (m for _, m in self.named_children())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter) of every parameter; one that is shared, once."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Every parameter."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Buffer]]:
        """(path, buffer) of every buffer."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        """Every buffer."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def _named(
        self, register: str, prefix: str, recurse: bool, once: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        walk = (
            self.named_modules(prefix=prefix, remove_duplicate=once)
            if recurse
            else [(prefix, self)]
        )
        for path, module in walk:
            for name, value in module.__dict__[register].items():
                if value is None or (once and id(value) in seen):
                    continue
                seen.add(id(value))
                yield f"{path}.{name}" if path else name, value

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path; the empty path is this one."""
        module: Any = self
        for name in target.split(".") if target else ():
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"{name!r} in {target!r} is not a module.")
        return module  # type: ignore[no-any-return]

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path."""
        path, _, name = target.rpartition(".")
        found = getattr(self.get_submodule(path), name)
        if not isinstance(found, Parameter):
            raise AttributeError(f"{target!r} is not a parameter.")
        return found

    def apply(self, fn: Callable[[Module], Any]) -> Module:
        """Call ``fn`` on every module in here, innermost first, then on this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # ---- modes ----------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Train mode for everything in here: BatchNorm uses its batch, Dropout drops."""
        if not isinstance(mode, bool):
            raise ValueError(f"train() takes True or False, got {mode!r}.")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Eval mode: BatchNorm uses its running statistics, Dropout passes everything."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Freeze (False) or unfreeze every parameter."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget every parameter's gradient, or set it to zero."""
        for p in self.parameters():
            if set_to_none or p.grad is None:
                p.grad = None
            else:
                p.grad = wrap(backend_of(p.grad.array).zeros_like(p.grad.array))

    # ---- device and dtype -----------------------------------------------------------------------

    def to(self, *args: Any, **kwargs: Any) -> Module:
        """Move every parameter and buffer, in place; a dtype applies to the floating ones only."""
        device, dtype = parse_to(args, kwargs)
        if dtype is not None and dtype.kind != "f":
            raise TypeError(f"a module's dtype must be floating, got {dtype}.")
        return self._convert(lambda t: t.to(device, dtype if t.is_floating_point() else None))

    def _convert(self, fn: Callable[[Tensor], Tensor]) -> Module:
        with set_recording(False):
            for module in self.modules():
                for register in ("_parameters", "_buffers"):
                    for tensor in module.__dict__[register].values():
                        if tensor is not None:
                            tensor.array = fn(tensor.detach()).array
                            if tensor.grad is not None:
                                tensor.grad.array = fn(tensor.grad.detach()).array
        return self

    def float(self) -> Module:
        """Floating parameters and buffers as float32."""
        return self.to("float32")

    def double(self) -> Module:
        """Floating parameters and buffers as float64."""
        return self.to("float64")

    def half(self) -> Module:
        """Floating parameters and buffers as float16."""
        return self.to("float16")

    def cpu(self) -> Module:
        """Everything on the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Module:
        """Everything on a GPU."""
        return self.to(
            "cuda" if device is None else f"cuda:{device}" if str(device).isdigit() else device
        )

    # ---- calls ----------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """``forward`` between its hooks; an error says where in the model it arose."""
        outer = scope.get()
        token = scope.set(Call(outer, weakref.ref(self)))
        try:
            for pre_hook in self._forward_pre_hooks.values():
                changed = pre_hook(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
            result = self.forward(*args, **kwargs)
            for hook in self._forward_hooks.values():
                changed = hook(self, args, result)
                if changed is not None:
                    result = changed
            return result
        except (ValueError, TypeError, RuntimeError) as error:
            if not hasattr(error, "_path"):
                _locate(error, scope.get())
            raise
        finally:
            scope.reset(token)

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> ModuleHandle:
        """Call ``hook(module, args)`` before ``forward``; its result replaces the arguments."""
        return ModuleHandle(self._forward_pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[..., Any]) -> ModuleHandle:
        """Call ``hook(module, args, output)`` after ``forward``; what it returns replaces the
        output.
        """
        return ModuleHandle(self._forward_hooks, hook)

    # ---- state dict -----------------------------------------------------------------------------

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> OrderedDict[str, Tensor]:
        """Every parameter and persistent buffer by its path; they share memory with the model."""
        state: OrderedDict[str, Tensor] = OrderedDict()
        for path, module in self.named_modules(prefix=prefix.rstrip("."), remove_duplicate=False):
            for register in ("_parameters", "_buffers"):
                for name, value in module.__dict__[register].items():
                    if value is not None and getattr(value, "persistent", True):
                        key = f"{path}.{name}" if path else name
                        state[key] = value if keep_vars else value.detach()
        return state

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> LoadResult:
        """Copy the values of a state dict into this model's parameters and buffers.

        Everything is checked first: on an error the model is as it was.

        Args:
            strict: missing and unexpected names are an error; otherwise they are only returned.
            assign: take the tensors themselves instead of copying their values.
        """
        own = self.state_dict(keep_vars=True)
        missing = [k for k in own if k not in state_dict]
        unexpected = [k for k in state_dict if k not in own]
        faults = []
        if strict:
            faults += [f"missing: {k}" for k in missing]
            faults += [f"unexpected: {k}{_suggestion(k, missing)}" for k in unexpected]
        for key, value in state_dict.items():
            if key in own and tuple(value.shape) != own[key].shape:
                faults.append(
                    f"{key} has shape {own[key].shape}, the state dict {tuple(value.shape)}"
                )
        if faults:
            raise CheckpointError(
                f"the state dict does not fit {type(self).__name__}:\n  " + "\n  ".join(faults)
            )
        with set_recording(False):
            for key, value in state_dict.items():
                if key in own:
                    value = (
                        value if isinstance(value, Tensor) else Tensor(value, dtype=own[key].dtype)
                    )
                    if assign:
                        own[key].array = value.array
                    else:
                        own[key].copy_(value)
        return LoadResult(missing, unexpected)

    # ---- printing -------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the parentheses of ``repr``; a subclass says its settings."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [
            f"({name}): " + repr(child).replace("\n", "\n  ")
            for name, child in self._modules.items()
        ]
        if not children:
            return f"{self._get_name()}({extra})"
        lines = ([extra] if extra else []) + children
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"

    # ---- copies and pickles ---------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class ModuleHandle:
    """What registering a hook returns; ``remove()`` takes the hook away."""

    _count = 0

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        ModuleHandle._count += 1
        self._hooks, self._key = hooks, ModuleHandle._count
        hooks[self._key] = hook

    def remove(self) -> None:
        """Take the hook away; a second time does nothing."""
        self._hooks.pop(self._key, None)

    def __enter__(self) -> ModuleHandle:
        return self

    def __exit__(self, *error: Any) -> None:
        self.remove()


class LoadResult:
    """The names that did not match in ``load_state_dict``."""

    def __init__(self, missing_keys: list[str], unexpected_keys: list[str]) -> None:
        self.missing_keys, self.unexpected_keys = missing_keys, unexpected_keys

    def __iter__(self) -> Iterator[list[str]]:
        return iter((self.missing_keys, self.unexpected_keys))

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"LoadResult(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"
        )


def path_of(call: Call | None) -> str:
    """The path of a module call from the outermost module, such as ``features.1``."""
    names: list[str] = []
    while call is not None and call.parent is not None:
        parent, module = call.parent.module(), call.module()
        names.append(
            next((n for n, m in parent._modules.items() if m is module), None)
            or next((p for p, m in parent.named_modules() if m is module), None)
            or type(module).__name__
            if parent is not None and module is not None
            else "?"
        )
        call = call.parent
    return ".".join(reversed(names))


def _locate(error: Exception, call: Call | None) -> None:
    """Add to an error's message where in the model it arose, such as ``[model.features.1]``."""
    path = path_of(call)
    error._path = path  # type: ignore[attr-defined]
    if error.args and isinstance(error.args[0], str):
        where = f"model.{path}" if path else "model"
        error.args = (f"{error.args[0]}  [{where}]", *error.args[1:])


def _suggestion(name: str, known: Any) -> str:
    close = get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
