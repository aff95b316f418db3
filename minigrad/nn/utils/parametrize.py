"""Parameters computed from others: ``module.weight`` as a function of what is learnt instead.

    parametrize.register_parametrization(linear, "weight", Symmetric())

makes ``linear.weight`` the value of ``Symmetric()(original)`` at every access, and ``original``,
under ``linear.parametrizations.weight.original``, the parameter that is learnt and saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from copy import deepcopy
from typing import Any

from minigrad.engine import set_recording
from minigrad.nn.container import ModuleDict, ModuleList
from minigrad.nn.module import Module, Parameter
from minigrad.tensor import Tensor

#: Values computed within ``cached()``, by module and name; None outside.
_values: ContextVar[dict[tuple[int, str], Tensor] | None] = ContextVar(
    "minigrad_parametrized", default=None
)


@contextmanager
def cached() -> Iterator[None]:
    """Compute every parametrized tensor once in here, instead of at every access."""
    token = _values.set({} if _values.get() is None else _values.get())
    try:
        yield
    finally:
        _values.reset(token)


class ParametrizationList(ModuleList):
    """The functions of one parametrized tensor, and what they are applied to.

    That is ``original``, or, where the first one's ``right_inverse`` gives several tensors,
    ``original0``, ``original1``, ...
    """

    original: Tensor

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        if not modules:
            raise ValueError("a ParametrizationList needs at least one module, got none.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        with set_recording(False):
            new: Any = original
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    with suppress(NotImplementedError):  # as if there were none: the identity
                        new = module.right_inverse(new)
        self.is_tensor = isinstance(new, Tensor)
        self.ntensors = 1 if self.is_tensor else len(_several(new))
        if self.is_tensor:
            _check_dtype("original", new, original)
            original.data = new  # the same object: an optimizer that has it stays right
            _register(self, "original", original)
        else:
            for i, part in enumerate(new):
                if isinstance(original, Parameter):
                    part = Parameter(part.detach().clone(), original.requires_grad)
                _register(self, f"original{i}", part)
        if unsafe:
            return
        value = self()
        if not isinstance(value, Tensor):
            raise ValueError(f"a parametrization must return a tensor, got {type(value).__name__}.")
        for name, before, after in (("dtype", dtype, value.dtype), ("shape", shape, value.shape)):
            if before != after:
                raise ValueError(
                    f"a parametrization must keep the {name} of the tensor, {before}, got {after}; "
                    "pass unsafe=True where that is meant."
                )

    def right_inverse(self, value: Tensor) -> None:
        """Set the originals so that the parametrized tensor becomes ``value``."""
        with set_recording(False):
            new: Any = value
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(
                        f"{type(module).__name__} has no right_inverse, so the parametrized tensor "
                        "cannot be assigned; give it one, or set the original."
                    )
                new = module.right_inverse(new)
            if self.is_tensor:
                if not isinstance(new, Tensor):
                    raise ValueError(
                        f"right_inverse must return a tensor here, got {type(new).__name__}."
                    )
                _check_dtype("original", new, self.original)
                self.original.data = new
                return
            if len(_several(new)) != self.ntensors:
                raise ValueError(
                    f"right_inverse must return {self.ntensors} tensors here, got {len(new)}."
                )
            for i, part in enumerate(new):
                own = getattr(self, f"original{i}")
                _check_dtype(f"original{i}", part, own)
                own.data = part.detach().clone()

    def forward(self) -> Tensor:
        """The parametrized tensor."""
        if self.is_tensor:
            value = self[0](self.original)
        else:
            value = self[0](*(getattr(self, f"original{i}") for i in range(self.ntensors)))
        for module in list(self)[1:]:
            value = module(value)
        return value  # type: ignore[no-any-return]


class _Parametrized:
    """What the class of a module gains with its first parametrization."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copy = object.__new__(type(self))
        memo[id(self)] = copy
        copy.__dict__.update(deepcopy(self.__dict__, memo))
        return copy

    def __getstate__(self) -> Any:
        raise RuntimeError(
            f"a {type(self).__name__} cannot be pickled, its class was made at run time; save its "
            "state_dict()."
        )


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Have ``module.tensor_name`` be ``parametrization`` of what it was; once more, of what it is.

    Assigning to the tensor goes through ``parametrization.right_inverse(value)``, which may return
    several tensors (on the first parametrization only): they are then what is learnt.

    Args:
        unsafe: do not check that dtype and shape stay.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        found: Any = module.parametrizations[tensor_name]
        if not unsafe:
            _check_next(getattr(module, tensor_name), parametrization)
        found.append(parametrization)
        found.unsafe = found.unsafe or unsafe
        return module
    if tensor_name not in module._buffers and tensor_name not in module._parameters:
        raise ValueError(
            f"{type(module).__name__} has no parameter, buffer or parametrized tensor "
            f"{tensor_name!r}; it has "
            f"{', '.join([*module._parameters, *module._buffers]) or 'none'}."
        )
    made = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        kind = type(module)
        module.__class__ = type(f"Parametrized{kind.__name__}", (_Parametrized, kind), {})
        module.parametrizations = ModuleDict()
    setattr(type(module), tensor_name, _property(tensor_name))
    module.parametrizations[tensor_name] = made
    return module


