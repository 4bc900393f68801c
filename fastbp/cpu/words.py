"""What the words of `vectors` mean to the compiler.

Two kinds of pointer exist. One goes along a single row, a vector of its numbers at a time. The
other, `Columns`, stands for as many short rows as a vector has lanes: they have been transposed
into a tile, and a vector holds one column of all of them. To a traversal both look the same, but
that `lanes` of a tile is 1, and that what is folded across the lanes of a row stays as it is in a
tile; so a function for one row, compiled for the other pointer, computes sixteen rows at once.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model
from numba.np import arrayobj

from .. import formulas
from . import vectors
from .simd import (
    BITS,
    I32,
    I64,
    IR,
    LANES,
    Traced,
    Vector,
    constant,
    ir_type,
    plain,
    spread,
)  # fmt: skip


class Columns(types.Type):
    """Pointer to a tile: column j of several rows is the vector at lanes·j."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Columns({dtype})")


@register_model(Columns)
class ColumnsModel(models.PrimitiveModel):
    """A pointer like any other."""

    def __init__(self, manager: Any, kind: Columns) -> None:
        super().__init__(manager, kind, IR[kind.dtype].as_pointer())


def word(stub: Callable[..., Any]) -> Callable[[Callable[..., Any]], None]:
    """Give a word its meaning: from the types of its arguments, a signature and a code writer."""

    def give(meaning: Callable[..., Any]) -> None:
        @infer_global(stub)
        class Template(AbstractTemplate):
            def generic(self, args: tuple[types.Type, ...], kws: Any) -> Any:
                return meaning(*plain(args))[0]

        def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            write = meaning(*sig.args)[1]
            # LLVM avoids 512-bit registers unless the function asks for them.
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
            result = write(context, builder, *args)
            return context.get_dummy_value() if result is None else result

        lower_builtin(stub, types.VarArg(types.Any))(lower)

    return give


def vector_behind(pointer: types.Type) -> Vector:
    """The vector type that is read through a pointer."""
    return Vector(pointer.dtype, LANES[pointer.dtype])


def double_behind(pointer: types.Type) -> Vector:
    """As many float64 as there are lanes in that vector."""
    return Vector(types.float64, LANES[pointer.dtype])


def _address(b: ir.IRBuilder, p: ir.Value, j: ir.Value, pointer: types.Type) -> ir.Value:
    kind = vector_behind(pointer)
    if isinstance(pointer, Columns):
        j = b.mul(j, I64(kind.lanes))
    return b.bitcast(b.gep(p, [j]), ir_type(kind).as_pointer())


def _first_lanes(b: ir.IRBuilder, n: ir.Value, kind: Vector) -> ir.Value:
    counted = Vector(types.int32, kind.lanes)
    lane = ir.Constant(ir_type(counted), list(range(kind.lanes)))
    return b.icmp_signed("<", lane, spread(b, b.trunc(n, I32), counted))


def _alignment(kind: Vector) -> int:
    return BITS[kind.element] // 8


def _masked_load(
    b: ir.IRBuilder, address: ir.Value, n: ir.Value, fill: ir.Value, kind: Vector
) -> ir.Value:
    operands = [address, I32(_alignment(kind)), _first_lanes(b, n, kind), fill]
    return _masked(b, "load", kind, ir_type(kind), operands)


def _masked_store(
    b: ir.IRBuilder, v: ir.Value, address: ir.Value, n: ir.Value, kind: Vector
) -> None:
    operands = [v, address, I32(_alignment(kind)), _first_lanes(b, n, kind)]
    _masked(b, "store", kind, ir.VoidType(), operands)


def _masked(
    b: ir.IRBuilder, what: str, kind: Vector, returns: ir.Type, operands: list[ir.Value]
) -> ir.Value:
    function = b.module.declare_intrinsic(
        f"llvm.masked.{what}.v{kind.lanes}f{BITS[kind.element]}.p0",
        fnty=ir.FunctionType(returns, [o.type for o in operands]),
    )
    return b.call(function, operands)


# pointers -----------------------------------------------------------------------------------------


def _row_address(
    context: Any, b: ir.IRBuilder, x: types.Array, x_: ir.Value, i: ir.Value
) -> ir.Value:
    array = arrayobj.make_array(x)(context, b, x_)
    if x.ndim == 0:
        return array.data
    offset = b.mul(cgutils.unpack_tuple(b, array.strides, x.ndim)[0], i)
    return cgutils.pointer_add(b, array.data, offset, array.data.type)


@word(vectors.row)
def _row(x: types.Type, i: types.Type) -> Any:
    if x == types.none:
        return signature(types.none, x, types.intp), lambda *_: None

    def write(context: Any, b: ir.IRBuilder, x_: ir.Value, i_: ir.Value) -> ir.Value:
        return _row_address(context, b, x, x_, i_)

    return signature(types.CPointer(x.dtype), x, types.intp), write


@word(vectors.lanes)
def _lanes(p: types.Type) -> Any:
    lanes = 1 if isinstance(p, Columns) else LANES[p.dtype]
    return signature(types.intp, p), lambda context, b, p_: I64(lanes)


