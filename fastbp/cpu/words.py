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

from . import vectors
from .halves import I16, Half, from_float32, to_float32
from .simd import (
    BITS,
    I32,
    I64,
    IR,
    LANES,
    Vector,
    computed,
    constant,
    ir_type,
    plain,
    spread,
)  # fmt: skip

VECTORS_IN_WIDE = 4


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
    return Vector(computed(pointer.dtype), LANES[pointer.dtype])


def double_behind(pointer: types.Type) -> Vector:
    """As many float64 as there are lanes in that vector."""
    return Vector(types.float64, LANES[pointer.dtype])


def wide_behind(pointer: types.Type) -> Vector:
    """The type of a wide one: four vectors, computed side by side.

    A processor can begin the next of them while it waits for one, and their code is written once.
    """
    return Vector(computed(pointer.dtype), VECTORS_IN_WIDE * LANES[pointer.dtype])


def address_of(
    b: ir.IRBuilder, p: ir.Value, j: ir.Value, pointer: types.Type, lanes: int | None = None
) -> ir.Value:
    """Where the vector j of a row, or the column j of a tile, stands."""
    if isinstance(pointer, Columns):
        j = b.mul(j, I64(LANES[pointer.dtype]))
    return as_vector(b, b.gep(p, [j]), pointer.dtype, lanes)


def as_vector(
    b: ir.IRBuilder, address: ir.Value, dtype: types.Type, lanes: int | None = None
) -> ir.Value:
    """An address of one number as that of a vector, of the usual number of lanes or so many."""
    element = I16 if isinstance(dtype, Half) else IR[dtype]
    return b.bitcast(address, ir.VectorType(element, lanes or LANES[dtype]).as_pointer())


def first_lanes_mask(b: ir.IRBuilder, n: ir.Value, kind: Vector) -> ir.Value:
    """True in the first n lanes."""
    counted = Vector(types.int32, kind.lanes)
    lane = ir.Constant(ir_type(counted), list(range(kind.lanes)))
    return b.icmp_signed("<", lane, spread(b, b.trunc(n, I32), counted))


def size_of(dtype: types.Type) -> int:
    """Bytes of a number, which is how vectors are aligned: anywhere a number may stand."""
    return 2 if isinstance(dtype, Half) else BITS[dtype] // 8


def load_from(context: Any, b: ir.IRBuilder, address: ir.Value, dtype: types.Type) -> ir.Value:
    """The number or vector at an address, as it is computed with."""
    v = b.load(address, align=size_of(dtype))
    return to_float32(context, b, v, dtype) if isinstance(dtype, Half) else v


def store_to(
    context: Any, b: ir.IRBuilder, v: ir.Value, address: ir.Value, dtype: types.Type
) -> None:
    """The inverse of `load_from`."""
    v = from_float32(context, b, v, dtype) if isinstance(dtype, Half) else v
    b.store(v, address, align=size_of(dtype))


def masked_load(
    context: Any, b: ir.IRBuilder, address: ir.Value, n: ir.Value, fill: ir.Value, dtype: types.Type
) -> ir.Value:  # fmt: skip
    """The first n lanes from an address, the others from `fill`."""
    kind = Vector(computed(dtype), LANES[dtype])
    mask = first_lanes_mask(b, n, kind)
    if not isinstance(dtype, Half):
        return masked(
            b, "load", f"f{BITS[dtype]}", fill.type, [address, I32(size_of(dtype)), mask, fill]
        )
    bits = ir.VectorType(I16, kind.lanes)
    zero = ir.Constant(bits, [0] * kind.lanes)
    v = masked(b, "load", "i16", bits, [address, I32(size_of(dtype)), mask, zero])
    return b.select(mask, to_float32(context, b, v, dtype), fill)


def masked_store(
    context: Any, b: ir.IRBuilder, v: ir.Value, address: ir.Value, n: ir.Value, dtype: types.Type
) -> None:  # fmt: skip
    """Write the first n lanes to an address."""
    mask = first_lanes_mask(b, n, Vector(computed(dtype), LANES[dtype]))
    element = f"f{BITS[dtype]}" if dtype in BITS else "i16"
    v = from_float32(context, b, v, dtype) if isinstance(dtype, Half) else v
    masked(b, "store", element, ir.VoidType(), [v, address, I32(size_of(dtype)), mask])