def _check_next(before: Tensor, parametrization: Module) -> None:
    with set_recording(False):
        results = {"a parametrization": parametrization(before)}
        if hasattr(parametrization, "right_inverse"):
            after = results["a parametrization"]
            with suppress(NotImplementedError):
                results["right_inverse"] = parametrization.right_inverse(after)
    for what, result in results.items():
        if not isinstance(result, Tensor):
            raise ValueError(
                f"{what} of an already parametrized tensor must return a tensor, got "
                f"{type(result).__name__}."
            )
        if result.dtype != before.dtype or result.shape != before.shape:
            raise ValueError(
                f"{what} must keep dtype and shape, {before.dtype} and {before.shape}, got "
                f"{result.dtype} and {result.shape}; pass unsafe=True where that is meant."
            )


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether ``module`` has a parametrized tensor (of that name)."""
    found = getattr(module, "parametrizations", None)
    if not isinstance(found, ModuleDict):
        return False
    return len(found) > 0 if tensor_name is None else tensor_name in found


def remove_parametrizations(
    module: Module, tensor_name: str, leave_parametrized: bool = True
) -> Module:
    """Make ``module.tensor_name`` a plain parameter or buffer again.

    Args:
        leave_parametrized: with its present value; False: with that of ``original``.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(
            f"{type(module).__name__} has no parametrization on {tensor_name!r} to remove."
        )
    found: Any = module.parametrizations[tensor_name]
    if found.is_tensor:
        original = found.original
        if leave_parametrized:
            with set_recording(False):
                original.data = getattr(module, tensor_name)
    elif leave_parametrized:
        value = getattr(module, tensor_name)
        original = Parameter(value.detach()) if value.requires_grad else value
    else:
        raise ValueError(
            f"{tensor_name!r} is parametrized by several tensors, so there is no original to "
            "return to; pass leave_parametrized=True to keep its present value."
        )
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    _register(module, tensor_name, original)
    if not is_parametrized(module):
        del module.parametrizations
        module.__class__ = type_before_parametrizations(module)
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class of ``module`` before its first parametrization."""
    kind = type(module)
    return kind.__bases__[1] if kind.__bases__[0] is _Parametrized else kind


def _property(name: str) -> property:
    def get(self: Any) -> Tensor:
        values, key = _values.get(), (id(self), name)
        if values is None:
            return self.parametrizations[name]()  # type: ignore[no-any-return]
        if key not in values:
            values[key] = self.parametrizations[name]()
        return values[key]

    def set(self: Any, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)

    return property(get, set)


def _register(module: Module, name: str, tensor: Tensor) -> None:
    if isinstance(tensor, Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


def _several(new: Any) -> Sequence[Tensor]:
    if not isinstance(new, Sequence) or not all(isinstance(t, Tensor) for t in new):
        raise ValueError(
            "right_inverse must return a tensor or a sequence of tensors, got "
            f"{type(new).__name__}."
        )
    return new


def _check_dtype(name: str, new: Tensor, old: Tensor) -> None:
    if new.dtype != old.dtype:
        raise ValueError(
            f"right_inverse must keep the dtype of {name}, {old.dtype}, got {new.dtype}; convert "
            "its result."
        )