@word(vectors.number)
def _number(p: types.Type, value: types.Type) -> Any:
    return signature(p.dtype, p, p.dtype), lambda context, b, p_, v: v


# vectors ------------------------------------------------------------------------------------------


@word(vectors.load)
def _load(p: types.Type, j: types.Type) -> Any:
    kind = vector_behind(p)

    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, j_: ir.Value) -> ir.Value:
        return b.load(_address(b, p_, j_, p), align=_alignment(kind))

    return signature(kind, p, types.intp), write


@word(vectors.load_some)
def _load_some(p: types.Type, j: types.Type, n: types.Type, fill: types.Type) -> Any:
    kind = vector_behind(p)

    def write(context: Any, b: ir.IRBuilder, p_: Any, j_: Any, n_: Any, fill_: Any) -> ir.Value:
        address = _address(b, p_, j_, p)
        if isinstance(p, Columns):  # n is 1: the whole column
            return b.load(address, align=_alignment(kind))
        return _masked_load(b, address, n_, spread(b, fill_, kind), kind)

    return signature(kind, p, types.intp, types.intp, p.dtype), write


@word(vectors.store)
def _store(p: types.Type, j: types.Type, v: Vector) -> Any:
    kind = vector_behind(p)

    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, j_: ir.Value, v_: ir.Value) -> None:
        b.store(v_, _address(b, p_, j_, p), align=_alignment(kind))

    return signature(types.void, p, types.intp, kind), write


@word(vectors.store_some)
def _store_some(p: types.Type, j: types.Type, n: types.Type, v: Vector) -> Any:
    kind = vector_behind(p)

    def write(context: Any, b: ir.IRBuilder, p_: Any, j_: Any, n_: Any, v_: Any) -> None:
        address = _address(b, p_, j_, p)
        if isinstance(p, Columns):
            b.store(v_, address, align=_alignment(kind))
        else:
            _masked_store(b, v_, address, n_, kind)

    return signature(types.void, p, types.intp, types.intp, kind), write


@word(vectors.splat)
def _splat(p: types.Type, value: types.Type) -> Any:
    kind = vector_behind(p)
    return signature(kind, p, p.dtype), lambda context, b, p_, v: spread(b, v, kind)


@word(vectors.splat64)
def _splat64(p: types.Type, value: types.Type) -> Any:
    kind = double_behind(p)
    return signature(kind, p, types.float64), lambda context, b, p_, v: spread(b, v, kind)


@word(vectors.first_lanes)
def _keep_first_lanes(p: types.Type, v: Vector, n: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, v_: ir.Value, n_: ir.Value) -> ir.Value:
        if isinstance(p, Columns):
            return v_
        return b.select(_first_lanes(b, n_, v), v_, constant(v, 0.0))

    return signature(v, p, v, types.intp), write


# across the lanes of a row ------------------------------------------------------------------------


def _fold(p: types.Type, formula: Callable[..., Any], *kinds: types.Type) -> Any:
    """A formula that folds vectors to numbers; of a tile the vectors themselves."""
    count = 1 if formula is formulas.max_of_lanes else 2
    folded = kinds[:count] if isinstance(p, Columns) else [k.element for k in kinds[:count]]
    result = folded[0] if count == 1 else types.Tuple(folded)

    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, *values: ir.Value) -> ir.Value:
        parts = list(values[:count])
        if not isinstance(p, Columns):
            traced = [Traced(b, v, k) for v, k in zip(values, kinds, strict=True)]
            out = formula(*traced)
            parts = [t.value for t in (out if isinstance(out, tuple) else (out,))]
        return parts[0] if count == 1 else context.make_tuple(b, result, parts)

    return signature(result, p, *kinds), write


@word(vectors.max_across)
def _max_across(p: types.Type, v: Vector) -> Any:
    return _fold(p, formulas.max_of_lanes, v)


@word(vectors.sum_across)
def _sum_across(p: types.Type, s: Vector, s_lo: Vector, like: types.Type) -> Any:
    return _fold(p, formulas.sum_of_lanes, s, s_lo, like)


@word(vectors.value_at_max_across)
def _value_at_max_across(p: types.Type, v: Vector, value: Vector) -> Any:
    return _fold(p, formulas.value_at_max_of_lanes, v, value)


@word(vectors.sum_zero)
def _sum_zero(p: types.Type) -> Any:
    kind = double_behind(p) if isinstance(p, Columns) else types.float64
    return signature(kind, p), lambda context, b, p_: constant(kind, 0.0)


@word(vectors.count)
def _count(p: types.Type, mask: Vector) -> Any:
    kind = double_behind(p) if isinstance(p, Columns) else types.float64

    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, mask_: ir.Value) -> ir.Value:
        if isinstance(p, Columns):
            return b.uitofp(mask_, ir_type(kind))
        bits = b.ctpop(b.bitcast(mask_, ir.IntType(mask.lanes)))
        return b.uitofp(b.zext(bits, I32), IR[types.float64])

    return signature(kind, p, mask), write


