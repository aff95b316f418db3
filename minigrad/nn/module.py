"""Module: a piece of a model, with its state by name. Parameter, Buffer: two kinds of state."""

from __future__ import annotations

import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NamedTuple

from minigrad.backends import backend_of, capture
from minigrad.backends.capture import effect, in_graph
from minigrad.creation import empty_like
from minigrad.dtypes import as_dtype
from minigrad.engine import scope, set_recording
from minigrad.errors import CheckpointError
from minigrad.interchange import from_torch, is_torch
from minigrad.nn.hooks import BackwardWatch, ModuleHandle
from minigrad.tensor import Tensor, note_failure, parse_to, wrap


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
        self._op = self._grad = None
        self._requires_grad = False
        if requires_grad:
            self.requires_grad = True
        if capture.active is not None:
            capture.active.note(self)


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
        self._op = self._grad = None
        self._requires_grad = False
        self.persistent = persistent
        if capture.active is not None:
            capture.active.note(self)


#: The kinds of hooks, each a dict of them in the order of their calls.
_HOOKS = (
    "_forward_pre_hooks",
    "_forward_hooks",
    "_backward_pre_hooks",
    "_backward_hooks",
    "_state_dict_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


class Call:
    """One call of a module: who, and inside whose call. Ops remember theirs (``op.scope``).

    ``module`` is a weak reference, so that a graph kept in a module's attribute makes no cycle.
    """

    __slots__ = ("module", "parent")
    rule: Any = None  #: see gradients.OfGradient

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
        for hooks in _HOOKS:
            state[hooks] = {}
        state["training"] = True

    def __init_subclass__(cls) -> None:
        if "forward" not in cls.__dict__ and not hasattr(cls, "forward"):

            def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
                raise NotImplementedError(f"{type(self).__name__} has no forward(); define one.")

            cls.forward = forward

    # ---- registration ---------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        state = self.__dict__
        if isinstance(getattr(type(self), name, None), property):  # as a parametrized weight
            object.__setattr__(self, name, value)
            return
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
        if (parameters := state.get("_parameters")) is None:
            raise AttributeError(
                f"{type(self).__name__} has no {name!r} yet: call super().__init__() in "
                f"{type(self).__name__}.__init__ first."
            )
        if name in parameters:
            return parameters[name]
        if name in (buffers := state["_buffers"]):
            return buffers[name]
        if name in (modules := state["_modules"]):
            return modules[name]
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
        return sorted(n for n in {*object.__dir__(self), *own} if not n[0].isdigit())

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
        if not isinstance(name, str):
            raise TypeError(f"a name is a string, got {type(name).__name__} {name!r}.")
        if "." in name or not name:
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
        """(name, module) of the modules set on this one; one that is set twice, once."""
        seen: set[Module] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

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

    def get_buffer(self, target: str) -> Buffer:
        """The buffer at a dotted path."""
        path, _, name = target.rpartition(".")
        found = getattr(self.get_submodule(path), name)
        if not isinstance(found, Buffer):
            raise AttributeError(f"{target!r} is not a buffer.")
        return found

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put ``module`` at a dotted path.

        Args:
            strict: there must be a module already, to be replaced.
        """
        if not target:
            raise ValueError("set_submodule needs a path such as 'features.0', got an empty one.")
        if not isinstance(module, Module):
            raise ValueError(f"set_submodule takes an nn.Module, got {type(module).__name__}.")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict or hasattr(parent, name):
            found = getattr(parent, name)
            if not isinstance(found, Module):
                raise AttributeError(
                    f"{name!r} in {target!r} is not a module but {type(found).__name__}; choose "
                    "another name, or delete it first."
                )
        setattr(parent, name, module)

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
        effect(self._zero_grad, set_to_none)

    @in_graph
    def _zero_grad(self, set_to_none: bool) -> None:
        for p in self.parameters():
            if set_to_none or p._grad is None:
                p._grad = None
            else:
                p._grad = wrap(backend_of(p._grad.array).zeros_like(p._grad.array))

    # ---- device and dtype -----------------------------------------------------------------------

    def to(self, *args: Any, **kwargs: Any) -> Module:
        """Move every parameter and buffer, in place; a dtype applies to the floating ones only."""
        device, dtype = parse_to(args, kwargs)
        if dtype is not None and dtype.kind != "f":
            raise TypeError(f"a module's dtype must be floating, got {dtype}.")
        return self._convert(lambda t: t.to(device, dtype if t.is_floating_point() else None))

    def _convert(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Module:
        with set_recording(False):
            for module in self.modules() if recurse else [self]:
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

    def bfloat16(self) -> Module:
        """Refused: there is no bfloat16 among NumPy's dtypes."""
        raise TypeError("bfloat16 is not supported; use .half() (float16) or .float() (float32).")

    def type(self, dst_type: Any) -> Module:
        """Every parameter and buffer, integers as well, in a floating dtype."""
        dtype = as_dtype(dst_type)
        if dtype.kind != "f":
            raise TypeError(f"a module's dtype must be floating, got {dtype}.")
        return self._convert(lambda t: t.to(dtype))

    def to_empty(self, *, device: Any, recurse: bool = True) -> Module:
        """New memory of any content, on a device, for every parameter and buffer."""
        return self._convert(lambda t: empty_like(t, device=device), recurse)

    def cpu(self) -> Module:
        """Everything on the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Module:
        """Everything on a GPU."""
        return self.to(device="cuda" if device is None else device)

    # ---- calls ----------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """``forward`` between its hooks; an error says where in the model it arose."""
        outer = scope.get()
        me = weakref.ref(self)
        token = scope.set(Call(outer, me))
        if capture.active is not None:
            capture.active.modules[id(self)] = me
        try:
            if not (
                self._forward_pre_hooks
                or self._forward_hooks
                or self._backward_pre_hooks
                or self._backward_hooks
            ):
                return self.forward(*args, **kwargs)
            return self._between_hooks(args, kwargs)
        except (ValueError, TypeError, RuntimeError) as error:
            if not hasattr(error, "_path"):
                _locate(error, scope.get())
                note_failure(error, type(self).__name__, "", (*args, *kwargs.values()))
            raise
        finally:
            scope.reset(token)

    def _between_hooks(self, args: Any, kwargs: Any) -> Any:
        result, called = None, set()
        try:
            for hook, with_kwargs in list(self._forward_pre_hooks.values()):
                if with_kwargs:
                    changed = hook(self, args, kwargs)
                    if changed is None:
                        continue
                    if not isinstance(changed, tuple) or len(changed) != 2:
                        raise RuntimeError(
                            "a forward pre-hook with_kwargs must return None or a pair (args, "
                            f"kwargs), got {changed!r}."
                        )
                    args, kwargs = changed
                else:
                    changed = hook(self, args)
                    if changed is not None:
                        args = changed if isinstance(changed, tuple) else (changed,)
            watch = None
            if self._backward_hooks or self._backward_pre_hooks:
                watch = BackwardWatch(
                    self,
                    list(self._backward_hooks.values()),
                    list(self._backward_pre_hooks.values()),
                )
                args = watch.inputs(args)
            result = self.forward(*args, **kwargs)
            for key, (hook, with_kwargs, _) in list(self._forward_hooks.items()):
                called.add(key)
                given = (args, kwargs, result) if with_kwargs else (args, result)
                changed = hook(self, *given)
                if changed is not None:
                    result = changed
            return result if watch is None else watch.outputs(result)
        except Exception:
            for key, (hook, with_kwargs, always) in list(self._forward_hooks.items()):
                if always and key not in called:
                    try:
                        hook(self, *((args, kwargs, result) if with_kwargs else (args, result)))
                    except Exception as error:
                        warnings.warn(
                            f"a forward hook with always_call=True failed ({error}) after another "
                            "error, which is the one raised.",
                            stacklevel=3,
                        )
            raise

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> ModuleHandle:
        """Call ``hook(module, args)`` before ``forward``; its result replaces the arguments.

        Args:
            prepend: before the hooks there are, instead of after them.
            with_kwargs: call ``hook(module, args, kwargs)``, which may return (args, kwargs).
        """
        return ModuleHandle(self._forward_pre_hooks, (hook, with_kwargs), prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> ModuleHandle:
        """Call ``hook(module, args, output)`` after ``forward``; what it returns replaces the
        output.

        Args:
            prepend: before the hooks there are, instead of after them.
            with_kwargs: call ``hook(module, args, kwargs, output)``.
            always_call: also where ``forward`` failed, with None for the output.
        """
        return ModuleHandle(self._forward_hooks, (hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> ModuleHandle:
        """Call ``hook(module, grad_output)`` when the gradients of the outputs are complete; what
        it returns replaces them.
        """
        return ModuleHandle(self._backward_pre_hooks, hook, prepend)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> ModuleHandle:
        """Call ``hook(module, grad_input, grad_output)`` when the gradients of the positional
        inputs are complete; what it returns replaces them.

        Both are tuples, with None for what is no tensor or requires no gradient. The output must
        be a tensor or a tuple.
        """
        return ModuleHandle(self._backward_hooks, hook, prepend)

    # ---- state dict -----------------------------------------------------------------------------

    def state_dict(
        self,
        *,
        destination: OrderedDict[str, Tensor] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> OrderedDict[str, Tensor]:
        """Every parameter and persistent buffer by its path; they share memory with the model.

        Args:
            destination: a dict to add them to, and to return.
            prefix: put before every path, such as ``"encoder."``.
            keep_vars: the parameters themselves instead of their detached values.
        """
        state: OrderedDict[str, Tensor] = OrderedDict() if destination is None else destination
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        for key, _, _, value in self._state(prefix):
            state[key] = value if keep_vars else value.detach()
        for hook in self._state_dict_hooks.values():
            hook(self, state, prefix, {})
        return state

    def _state(self, prefix: str = "") -> Iterator[tuple[str, Module, str, Tensor]]:
        """(key, the module it is set on, its name there, the tensor) of the whole state."""
        for path, module in self.named_modules(remove_duplicate=False):
            for register in ("_parameters", "_buffers"):
                for name, value in module.__dict__[register].items():
                    if value is not None and getattr(value, "persistent", True):
                        key = f"{path}.{name}" if path else name
                        yield prefix + key, module, name, value

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> ModuleHandle:
        """Call ``hook(module, prefix, keep_vars)`` before this module's ``state_dict``."""
        return ModuleHandle(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> ModuleHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)``, which may change the dict,
        after this module's ``state_dict``.
        """
        return ModuleHandle(self._state_dict_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> ModuleHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata, strict, missing_keys,
        unexpected_keys, error_msgs)``, which may change a copy of the dict, before it is loaded.
        """
        return ModuleHandle(self._load_state_dict_pre_hooks, hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> ModuleHandle:
        """Call ``hook(module, incompatible_keys)`` after ``load_state_dict``; it may clear them."""
        return ModuleHandle(self._load_state_dict_post_hooks, hook)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> LoadResult:
        """Copy the values of a state dict into this model's parameters and buffers.

        The values may be tensors, of PyTorch as well, or arrays. Everything is checked first: on
        an error the model is as it was.

        Args:
            strict: missing and unexpected names are an error; otherwise they are only returned.
            assign: make the tensors themselves, in their dtypes and on their devices, the model's
                parameters and buffers, instead of copying their values. Do it before an optimizer
                is built: it would go on with the old ones.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                "load_state_dict expects a state dict (tensors by name), got "
                f"{type(state_dict).__name__}; minigrad.load(path) reads one from a file."
            )
        faults: list[str] = []
        given = dict(state_dict)
        for hook in self._load_state_dict_pre_hooks.values():
            hook(self, given, "", {}, strict, [], [], faults)
        own = {key: (module, name, value) for key, module, name, value in self._state()}
        missing = [k for k in own if k not in given]
        unexpected = [k for k in given if k not in own]
        for key in given.keys() & own.keys():
            value, wanted = given[key], own[key][2].shape
            if not hasattr(value, "shape"):
                faults.append(f"{key} is no tensor but {type(value).__name__}")
            elif tuple(value.shape) != wanted:
                faults.append(f"{key} has shape {wanted}, the state dict {tuple(value.shape)}")
            elif not isinstance(value, Tensor):
                given[key] = from_torch(value) if is_torch(value) else Tensor(value, value.dtype)
        result = LoadResult(missing, unexpected)
        if not self._load_state_dict_post_hooks:  # one may yet clear the names that do not match
            faults += result.faults() if strict else []
        if faults:
            raise _unfit(self, faults)
        with set_recording(False):
            for key, (module, name, old) in own.items():
                if key not in given:
                    continue
                value = given[key]
                if not assign:
                    old.copy_(value)
                elif isinstance(old, Buffer):
                    module._buffers[name] = Buffer(value, persistent=old.persistent)
                elif isinstance(value, Parameter):
                    module._parameters[name] = value.requires_grad_(old.requires_grad)
                else:
                    module._parameters[name] = Parameter(value, old.requires_grad)
        for hook in self._load_state_dict_post_hooks.values():
            hook(self, result)
        if strict and result.faults():
            raise _unfit(self, result.faults())
        return result

    # ---- printing -------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the parentheses of ``repr``; a subclass says its settings."""
        return ""

    def summary(self, x: Any = None, *, depth: int | None = None) -> Any:
        """The layers as a table, with shapes, parameters and work; see ``minigrad.summary``."""
        return import_module("minigrad.summaries").summary(self, x, depth=depth)

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


class LoadResult(NamedTuple):
    """The names that did not match in ``load_state_dict``."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def faults(self) -> list[str]:
        """What does not match, told one by one."""
        return [f"missing: {k}" for k in self.missing_keys] + [
            f"unexpected: {k}{_suggestion(k, self.missing_keys)}" for k in self.unexpected_keys
        ]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"LoadResult(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"
        )


def path_of(call: Call | None) -> str:
    """The path of a module call from the outermost module, such as ``features.1``."""
    names: list[str] = []
    while call is not None and call.rule is not None:
        call = call.parent
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


def _unfit(module: Module, faults: list[str]) -> CheckpointError:
    what = f"the state dict does not fit {type(module).__name__}:"
    return CheckpointError("\n  ".join([what, *faults]))


def _suggestion(name: str, known: Any) -> str:
    close = get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