def masked(
    b: ir.IRBuilder, what: str, element: str, returns: ir.Type, operands: list[ir.Value]
) -> ir.Value:
    """A load or store of those lanes alone for which a mask holds."""
    lanes = operands[0].type.count if what == "store" else returns.count
    function = b.module.declare_intrinsic(
        f"llvm.masked.{what}.v{lanes}{element}.p0",
        fnty=ir.FunctionType(returns, [o.type for o in operands]),
    )
    return b.call(function, operands)


# pointers -----------------------------------------------------------------------------------------


def row_address(
    context: Any, b: ir.IRBuilder, x: types.Array, x_: ir.Value, i: ir.Value
) -> ir.Value:
    """Where row i of an array begins; of a number, the number."""
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
        return row_address(context, b, x, x_, i_)

    return signature(types.CPointer(x.dtype), x, types.intp), write


@word(vectors.at)
def _at(p: types.Type, j: types.Type) -> Any:
    if p == types.none:
        return signature(p, p, types.intp), lambda *_: None
    step = LANES[p.dtype] if isinstance(p, Columns) else 1
    return signature(p, p, types.intp), lambda context, b, p_, j_: b.gep(p_, [b.mul(j_, I64(step))])


@word(vectors.lanes)
def _lanes(p: types.Type) -> Any:
    lanes = 1 if isinstance(p, Columns) else LANES[p.dtype]
    return signature(types.intp, p), lambda context, b, p_: I64(lanes)


@word(vectors.number)
def _number(p: types.Type, value: types.Type) -> Any:
    kind = computed(p.dtype)
    return signature(kind, p, kind), lambda context, b, p_, v: v


# vectors ------------------------------------------------------------------------------------------


@word(vectors.load)
def _load(p: types.Type, j: types.Type) -> Any:
    def load(context: Any, b: ir.IRBuilder, p_: ir.Value, j_: ir.Value) -> ir.Value:
        return load_from(context, b, address_of(b, p_, j_, p), p.dtype)

    return signature(vector_behind(p), p, types.intp), load


@word(vectors.wide)
def _wide(p: types.Type) -> Any:
    lanes = 1 if isinstance(p, Columns) else LANES[p.dtype]
    return signature(types.intp, p), lambda context, b, p_: I64(VECTORS_IN_WIDE * lanes)


@word(vectors.unless_gpu)
def _unless_gpu(p: types.Type) -> Any:
    return signature(p, p), lambda context, b, p_: p_


@word(vectors.load_wide)
def _load_wide(p: types.Type, j: types.Type) -> Any:
    kind = wide_behind(p)

    def load(context: Any, b: ir.IRBuilder, p_: ir.Value, j_: ir.Value) -> ir.Value:
        return load_from(context, b, address_of(b, p_, j_, p, kind.lanes), p.dtype)

    return signature(kind, p, types.intp), load


@word(vectors.load_some)
def _load_some(p: types.Type, j: types.Type, n: types.Type, fill: types.Type) -> Any:
    kind = vector_behind(p)

    def load(context: Any, b: ir.IRBuilder, p_: Any, j_: Any, n_: Any, fill_: Any) -> ir.Value:
        address = address_of(b, p_, j_, p)
        if isinstance(p, Columns):  # n is 1: the whole column
            return load_from(context, b, address, p.dtype)
        return masked_load(context, b, address, n_, spread(b, fill_, kind), p.dtype)

    return signature(kind, p, types.intp, types.intp, kind.element), load


@word(vectors.store)
def _store(p: types.Type, j: types.Type, v: Vector) -> Any:
    def store(context: Any, b: ir.IRBuilder, p_: ir.Value, j_: ir.Value, v_: ir.Value) -> None:
        store_to(context, b, v_, address_of(b, p_, j_, p, v.lanes), p.dtype)

    return signature(types.void, p, types.intp, v), store


