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

from ..formulas import softmax as formulas
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


def address_of(b: ir.IRBuilder, p: ir.Value, j: ir.Value, pointer: types.Type) -> ir.Value:
    """Where the vector j of a row, or the column j of a tile, stands."""
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


def masked_load(
    b: ir.IRBuilder, address: ir.Value, n: ir.Value, fill: ir.Value, kind: Vector
) -> ir.Value:
    """The first n lanes from an address, the others from `fill`."""
    operands = [address, I32(_alignment(kind)), _first_lanes(b, n, kind), fill]
    return _masked(b, "load", kind, ir_type(kind), operands)


def masked_store(
    b: ir.IRBuilder, v: ir.Value, address: ir.Value, n: ir.Value, kind: Vector
) -> None:
    """Write the first n lanes to an address."""
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
        return b.load(address_of(b, p_, j_, p), align=_alignment(kind))

    return signature(kind, p, types.intp), write


@word(vectors.load_some)
def _load_some(p: types.Type, j: types.Type, n: types.Type, fill: types.Type) -> Any:
    kind = vector_behind(p)

    def write(context: Any, b: ir.IRBuilder, p_: Any, j_: Any, n_: Any, fill_: Any) -> ir.Value:
        address = address_of(b, p_, j_, p)
        if isinstance(p, Columns):  # n is 1: the whole column
            return b.load(address, align=_alignment(kind))
        return masked_load(b, address, n_, spread(b, fill_, kind), kind)

    return signature(kind, p, types.intp, types.intp, p.dtype), write


@word(vectors.store)
def _store(p: types.Type, j: types.Type, v: Vector) -> Any:
    kind = vector_behind(p)

    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, j_: ir.Value, v_: ir.Value) -> None:
        b.store(v_, address_of(b, p_, j_, p), align=_alignment(kind))

    return signature(types.void, p, types.intp, kind), write


@word(vectors.store_some)
def _store_some(p: types.Type, j: types.Type, n: types.Type, v: Vector) -> Any:
    kind = vector_behind(p)

    def write(context: Any, b: ir.IRBuilder, p_: Any, j_: Any, n_: Any, v_: Any) -> None:
        address = address_of(b, p_, j_, p)
        if isinstance(p, Columns):
            b.store(v_, address, align=_alignment(kind))
        else:
            masked_store(b, v_, address, n_, kind)

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


@word(vectors.prefetch)
def _prefetch(p: types.Type, j: types.Type) -> Any:
    read, into_second_level, data = I32(0), I32(2), I32(1)

    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, j_: ir.Value) -> None:
        if isinstance(p, Columns):
            return
        address = b.bitcast(b.gep(p_, [j_]), ir.IntType(8).as_pointer())
        function = b.module.declare_intrinsic(
            "llvm.prefetch.p0",
            fnty=ir.FunctionType(ir.VoidType(), [address.type, I32, I32, I32]),
        )
        b.call(function, [address, read, into_second_level, data])

    return signature(types.void, p, types.intp), write


@word(vectors.count_zero)
def _count_zero(p: types.Type) -> Any:
    kind = double_behind(p) if isinstance(p, Columns) else types.intp
    return signature(kind, p), lambda context, b, p_: constant(kind, 0)


@word(vectors.count)
def _count(p: types.Type, mask: Vector) -> Any:
    kind = double_behind(p) if isinstance(p, Columns) else types.intp

    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, mask_: ir.Value) -> ir.Value:
        if isinstance(p, Columns):
            return b.uitofp(mask_, ir_type(kind))
        return b.zext(b.ctpop(b.bitcast(mask_, ir.IntType(mask.lanes))), I64)

    return signature(kind, p, mask), write


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
