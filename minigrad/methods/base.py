"""What every family of methods builds on: what Tensor adds, and what several families share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from minigrad.backends import backend_of, device_of, quiet
from minigrad.errors import DtypeError, RangeError
from minigrad.shapes import as_axes, broadcast_shapes, prod

if TYPE_CHECKING:
    from minigrad.tensor import Tensor

Dim = int | Sequence[int] | None


class ValuesIndices(NamedTuple):
    """What ``max(dim)``, ``min(dim)``, ``sort`` and ``topk`` return."""

    values: Any
    indices: Any


class Base:
    """What Tensor offers to its methods; and what several families of them share."""

    __slots__ = ()

    if TYPE_CHECKING:
        # What Tensor adds.
        array: Any
        _apply: Callable[..., Tensor]
        _binary: Callable[..., Tensor]
        _promoted: Callable[..., tuple[Any, Any]]
        _on_one_device: Callable[..., tuple[Any, Any]]
        _wrap: Callable[..., Tensor]
        _change: Callable[..., Tensor]
        _become: Callable[..., Tensor]
        _store: Callable[..., None]
        _set: Callable[..., None]
        _draw: Callable[..., Tensor]
        to: Callable[..., Tensor]
        tolist: Callable[..., Any]
        # What one family has and another uses.
        _own: Callable[..., Any]
        _where: Callable[..., Tensor]
        abs: Callable[..., Tensor]
        expand: Callable[..., Tensor]
        gather: Callable[..., Tensor]
        masked_fill: Callable[..., Tensor]
        matmul: Callable[..., Tensor]
        maximum: Callable[..., Tensor]
        minimum: Callable[..., Tensor]
        movedim: Callable[..., Tensor]
        reshape: Callable[..., Tensor]

        def __getitem__(self, index: Any) -> Tensor:
            """See Indexing."""
            raise NotImplementedError

        def __setitem__(self, index: Any, value: Any) -> None:
            """See Indexing."""
            raise NotImplementedError

        @property
        def shape(self) -> tuple[int, ...]:
            """See Tensor."""
            raise NotImplementedError

        @property
        def ndim(self) -> int:
            """See Tensor."""
            raise NotImplementedError

        @property
        def requires_grad(self) -> bool:
            """See Tensor."""
            raise NotImplementedError

        @property
        def dtype(self) -> Any:
            """See Tensor."""
            raise NotImplementedError

        @property
        def device(self) -> str:
            """See Tensor."""
            raise NotImplementedError

    def _plain(self, function: Callable[[Any, Any], Any], a: Any, b: Any) -> Tensor:
        """The values of a function of two operands, of which no gradient is asked."""
        if a is None or b is None or isinstance(b, str):
            return NotImplemented  # type: ignore[no-any-return] # == is False then, < TypeError
        if isinstance(a, Base) and isinstance(b, Base):
            if a.array.__class__ is not b.array.__class__:
                a, b = self._on_one_device("a comparison", a, b)
            if a.dtype != b.dtype:
                a, b = self._promoted(a, b)
        a, b = (
            x.array if isinstance(x, Base) else x if getattr(x, "ndim", 1) else x.item()
            for x in (a, b)
        )
        try:
            with quiet(), device_of(self.array):
                result = backend_of(self.array).asarray(function(a, b))
        except ValueError:
            broadcast_shapes(*(tuple(x.shape) for x in (a, b) if hasattr(x, "shape")))
            raise
        except TypeError as error:
            dtypes = " and ".join(str(getattr(x, "dtype", x)) for x in (a, b))
            raise DtypeError(f"the operands' dtypes do not allow it, {dtypes}: {error}.") from None
        return self._wrap(result)

    def _values(self, name: str, *arguments: Any) -> Tensor:
        """The values of a function of the array library, of which no gradient is asked."""
        xp = backend_of(self.array)
        with device_of(self.array):
            return self._wrap(xp.asarray(getattr(xp.module, name)(self.array, *arguments)))

    def _axes(self, dim: Dim, axis: Dim) -> tuple[int, ...]:
        given = axis if dim is None else dim
        if given is not None and not isinstance(given, int) and len(given) == 0:
            given = None  # PyTorch: an empty list of dims means all of them
        return as_axes(given, self.ndim)

    def _needs_floating(self, what: str, x: Any) -> None:
        if x.dtype.kind != "f":
            raise DtypeError(
                f"{what} needs a floating tensor, got {x.dtype}; convert it first, as in x.float()."
            )

    def _needs_elements(self, what: str, axes: tuple[int, ...]) -> None:
        if not prod(self.shape[a] for a in axes):
            raise RangeError(
                f"{what} over no elements: shape {self.shape} is empty on axes {axes}."
            )