# tiles of short rows ------------------------------------------------------------------------------

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
        (_row_address(context, b, x, x_, b.add(i, I64(r))), b.icmp_signed("<", I64(r), k))
        for r in lanes
    ]


@word(vectors.read_tile)
def _read_tile(x: types.Array, i: types.Type, k: types.Type, n: types.Type) -> Any:
    kind = vector_behind(x)

    def write(context: Any, b: ir.IRBuilder, x_: Any, i_: Any, k_: Any, n_: Any) -> ir.Value:
        room = I64(TILE_VECTORS * kind.lanes * kind.lanes)
        with b.goto_entry_block():
            tile = b.alloca(IR[x.dtype], room)
            tile.align = 64
        lines = _lines(context, b, x, x_, i_, k_)
        zero = constant(kind, 0.0)
        for first in range(0, TILE_VECTORS * kind.lanes, kind.lanes):
            with b.if_then(b.icmp_signed(">", n_, I64(first))):
                left = b.sub(n_, I64(first))
                rows = []
                for address, exists in lines:
                    p = b.bitcast(b.gep(address, [I64(first)]), ir_type(kind).as_pointer())
                    rows.append(_masked_load(b, p, b.select(exists, left, I64(0)), zero, kind))
                for j, column in enumerate(transposed(b, rows)):
                    b.store(column, _address(b, tile, I64(first + j), Columns(x.dtype)), align=64)
        return tile

    return signature(Columns(x.dtype), x, types.intp, types.intp, types.intp), write


@word(vectors.write_tile)
def _write_tile(tile: Columns, x: types.Array, i: types.Type, k: types.Type, n: types.Type) -> Any:
    kind = vector_behind(x)

    def write(
        context: Any, b: ir.IRBuilder, tile_: Any, x_: Any, i_: Any, k_: Any, n_: Any
    ) -> None:
        lines = _lines(context, b, x, x_, i_, k_)
        for first in range(0, TILE_VECTORS * kind.lanes, kind.lanes):
            with b.if_then(b.icmp_signed(">", n_, I64(first))):
                left = b.sub(n_, I64(first))
                columns = [
                    b.load(_address(b, tile_, I64(first + j), tile), align=64)
                    for j in range(kind.lanes)
                ]
                for row, (address, exists) in zip(transposed(b, columns), lines, strict=True):
                    p = b.bitcast(b.gep(address, [I64(first)]), ir_type(kind).as_pointer())
                    _masked_store(b, row, p, b.select(exists, left, I64(0)), kind)

    return signature(types.void, tile, x, types.intp, types.intp, types.intp), write


@word(vectors.tile_if)
def _tile_if(tile: Columns, array: types.Type) -> Any:
    if array == types.none:
        return signature(types.none, tile, array), lambda *_: None
    return signature(tile, tile, array), lambda context, b, tile_, array_: tile_


@word(vectors.lane_numbers)
def _lane_numbers(x: types.Array) -> Any:
    def write(context: Any, b: ir.IRBuilder, x_: ir.Value) -> ir.Value:
        with b.goto_entry_block():
            room = b.alloca(IR[types.float64], I64(LANES[x.dtype]))
            room.align = 64
        return room

    return signature(types.CPointer(types.float64), x), write


@word(vectors.load_lanes)
def _load_lanes(tile: Columns, numbers: types.CPointer) -> Any:
    kind = double_behind(tile)

    def write(context: Any, b: ir.IRBuilder, tile_: ir.Value, numbers_: ir.Value) -> ir.Value:
        return b.load(b.bitcast(numbers_, ir_type(kind).as_pointer()), align=8)

    return signature(kind, tile, numbers), write


@word(vectors.store_lanes)
def _store_lanes(tile: Columns, numbers: types.CPointer, v: Vector) -> Any:
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
    kind = vector_behind(p) if tile else p.dtype

    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, k_: ir.Value) -> ir.Value:
        values = [b.load(place) for place in _places(b, p, p_, k_)]
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
            b.store(b.extract_element(value_, I32(i)) if tile else value_, place)

    return signature(types.void, p, k if tile else types.intp, value), write


# calls --------------------------------------------------------------------------------------------


def call_kernel(address: int, first: int, last: int, arguments: tuple[Any, ...]) -> None:
    """Call the compiled kernel at an address; only within a compiled function."""


@word(call_kernel)
def _call_kernel(address: types.Type, first: types.Type, last: types.Type, kinds: Any) -> Any:
    sig = signature(types.none, types.intp, types.intp, types.intp, kinds)

    def write(
        context: Any, b: ir.IRBuilder, address_: Any, first_: Any, last_: Any, all_: Any
    ) -> None:
        parts = [first_, last_, *cgutils.unpack_tuple(b, all_, len(kinds))]
        types_of_parts = (types.intp, types.intp, *kinds)
        convention = context.call_conv
        kernel_type = convention.get_function_type(types.none, types_of_parts)
        kernel = b.inttoptr(address_, kernel_type.as_pointer())
        convention.call_function(b, kernel, types.none, types_of_parts, parts)

    return sig, write
