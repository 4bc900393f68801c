"""The words of `vectors` that speak of tiles: transposing short rows into one and back."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.np import arrayobj

from . import vectors
from .simd import I32, I64, IR, LANES, Vector, computed, constant, ir_type
from .words import (
    Columns,
    address_of,
    as_vector,
    double_behind,
    load_from,
    masked_load,
    masked_store,
    row_address,
    store_to,
    vector_behind,
    word,
)

# A tile has room for rows of up to this many vectors.
TILE_VECTORS = 2


@word(vectors.longest_short_row)
def _longest_short_row(x: types.Array) -> Any:
    return signature(types.intp, x), lambda context, b, x_: I64(TILE_VECTORS * LANES[x.dtype])


@word(vectors.rows_in_tile)
def _rows_in_tile(x: types.Array) -> Any:
    return signature(types.intp, x), lambda context, b, x_: I64(LANES[x.dtype])


def transposed(b: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """A square of vectors transposed: log2(lanes) times, each is interleaved with its partner."""
    n = len(rows)
    low = [i // 2 + n * (i % 2) for i in range(n)]
    masks = [
        ir.Constant(ir.VectorType(I32, n), [i + offset for i in low]) for offset in (0, n // 2)
    ]
    for _ in range(n.bit_length() - 1):
        pairs = list(zip(rows[: n // 2], rows[n // 2 :], strict=True))
        rows = [b.shuffle_vector(x, y, mask) for x, y in pairs for mask in masks]
    return rows


def _lines(
    context: Any, b: ir.IRBuilder, x: types.Array, x_: ir.Value, i: ir.Value, k: ir.Value
) -> list[tuple[ir.Value, ir.Value]]:
    """Address of each row of a tile, and whether it is one of the k that exist."""
    lanes = range(LANES[x.dtype])
    return [
        (row_address(context, b, x, x_, b.add(i, I64(r))), b.icmp_signed("<", I64(r), k))
        for r in lanes
    ]


def _is_transposed(context: Any, b: ir.IRBuilder, x: types.Array, x_: ir.Value) -> ir.Value:
    """Whether it is numbers of a column, not those of a row, that follow one another in memory."""
    array = arrayobj.make_array(x)(context, b, x_)
    by_row, by_column = cgutils.unpack_tuple(b, array.strides, 2)
    apart = b.icmp_signed("!=", by_column, array.itemsize)
    return b.and_(apart, b.icmp_signed("==", by_row, array.itemsize))


def _column(
    context: Any, b: ir.IRBuilder, x: types.Array, x_: ir.Value, i: ir.Value, j: ir.Value
) -> ir.Value:
    """Where column j stands in such an array, from row i on."""
    array = arrayobj.make_array(x)(context, b, x_)
    offset = b.mul(cgutils.unpack_tuple(b, array.strides, 2)[1], j)
    column = cgutils.pointer_add(b, array.data, offset, array.data.type)
    return as_vector(b, b.gep(column, [i]), x.dtype)


def _new_tile(b: ir.IRBuilder, kind: Vector) -> ir.Value:
    """Room for a tile; in the function's first block, so that a loop does not take it twice."""
    with b.goto_entry_block():
        tile = b.alloca(IR[kind.element], I64(TILE_VECTORS * kind.lanes * kind.lanes))
        tile.align = 64
    return tile


@word(vectors.read_tile)
def _read_tile(x: types.Array, i: types.Type, k: types.Type, n: types.Type) -> Any:
    kind = vector_behind(x)
    columns = Columns(kind.element)

    def write(context: Any, b: ir.IRBuilder, x_: Any, i_: Any, k_: Any, n_: Any) -> ir.Value:
        tile = _new_tile(b, kind)
        zero = constant(kind, 0.0)
        with b.if_else(_is_transposed(context, b, x, x_)) as (transposed_already, by_rows):
            with transposed_already, cgutils.for_range(b, n_) as loop:
                p = _column(context, b, x, x_, i_, loop.index)
                v = masked_load(context, b, p, k_, zero, x.dtype)
                b.store(v, address_of(b, tile, loop.index, columns), align=64)
            with by_rows:
                lines = _lines(context, b, x, x_, i_, k_)
                for first in range(0, TILE_VECTORS * kind.lanes, kind.lanes):
                    with b.if_then(b.icmp_signed(">", n_, I64(first))):
                        left = b.sub(n_, I64(first))
                        rows = []
                        for address, exists in lines:
                            p = as_vector(b, b.gep(address, [I64(first)]), x.dtype)
                            n_here = b.select(exists, left, I64(0))
                            rows.append(masked_load(context, b, p, n_here, zero, x.dtype))
                        for j, column in enumerate(transposed(b, rows)):
                            b.store(column, address_of(b, tile, I64(first + j), columns), align=64)
        return tile

    return signature(columns, x, types.intp, types.intp, types.intp), write


