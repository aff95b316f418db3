"""A tile: a few rows of 16 sums that stay in the processor's registers while products are added.

A compiled loop is fast where it does more than reading. For six rows of 16 sums, twelve registers,
one step reads 16 numbers of a matrix and six of another and does 96 multiplications and additions;
NumPy's BLAS is built on the same step. Numba has no word for registers, so these four functions
write the processor's instructions (LLVM's, for any processor) themselves:

    tile = rows_of(v, i, at)                      every row is v[i : i + 16]
    tile = add_products(tile, x, at, k, v, i)     row r += x[at[r] + k] v[i : i + 16]
    put(tile, y, at, k)                           y[at[r] + k : at[r] + k + 16] = row r
    add_to(tile, y, i, step)                      y[i + r step : i + r step + 16] += row r

``at`` is a tuple of places, one for each row; all arrays are vectors, in float32. In float64 a row
has 8 sums. Nothing is checked: a place outside an array is read or written as it is.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from minigrad.backends.compiled.numba_kernels import Kernel

#: Bytes of a row: two registers of 32.
_ROW, _REGISTER = 64, 32


def columns(dtype: Any) -> int:
    """Sums in a row of a tile of this dtype."""
    return _ROW // int(dtype.itemsize)


class Instruction(Kernel):
    """A function that writes instructions, for the kernels that call it."""

    def jitted(self) -> Any:
        """Numba's intrinsic."""
        if self.ready is None:
            self.ready = import_module("numba.extending").intrinsic(self.function)
        return self.ready


@cache
def _tile_type() -> Any:
    """The type of a tile in compiled code: so many registers of so many numbers."""
    types, extending = import_module("numba.core.types"), import_module("numba.extending")
    ir = import_module("llvmlite.ir")

    class Tile(types.Type):  # type: ignore[misc, name-defined]
        def __init__(self, dtype: Any, rows: int) -> None:
            self.dtype, self.rows = dtype, rows
            self.size = dtype.bitwidth // 8
            super().__init__(f"Tile({dtype}, {rows})")

        def vector(self) -> Any:
            """LLVM's type of one register."""
            number = ir.FloatType() if self.size == 4 else ir.DoubleType()
            return ir.VectorType(number, _REGISTER // self.size)

    @extending.register_model(Tile)
    class TileModel(extending.models.PrimitiveModel):  # type: ignore[misc, name-defined]
        def __init__(self, manager: Any, tile: Any) -> None:
            registers = ir.ArrayType(tile.vector(), 2 * tile.rows)
            super().__init__(manager, tile, registers)

    return Tile


class Writer:
    """Writes one function's instructions."""

    def __init__(self, context: Any, builder: Any, tile: Any) -> None:
        self.context, self.builder, self.tile = context, builder, tile
        self.ir: Any = import_module("llvmlite.ir")
        self.vector = tile.vector()

    def data(self, kind: Any, array: Any) -> Any:
        """The address of an array's first number."""
        return self.context.make_array(kind)(self.context, self.builder, array).data

    def registers(self, data: Any, place: Any, vector: Any) -> list[Any]:
        """Where the two halves of a row from ``place`` on lie."""
        first = self.builder.gep(data, [place])
        second = self.builder.gep(first, [self.ir.Constant(self.ir.IntType(64), vector.count)])
        return [self.builder.bitcast(p, vector.as_pointer()) for p in (first, second)]

    def load(self, pointer: Any, size: int) -> Any:
        value = self.builder.load(pointer)
        value.align = size  # of one number: rows begin anywhere
        return value

    def store(self, value: Any, pointer: Any, size: int) -> None:
        self.builder.store(value, pointer).align = size

    def place(self, at: Any, row: int, more: Any) -> Any:
        """at[row] + more."""
        return self.builder.add(self.builder.extract_value(at, row), more)

    def everywhere(self, number: Any) -> Any:
        """A register that holds ``number`` in all places."""
        integer, undefined = self.ir.IntType(32), self.ir.Constant(self.vector, self.ir.Undefined)
        one = self.builder.insert_element(undefined, number, self.ir.Constant(integer, 0))
        zeros = self.ir.Constant(self.ir.VectorType(integer, self.vector.count), None)
        return self.builder.shuffle_vector(one, undefined, zeros)

    def product_and_sum(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, in one instruction where there is one."""
        kind = self.ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.vector.count}f{8 * self.tile.size}"
        function = import_module("numba.core.cgutils").get_or_insert_function
        return self.builder.call(function(self.builder.module, kind, name), [a, b, c])


def _signature(*kinds: Any) -> Any:
    return import_module("numba.core.typing").signature(*kinds)


def _nothing() -> Any:
    return import_module("numba.core.types").void


@Instruction
def rows_of(typing: Any, v: Any, i: Any, at: Any) -> Any:
    """A tile whose every row is v[i : i + 16]; as many rows as places in ``at``."""
    tile = _tile_type()(v.dtype, at.count)

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = Writer(context, builder, tile)
        value = w.ir.Constant(context.get_value_type(tile), w.ir.Undefined)
        for half, pointer in enumerate(w.registers(w.data(v, args[0]), args[1], w.vector)):
            numbers = w.load(pointer, tile.size)
            for row in range(tile.rows):
                value = builder.insert_value(value, numbers, 2 * row + half)
        return value

    return _signature(tile, v, i, at), write


@Instruction
def add_products(typing: Any, tile: Any, x: Any, at: Any, k: Any, v: Any, i: Any) -> Any:
    """The tile, to whose row r is added x[at[r] + k] v[i : i + 16]."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = Writer(context, builder, tile)
        value, x_array, places, more, v_array, first = args
        numbers = w.data(x, x_array)
        halves = [w.load(p, tile.size) for p in w.registers(w.data(v, v_array), first, w.vector)]
        for row in range(tile.rows):
            factor = builder.load(builder.gep(numbers, [w.place(places, row, more)]))
            factor = w.everywhere(factor)
            for half in range(2):
                before = builder.extract_value(value, 2 * row + half)
                after = w.product_and_sum(factor, halves[half], before)
                value = builder.insert_value(value, after, 2 * row + half)
        return value

    return _signature(tile, tile, x, at, k, v, i), write


@Instruction
def put(typing: Any, tile: Any, y: Any, at: Any, k: Any) -> Any:
    """y[at[r] + k : at[r] + k + 16] = row r."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = Writer(context, builder, tile)
        value, array, places, more = args
        data = w.data(y, array)
        for row in range(tile.rows):
            for half, pointer in enumerate(w.registers(data, w.place(places, row, more), w.vector)):
                w.store(builder.extract_value(value, 2 * row + half), pointer, tile.size)
        return context.get_dummy_value()

    return _signature(_nothing(), tile, y, at, k), write


@Instruction
def add_to(typing: Any, tile: Any, y: Any, i: Any, step: Any) -> Any:
    """y[i + r step : i + r step + 16] += row r, in float64."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = Writer(context, builder, tile)
        value, array, place, stride = args
        data = w.data(y, array)
        wide = w.ir.VectorType(w.ir.DoubleType(), w.vector.count)
        for row in range(tile.rows):
            for half, pointer in enumerate(w.registers(data, place, wide)):
                more = builder.extract_value(value, 2 * row + half)
                if tile.size == 4:
                    more = builder.fpext(more, wide)
                w.store(builder.fadd(w.load(pointer, 8), more), pointer, 8)
            place = builder.add(place, stride)
        return context.get_dummy_value()

    return _signature(_nothing(), tile, y, i, step), write