@word(vectors.store_some)
def _store_some(p: types.Type, j: types.Type, n: types.Type, v: Vector) -> Any:
    def store(context: Any, b: ir.IRBuilder, p_: Any, j_: Any, n_: Any, v_: Any) -> None:
        address = address_of(b, p_, j_, p)
        if isinstance(p, Columns):
            store_to(context, b, v_, address, p.dtype)
        else:
            masked_store(context, b, v_, address, n_, p.dtype)

    return signature(types.void, p, types.intp, types.intp, vector_behind(p)), store


@word(vectors.load_classes)
def _load_classes(x: types.Type, p: types.CPointer, j: types.Type, n: types.Type) -> Any:
    kind = vector_behind(p)

    def load(context: Any, b: ir.IRBuilder, x_: Any, p_: Any, j_: Any, n_: Any) -> ir.Value:
        if isinstance(x, Columns):
            return spread(b, load_from(context, b, b.gep(p_, [j_]), p.dtype), kind)
        zero = constant(kind, 0.0)
        return masked_load(context, b, address_of(b, p_, j_, p), n_, zero, p.dtype)

    return signature(kind, x, p, types.intp, types.intp), load


@word(vectors.splat)
def _splat(p: types.Type, value: types.Type) -> Any:
    kind = vector_behind(p)
    return signature(kind, p, kind.element), lambda context, b, p_, v: spread(b, v, kind)


@word(vectors.splat64)
def _splat64(p: types.Type, value: types.Type) -> Any:
    kind = double_behind(p)
    return signature(kind, p, types.float64), lambda context, b, p_, v: spread(b, v, kind)


@word(vectors.first_lanes)
def _keep_first_lanes(p: types.Type, v: Vector, n: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, v_: ir.Value, n_: ir.Value) -> ir.Value:
        if isinstance(p, Columns):
            return v_
        return b.select(first_lanes_mask(b, n_, v), v_, constant(v, 0.0))

    return signature(v, p, v, types.intp), write


# room for a row -----------------------------------------------------------------------------------


@word(vectors.borrow)
def _borrow(x: types.Array, y: types.Type, needed: types.Type, n: types.Type) -> Any:
    stored_narrowly = isinstance(y, types.Array) and isinstance(y.dtype, Half)
    if needed == types.none and not stored_narrowly:
        return signature(types.none, x, y, needed, types.intp), lambda *_: None
    element = computed(x.dtype)

    def borrow(context: Any, b: ir.IRBuilder, x_: Any, y_: Any, needed_: Any, n_: Any) -> ir.Value:
        size = b.mul(b.add(n_, I64(1)), I64(BITS[element] // 8))  # of no columns, too, some
        return b.bitcast(context.nrt.allocate(b, size), IR[element].as_pointer())

    return signature(types.CPointer(element), x, y, needed, types.intp), borrow


@word(vectors.give_back)
def _give_back(room: types.Type) -> Any:
    def give_back(context: Any, b: ir.IRBuilder, room_: ir.Value) -> None:
        if room != types.none:
            context.nrt.free(b, b.bitcast(room_, ir.IntType(8).as_pointer()))

    return signature(types.void, room), give_back


@word(vectors.either)
def _either(p: types.Type, q: types.Type) -> Any:
    if p == types.none:
        return signature(q, p, q), lambda context, b, p_, q_: None if q == types.none else q_
    return signature(p, p, q), lambda context, b, p_, q_: p_


# masks --------------------------------------------------------------------------------------------


@word(vectors.load_mask)
def _load_mask(x: types.Type, mask: types.CPointer, j: types.Type, n: types.Type) -> Any:
    kind = Vector(types.boolean, LANES[x.dtype])

    def load(context: Any, b: ir.IRBuilder, x_: Any, mask_: Any, j_: Any, n_: Any) -> ir.Value:
        stored = ir.VectorType(ir.IntType(8), kind.lanes)
        address = b.bitcast(b.gep(mask_, [j_]), stored.as_pointer())
        zero = ir.Constant(stored, [0] * kind.lanes)
        first = first_lanes_mask(b, n_, kind)
        v = masked(b, "load", "i8", stored, [address, I32(1), first, zero])
        return b.icmp_unsigned("!=", v, zero)

    return signature(kind, x, mask, types.intp, types.intp), load
