"""What a backend is: an array namespace with NumPy's names, memory, and named kernels."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

Array = Any  # numpy.ndarray or cupy.ndarray; a rule also runs on Tensor


class Namespace:
    """The array functions a rule may use, with NumPy's names and meaning.

    Three interpreters offer them: NumPy, CuPy and ``Tensor`` (whose operations are recorded). A
    rule also uses operators, ``x.shape``, ``x.dtype`` and the methods ``sum``, ``reshape``,
    ``swapaxes``.
    """

    abs: Callable[..., Any]
    all: Callable[..., Any]
    amax: Callable[..., Any]
    amin: Callable[..., Any]
    any: Callable[..., Any]
    argmax: Callable[..., Any]
    argmin: Callable[..., Any]
    broadcast_to: Callable[..., Any]
    clip: Callable[..., Any]
    concatenate: Callable[..., Any]
    cos: Callable[..., Any]
    cosh: Callable[..., Any]
    cumprod: Callable[..., Any]
    cumsum: Callable[..., Any]
    einsum: Callable[..., Any]
    exp: Callable[..., Any]
    expm1: Callable[..., Any]
    flip: Callable[..., Any]
    floor: Callable[..., Any]
    isinf: Callable[..., Any]
    log: Callable[..., Any]
    log1p: Callable[..., Any]
    matmul: Callable[..., Any]
    maximum: Callable[..., Any]
    minimum: Callable[..., Any]
    ones_like: Callable[..., Any]
    pad: Callable[..., Any]
    sign: Callable[..., Any]
    sin: Callable[..., Any]
    sinh: Callable[..., Any]
    sqrt: Callable[..., Any]
    stack: Callable[..., Any]
    take_along_axis: Callable[..., Any]
    tan: Callable[..., Any]
    tanh: Callable[..., Any]
    transpose: Callable[..., Any]
    tril: Callable[..., Any]
    triu: Callable[..., Any]
    trunc: Callable[..., Any]
    where: Callable[..., Any]
    zeros_like: Callable[..., Any]


class Backend(Namespace):
    """An array library as minigrad sees it.

    ``Backend(numpy)`` takes the functions of ``Namespace`` from the library by name; memory and
    what has no NumPy name stands below. The named kernels are in ``reference.Reference``.
    """

    name: str
    array_type: type
    synchronous: bool = True  #: values can be looked at without waiting for a device
    host_random: bool = True  #: what it draws at random is drawn by the host
    several: bool = False  #: its arrays may live on different devices, one of which is current
    ones: Callable[..., Any]
    zeros: Callable[..., Any]
    empty: Callable[..., Any]
    full: Callable[..., Any]
    asarray: Callable[..., Any]
    arange: Callable[..., Any]
    ascontiguousarray: Callable[..., Any]
    sort: Callable[..., Any]
    argsort: Callable[..., Any]
    divide: Callable[..., Any]
    multiply: Callable[..., Any]
    add: Callable[..., Any]
    subtract: Callable[..., Any]
    arccos: Callable[..., Any]
    arcsin: Callable[..., Any]
    arctan: Callable[..., Any]
    arctan2: Callable[..., Any]
    ceil: Callable[..., Any]
    fmod: Callable[..., Any]
    log10: Callable[..., Any]
    log2: Callable[..., Any]
    logaddexp: Callable[..., Any]
    round: Callable[..., Any]

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        for names in (Namespace.__annotations__, Backend.__annotations__):
            for name in names:
                if not hasattr(self, name):
                    setattr(self, name, getattr(module, name))

    def astype(self, x: Array, dtype: Any) -> Array:
        """`x` in another dtype."""
        return x.astype(dtype)

    def run(self, op: Any, *arrays: Array) -> Array:
        """The value of an op within the rule of another; run on Tensors, it is recorded."""
        return op.forward(self, *arrays)

    def _wide(self, x: Array) -> Array:
        """float16 as float32, in which statistics are computed; anything else as it is."""
        return x.astype("float32") if x.dtype == "float16" else x

    def index_add(self, x: Array, index: Any, shape: tuple[int, ...]) -> Array:
        """Zeros of ``shape`` with ``x`` added at ``index``; repeated places accumulate."""
        raise NotImplementedError

    def scatter_add(self, x: Array, index: Array, axis: int, shape: tuple[int, ...]) -> Array:
        """Zeros of ``shape`` with ``x`` added along ``axis`` at ``index``."""
        raise NotImplementedError

    def erf(self, x: Array) -> Array:
        """The error function, 2/sqrt(pi) times the integral of exp(-t**2) from 0 to x."""
        raise NotImplementedError

    def erfc(self, x: Array) -> Array:
        """1 - erf(x); a backend that can keeps the digits where erf(x) is near 1."""
        return 1 - self.erf(x)

    def writable(self, x: Array) -> bool:
        """Whether ``x`` may be changed in place: it is not read-only, and shares no element."""
        return bool(x.flags.writeable)

    def use(self, x: Array) -> int:
        """Make the device of ``x`` the current one; gives the number of the one before."""
        return 0

    def current(self) -> int:
        """The number of the current device."""
        return 0

    def use_again(self, number: int) -> None:
        """Make a device the current one again."""

    def device_of(self, x: Array) -> str:
        """``"cpu"``, ``"cuda:0"``: where an array lives."""
        raise NotImplementedError

    def to_host(self, x: Array) -> Any:
        """The same values as a NumPy array (no copy where it is one already)."""
        raise NotImplementedError

    def from_host(self, x: Any, device: str) -> Array:
        """A NumPy array on ``device`` (no copy where it lives there already)."""
        raise NotImplementedError

    def constant(self, x: Any, device: str) -> Array:
        """As ``from_host``, of values that nobody changes: sent once where they are sent at all."""
        return self.from_host(x, device)