@word(vectors.write_tile)
def _write_tile(tile: Columns, x: types.Array, i: types.Type, k: types.Type, n: types.Type) -> Any:
    kind = vector_behind(x)

    def write(
        context: Any, b: ir.IRBuilder, tile_: Any, x_: Any, i_: Any, k_: Any, n_: Any
    ) -> None:
        with b.if_else(_is_transposed(context, b, x, x_)) as (stays_transposed, by_rows):
            with stays_transposed, cgutils.for_range(b, n_) as loop:
                column = b.load(address_of(b, tile_, loop.index, tile), align=64)
                p = _column(context, b, x, x_, i_, loop.index)
                masked_store(context, b, column, p, k_, x.dtype)
            with by_rows:
                lines = _lines(context, b, x, x_, i_, k_)
                for first in range(0, TILE_VECTORS * kind.lanes, kind.lanes):
                    with b.if_then(b.icmp_signed(">", n_, I64(first))):
                        left = b.sub(n_, I64(first))
                        columns = [
                            b.load(address_of(b, tile_, I64(first + j), tile), align=64)
                            for j in range(kind.lanes)
                        ]
                        rows = transposed(b, columns)
                        for row, (address, exists) in zip(rows, lines, strict=True):
                            p = as_vector(b, b.gep(address, [I64(first)]), x.dtype)
                            n_here = b.select(exists, left, I64(0))
                            masked_store(context, b, row, p, n_here, x.dtype)

    return signature(types.void, tile, x, types.intp, types.intp, types.intp), write


@word(vectors.if_given)
def _if_given(tile: types.Type, array: types.Type) -> Any:
    if array == types.none:
        return signature(types.none, tile, array), lambda *_: None
    return signature(tile, tile, array), lambda context, b, tile_, array_: tile_


@word(vectors.spare_tile)
def _spare_tile(tile: Columns, needed: types.Type) -> Any:
    if needed == types.none:
        return signature(types.none, tile, needed), lambda *_: None
    return signature(tile, tile, needed), lambda context, b, *_: _new_tile(b, vector_behind(tile))


@word(vectors.lane_numbers)
def _lane_numbers(x: types.Array) -> Any:
    def write(context: Any, b: ir.IRBuilder, x_: ir.Value) -> ir.Value:
        with b.goto_entry_block():
            room = b.alloca(IR[types.float64], I64(LANES[x.dtype]))
            room.align = 64
        return room

    return signature(types.CPointer(types.float64), x), write


@word(vectors.load_lanes)
def _load_lanes(tile: types.Type, numbers: types.CPointer) -> Any:
    kind = double_behind(tile)

    def write(context: Any, b: ir.IRBuilder, tile_: ir.Value, numbers_: ir.Value) -> ir.Value:
        return b.load(b.bitcast(numbers_, ir_type(kind).as_pointer()), align=8)

    return signature(kind, tile, numbers), write


@word(vectors.store_lanes)
def _store_lanes(tile: types.Type, numbers: types.CPointer, v: Vector) -> Any:
    def write(context: Any, b: ir.IRBuilder, tile_: Any, numbers_: Any, v_: Any) -> None:
        b.store(v_, b.bitcast(numbers_, ir_type(v).as_pointer()), align=8)

    return signature(types.void, tile, numbers, v), write


def _places(b: ir.IRBuilder, p: types.Type, p_: ir.Value, k: ir.Value) -> list[ir.Value]:
    """The address p[k], or in each row of a tile its own."""
    if not isinstance(p, Columns):
        return [b.gep(p_, [k])]
    lanes = LANES[p.dtype]
    columns = [b.fptosi(b.extract_element(k, I32(i)), I64) for i in range(lanes)]
    return [b.gep(p_, [b.add(b.mul(c, I64(lanes)), I64(i))]) for i, c in enumerate(columns)]


@word(vectors.pick)
def _pick(p: types.Type, k: types.Type) -> Any:
    tile = isinstance(p, Columns)
    kind = vector_behind(p) if tile else computed(p.dtype)

    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, k_: ir.Value) -> ir.Value:
        values = [load_from(context, b, place, p.dtype) for place in _places(b, p, p_, k_)]
        if not tile:
            return values[0]
        picked = ir.Constant(ir_type(kind), ir.Undefined)
        for i, value in enumerate(values):
            picked = b.insert_element(picked, value, I32(i))
        return picked

    return signature(kind, p, k if tile else types.intp), write


@word(vectors.put)
def _put(p: types.Type, k: types.Type, value: types.Type) -> Any:
    tile = isinstance(p, Columns)

    def write(context: Any, b: ir.IRBuilder, p_: Any, k_: Any, value_: Any) -> None:
        for i, place in enumerate(_places(b, p, p_, k_)):
            v = b.extract_element(value_, I32(i)) if tile else value_
            store_to(context, b, v, place, p.dtype)

    return signature(types.void, p, k if tile else types.intp, value), write
