"""What the words of kernels mean to the GPU's compiler.

Types say how a row is computed: `Row(dtype, group)` is a pointer that a group of threads goes along
together, each with its own lane: `GROUPS` says how many. `Matrix` is an array of rows, handed to a
kernel as a pointer, the distance of rows, and their number and length.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.cuda import cgutils, nvvmutils
from numba.cuda.cudadecl import registry as typing_registry
from numba.cuda.cudaimpl import registry as lowering_registry
from numba.cuda.extending import core_models as models
from numba.cuda.models import register_model
from numba.cuda.typing.templates import AbstractTemplate

from ..cpu import vectors
from ..cpu.halves import BFLOAT16, FLOAT16, I16, Half, from_float32
from ..cpu.simd import I32, I64, IR, computed, constant, plain
from ..formulas import softmax as formulas
from . import staging, words
from .scalars import Scalar
from .staging import BLOCK, THREAD, WARPS

SHARED, GLOBAL = 3, 1
WARP, FULL = 32, 0xFFFFFFFF


class Row(types.Type):
    """Pointer to a row that a group of threads computes."""

    def __init__(self, dtype: types.Type, group: int) -> None:
        self.dtype = dtype
        self.group = group
        super().__init__(name=f"Row({dtype}, {group})")


class Matrix(types.Type):
    """Rows in the GPU's memory; `staged` says whether `read_row` brings them to the chip."""

    def __init__(self, dtype: types.Type, group: int, staged: bool = True) -> None:
        self.dtype = dtype
        self.group = group
        self.staged = staged
        super().__init__(name=f"Matrix({dtype}, {group}, {staged})")


def stored(dtype: types.Type) -> ir.Type:
    """The LLVM type of a number in memory."""
    if isinstance(dtype, Half):
        return I16
    return IR[dtype] if dtype in IR else ir.IntType(dtype.bitwidth)


def size(dtype: types.Type) -> int:
    """Bytes of a number in memory."""
    return 2 if isinstance(dtype, Half) else dtype.bitwidth // 8


@register_model(Row)
class RowModel(models.PrimitiveModel):
    """A pointer."""

    def __init__(self, manager: Any, kind: Row) -> None:
        super().__init__(manager, kind, stored(kind.dtype).as_pointer())


@register_model(Matrix)
class MatrixModel(models.StructModel):
    """Where it begins, and its distances."""

    def __init__(self, manager: Any, kind: Matrix) -> None:
        members = [("data", types.CPointer(types.uint8)), ("stride", types.int64),
                   ("rows", types.int64), ("columns", types.int64)]  # fmt: skip
        super().__init__(manager, kind, members)


def word(stub: Callable[..., Any]) -> Callable[[Callable[..., Any]], None]:
    """Give a word its meaning: from the types of its arguments, a signature and a code writer."""

    def give(meaning: Callable[..., Any]) -> None:
        @typing_registry.register_global(stub)
        class Template(AbstractTemplate):
            def generic(self, args: tuple[types.Type, ...], kws: Any) -> Any:
                return meaning(*plain(args))[0]

        def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            write = meaning(*sig.args)[1]
            result = write(context, builder, *args)
            return context.get_dummy_value() if result is None else result

        lowering_registry.lower(stub, types.VarArg(types.Any))(lower)

    return give


def special(b: ir.IRBuilder, name: str) -> ir.Value:
    """A special register, as 64 bits."""
    return b.zext(nvvmutils.call_sreg(b, name), I64)


def intrinsic(b: ir.IRBuilder, name: str, result: ir.Type, *operands: ir.Value) -> ir.Value:
    """A call of one of the GPU's own instructions."""
    kind = ir.FunctionType(result, [o.type for o in operands])
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), operands)


# where a thread is --------------------------------------------------------------------------------


def _register(stub: Callable[..., Any], name: str) -> None:
    @word(stub)
    def _meaning() -> Any:
        return signature(types.int64), lambda context, b: special(b, name)


for _stub, _name in ((words.thread, "tid.x"), (words.threads, "ntid.x"),
                     (words.block, "ctaid.x"), (words.blocks, "nctaid.x")):  # fmt: skip
    _register(_stub, _name)


def group_size(b: ir.IRBuilder, group: int) -> ir.Value:
    """How many threads a group has."""
    return special(b, "ntid.x") if group == BLOCK else I64(group)


def lane_of(b: ir.IRBuilder, group: int) -> ir.Value:
    """A thread's number in its group."""
    if group == THREAD:
        return I64(0)
    me = special(b, "tid.x")
    return me if group == BLOCK else b.and_(me, I64(WARP - 1))


@word(vectors.lanes)
def _lanes(p: Row) -> Any:
    return signature(types.int64, p), lambda context, b, p_: group_size(b, p.group)


@word(words.lane)
def _lane(p: Row) -> Any:
    return signature(types.int64, p), lambda context, b, p_: lane_of(b, p.group)


def barrier(b: ir.IRBuilder, group: int) -> None:
    """Wait for the group."""
    if group == WARPS:
        intrinsic(b, "llvm.nvvm.bar.warp.sync", ir.VoidType(), I32(FULL))
    elif group == BLOCK:
        intrinsic(b, "llvm.nvvm.barrier0", ir.VoidType())


@word(words.wait)
def _wait(p: Row) -> Any:
    return signature(types.void, p), lambda context, b, p_: barrier(b, p.group)


@word(words.wait_block)
def _wait_block() -> Any:
    return signature(types.void), lambda context, b: barrier(b, BLOCK)


# matrices -----------------------------------------------------------------------------------------


def _member(stub: Callable[..., Any], name: str) -> None:
    @word(stub)
    def _meaning(x: Matrix) -> Any:
        def write(context: Any, b: ir.IRBuilder, x_: ir.Value) -> ir.Value:
            return getattr(cgutils.create_struct_proxy(x)(context, b, x_), name)

        return signature(types.int64, x), write


for _stub, _name in ((words.rows, "rows"), (words.columns, "columns"), (words.stride, "stride")):
    _member(_stub, _name)


@word(words.row_at)
def _row_at(x: Matrix, i: types.Type) -> Any:
    if x == types.none:
        return signature(types.none, x, types.int64), lambda *_: None

    def write(context: Any, b: ir.IRBuilder, x_: ir.Value, i_: ir.Value) -> ir.Value:
        struct = cgutils.create_struct_proxy(x)(context, b, x_)
        data = b.addrspacecast(
            b.bitcast(struct.data, stored(x.dtype).as_pointer()),
            stored(x.dtype).as_pointer(GLOBAL),
        )
        p = b.gep(data, [b.mul(struct.stride, i_)])
        return b.addrspacecast(p, stored(x.dtype).as_pointer())

    return signature(Row(x.dtype, x.group), x, types.int64), write


CHOSEN = {function for functions in staging.MEANINGS.values() for function in functions}


def row_word(stub: Callable[..., Any], which: int) -> None:
    """Let a word mean the function of `staging` that fits the matrix among its arguments."""
    from numba.cuda.extending import overload

    def choose(*kinds: Any) -> Any:
        matrix = next(k for k in kinds if isinstance(k, Matrix))
        return staging.MEANINGS[matrix.group, matrix.staged][which]

    overload(stub, jit_options={"forceinline": True}, strict=False)(choose)


for _which, _stub in enumerate(staging.OF_ROWS):
    row_word(_stub, _which)


@word(words.put_number)
def _put_number(x: Matrix, numbers: Row, i: types.Type, value: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, x_: Any, p: Any, i_: Any, v: Any) -> None:
        struct = cgutils.create_struct_proxy(x)(context, b, x_)
        if x.group == THREAD:
            i_ = b.add(i_, special(b, "tid.x"))
            mine = b.icmp_signed("<", i_, struct.rows)
        else:
            mine = b.icmp_signed("==", lane_of(b, x.group), I64(0))
        with b.if_then(mine):
            store_one(context, b, p, i_, v, numbers.dtype)

    return signature(types.void, x, numbers, types.int64, computed(numbers.dtype)), write


@word(words.own_row)
def _own_row(x: Matrix, i: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, x_: ir.Value, i_: ir.Value) -> ir.Value:
        return b.add(i_, special(b, "tid.x")) if x.group == THREAD else i_

    return signature(types.int64, x, types.int64), write


# memory -------------------------------------------------------------------------------------------


def chip_memory(b: ir.IRBuilder) -> ir.Value:
    """Where the memory begins that a block's threads share."""
    name = "fastbp_chip"
    found = b.module.globals.get(name)
    if found is None:
        found = ir.GlobalVariable(b.module, ir.ArrayType(ir.IntType(8), 0), name, SHARED)
        found.linkage = "external"
        found.align = 16
    return b.gep(found, [I32(0), I32(0)])


@word(words.chip)
def _chip(p: Row, offset: types.Type) -> Any:
    kind = computed(p.dtype)

    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, offset_: ir.Value) -> ir.Value:
        start = b.gep(chip_memory(b), [I32(staging.SCRATCH)])
        start = b.bitcast(start, IR[kind].as_pointer(SHARED))
        return b.addrspacecast(b.gep(start, [b.trunc(offset_, I32)]), IR[kind].as_pointer())

    return signature(Row(kind, p.group), p, types.int64), write


@word(words.pack)
def _pack(p: Row) -> Any:
    return signature(types.int64, p), lambda context, b, p_: I64(16 // size(p.dtype))


@word(words.beyond_16)
def _beyond_16(p: Row) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value) -> ir.Value:
        return b.lshr(b.and_(b.ptrtoint(p_, I64), I64(15)), I64(size(p.dtype).bit_length() - 1))

    return signature(types.int64, p), write


def to_computed(b: ir.IRBuilder, v: ir.Value, dtype: types.Type) -> ir.Value:
    """A number as it is computed with, from how it is kept."""
    if dtype == FLOAT16:
        return b.fpext(b.bitcast(v, ir.HalfType()), ir.FloatType())
    if dtype == BFLOAT16:
        return b.bitcast(b.shl(b.zext(v, I32), I32(16)), ir.FloatType())
    return v


def to_stored(context: Any, b: ir.IRBuilder, v: ir.Value, dtype: types.Type) -> ir.Value:
    """The inverse."""
    if dtype == FLOAT16:
        return b.bitcast(b.fptrunc(v, ir.HalfType()), I16)
    if dtype == BFLOAT16:
        return from_float32(context, b, v, dtype)
    return v


def load_one(b: ir.IRBuilder, p: ir.Value, j: ir.Value, dtype: types.Type) -> ir.Value:
    """p[j] as it is computed with."""
    return to_computed(b, b.load(b.gep(p, [j]), align=size(dtype)), dtype)


def store_one(
    context: Any, b: ir.IRBuilder, p: ir.Value, j: ir.Value, v: ir.Value, dtype: types.Type
) -> None:
    """p[j] = v."""
    b.store(to_stored(context, b, v, dtype), b.gep(p, [j]), align=size(dtype))


@word(words.copy_place)
def _copy_place(target: Row, k: types.Type, source: Row, j: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, t: Any, k_: Any, s: Any, j_: Any) -> None:
        store_one(context, b, t, k_, load_one(b, s, j_, source.dtype), target.dtype)

    return signature(types.void, target, types.int64, source, types.int64), write


@word(words.copy_1)
def _copy_1(target: Row, source: Row, j: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, t: Any, s: Any, j_: Any) -> None:
        store_one(context, b, t, j_, load_one(b, s, j_, source.dtype), target.dtype)

    return signature(types.void, target, source, types.int64), write


def _packs(b: ir.IRBuilder, p: ir.Value, j: ir.Value, dtype: types.Type, count: int) -> list[Any]:
    """The addresses of `count` numbers from p[j] on, as vectors of 16 bytes."""
    per = 16 // size(dtype)
    # As four words: of eight numbers of 16 bits the compiler would make two accesses.
    kind = ir.VectorType(I32, 4).as_pointer()
    return [b.bitcast(b.gep(p, [b.add(j, I64(k))]), kind) for k in range(0, count, per)]


def load_pack(
    b: ir.IRBuilder, p: ir.Value, j: ir.Value, dtype: types.Type, count: int, aligned: bool
) -> list[ir.Value]:
    """`count` numbers from p[j] on, as they are computed with."""
    if not aligned:
        return [load_one(b, p, b.add(j, I64(k)), dtype) for k in range(count)]
    kind = ir.VectorType(stored(dtype), 16 // size(dtype))
    packs = [
        b.bitcast(b.load(address, align=16), kind) for address in _packs(b, p, j, dtype, count)
    ]
    return [
        to_computed(b, b.extract_element(v, I32(k)), dtype)
        for v in packs for k in range(kind.count)
    ]  # fmt: skip


def store_pack(
    context: Any, b: ir.IRBuilder, p: ir.Value, j: ir.Value, values: list[ir.Value],
    dtype: types.Type, aligned: bool,
) -> None:  # fmt: skip
    """The inverse of `load_pack`."""
    if not aligned:
        for k, v in enumerate(values):
            store_one(context, b, p, b.add(j, I64(k)), v, dtype)
        return
    per = 16 // size(dtype)
    for n, address in enumerate(_packs(b, p, j, dtype, len(values))):
        pack = ir.Constant(ir.VectorType(stored(dtype), per), ir.Undefined)
        for k, v in enumerate(values[n * per : (n + 1) * per]):
            pack = b.insert_element(pack, to_stored(context, b, v, dtype), I32(k))
        b.store(b.bitcast(pack, address.type.pointee), address, align=16)


def _copy(stub: Callable[..., Any], apart: bool) -> None:
    @word(stub)
    def _meaning(target: Row, source: Row, j: types.Type) -> Any:
        # The narrower of the two, if they differ, is the one that is not on the chip.
        count = 16 // min(size(target.dtype), size(source.dtype))

        def write(context: Any, b: ir.IRBuilder, t: Any, s: Any, j_: Any) -> None:
            values = load_pack(b, s, j_, source.dtype, count, not apart)
            store_pack(context, b, t, j_, values, target.dtype, True)

        return signature(types.void, target, source, types.int64), write


_copy(words.copy_16, apart=False)
_copy(words.copy_16_apart, apart=True)


# numbers ------------------------------------------------------------------------------------------


@word(vectors.at)
def _at(p: types.Type, j: types.Type) -> Any:
    if p == types.none:
        return signature(p, p, types.int64), lambda *_: None
    return signature(p, p, types.int64), lambda context, b, p_, j_: b.gep(p_, [j_])


def _number_like(stub: Callable[..., Any]) -> None:
    @word(stub)
    def _meaning(p: Row, value: types.Type) -> Any:
        kind = computed(p.dtype)
        return signature(kind, p, kind), lambda context, b, p_, v: v


for _stub in (vectors.number, vectors.splat, vectors.splat64):
    _number_like(_stub)


def _zero(stub: Callable[..., Any]) -> None:
    @word(stub)
    def _meaning(p: Row) -> Any:
        kind = computed(p.dtype)
        return signature(kind, p), lambda context, b, p_: constant(kind, 0.0)


for _stub in (vectors.sum_zero, vectors.count_zero):
    _zero(_stub)


@word(vectors.load)
def _load(p: Row, j: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, j_: ir.Value) -> ir.Value:
        return load_one(b, p_, b.add(j_, lane_of(b, p.group)), p.dtype)

    return signature(computed(p.dtype), p, types.int64), write


def _load_some_of(p: Row) -> Any:
    kind = computed(p.dtype)

    def write(context: Any, b: ir.IRBuilder, p_: Any, j_: Any, n_: Any, fill_: Any) -> ir.Value:
        me = lane_of(b, p.group)
        start = b.block
        with b.if_then(b.icmp_signed("<", me, n_)):
            read = load_one(b, p_, b.add(j_, me), p.dtype)
            there = b.block
        chosen = b.phi(IR[kind])
        chosen.add_incoming(fill_, start)
        chosen.add_incoming(read, there)
        return chosen

    return signature(kind, p, types.int64, types.int64, kind), write


@word(vectors.load_some)
def _load_some(p: Row, j: types.Type, n: types.Type, fill: types.Type) -> Any:
    return _load_some_of(p)


@word(vectors.store)
def _store(p: Row, j: types.Type, v: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, j_: ir.Value, v_: ir.Value) -> None:
        store_one(context, b, p_, b.add(j_, lane_of(b, p.group)), v_, p.dtype)

    return signature(types.void, p, types.int64, computed(p.dtype)), write


@word(vectors.store_some)
def _store_some(p: Row, j: types.Type, n: types.Type, v: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: Any, j_: Any, n_: Any, v_: Any) -> None:
        me = lane_of(b, p.group)
        with b.if_then(b.icmp_signed("<", me, n_)):
            store_one(context, b, p_, b.add(j_, me), v_, p.dtype)

    return signature(types.void, p, types.int64, types.int64, computed(p.dtype)), write


@word(vectors.load_classes)
def _load_classes(x: Row, p: Row, j: types.Type, n: types.Type) -> Any:
    _, load_some = _load_some_of(Row(p.dtype, x.group))

    def write(context: Any, b: ir.IRBuilder, x_: Any, p_: Any, j_: Any, n_: Any) -> ir.Value:
        return load_some(context, b, p_, j_, n_, constant(computed(p.dtype), 0.0))

    return signature(computed(p.dtype), x, p, types.int64, types.int64), write


@word(vectors.first_lanes)
def _first_lanes(p: Row, v: types.Type, n: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: Any, v_: Any, n_: Any) -> ir.Value:
        return b.select(b.icmp_signed("<", lane_of(b, p.group), n_), v_, constant(v, 0.0))

    return signature(v, p, v, types.int64), write


@word(vectors.prefetch)
def _prefetch(p: Row, j: types.Type) -> Any:
    return signature(types.void, p, types.int64), lambda *_: None


@word(vectors.count)
def _count(p: Row, mask: types.Type) -> Any:
    kind = computed(p.dtype)
    return signature(kind, p, mask), lambda context, b, p_, m: b.uitofp(m, IR[kind])


# across the threads of a group --------------------------------------------------------------------


# Which thread's value `from_lane` gives: that of the lane whose number differs in a bit, or of one.
BUTTERFLY, ONE = 3, 0


def from_lane(b: ir.IRBuilder, v: ir.Value, mode: int, lane: int) -> ir.Value:
    """What another thread of the warp has as v."""
    kind = v.type
    if kind in (ir.DoubleType(), I64):
        bits = b.bitcast(v, I64)
        low, high = b.trunc(bits, I32), b.trunc(b.lshr(bits, I64(32)), I32)
        low, high = (b.zext(from_lane(b, part, mode, lane), I64) for part in (low, high))
        return b.bitcast(b.or_(low, b.shl(high, I64(32))), kind)
    bits = b.bitcast(v, I32)
    pair = ir.LiteralStructType([I32, ir.IntType(1)])
    result = intrinsic(
        b, "llvm.nvvm.shfl.sync.i32", pair, I32(FULL), I32(mode), bits, I32(lane), I32(31)
    )
    return b.bitcast(b.extract_value(result, 0), kind)


Fold = Callable[[list[ir.Value], list[ir.Value]], list[ir.Value]]


def fold_warp(b: ir.IRBuilder, values: list[ir.Value], fold: Fold) -> list[ir.Value]:
    """The values of all lanes of a warp folded, the same in every lane."""
    distance = WARP // 2
    while distance:
        values = fold(values, [from_lane(b, v, BUTTERFLY, distance) for v in values])
        distance //= 2
    return values


def fold_group(
    b: ir.IRBuilder, group: int, values: list[ir.Value], identity: list[ir.Value], fold: Fold
) -> list[ir.Value]:
    """The values of all threads of a group folded, the same in each of them."""
    if group == THREAD:
        return values
    values = fold_warp(b, values, fold)
    if group == WARPS:
        return values
    # Each warp leaves its values on the chip, and all warps fold those.
    me = special(b, "tid.x")
    my_warp, my_lane = b.lshr(me, I64(5)), b.and_(me, I64(WARP - 1))
    n_warps = b.lshr(special(b, "ntid.x"), I64(5))
    places = []
    for k, v in enumerate(values):
        at = b.gep(chip_memory(b), [I32(k * WARP * 8)])
        places.append(b.bitcast(at, v.type.as_pointer(SHARED)))
    barrier(b, BLOCK)
    with b.if_then(b.icmp_signed("==", my_lane, I64(0))):
        for place, v in zip(places, values, strict=True):
            b.store(v, b.gep(place, [b.trunc(my_warp, I32)]))
    barrier(b, BLOCK)
    exists = b.icmp_signed("<", my_lane, n_warps)
    at = b.select(exists, b.trunc(my_lane, I32), I32(0))
    values = [
        b.select(exists, b.load(b.gep(place, [at])), nothing)
        for place, nothing in zip(places, identity, strict=True)
    ]
    return fold_warp(b, values, fold)


def folding(b: ir.IRBuilder, formula: Callable[..., Any], kind: types.Type) -> Fold:
    """A fold by a formula of twice as many numbers."""

    def fold(mine: list[ir.Value], theirs: list[ir.Value]) -> list[ir.Value]:
        out = formula(*(Scalar(b, v, kind) for v in (*mine, *theirs)))
        return [t.value for t in (out if isinstance(out, tuple) else (out,))]

    return fold


@word(vectors.max_across)
def _max_across(p: Row, v: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, v_: ir.Value) -> ir.Value:
        least = [constant(v, float("-inf"))]
        return fold_group(b, p.group, [v_], least, folding(b, formulas.larger, v))[0]

    return signature(v, p, v), write


@word(vectors.sum_across)
def _sum_across(p: Row, s: types.Type, s_lo: types.Type, like: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: Any, s_: Any, lo_: Any, like_: Any) -> ir.Value:
        def add(a: Any, a_lo: Any, c: Any, c_lo: Any) -> Any:
            return formulas.add_pairs(a, a_lo, c, c_lo, a)

        zero = [constant(s, 0.0)] * 2
        parts = fold_group(b, p.group, [s_, lo_], zero, folding(b, add, s))
        return context.make_tuple(b, types.UniTuple(s, 2), parts)

    return signature(types.UniTuple(s, 2), p, s, s, s), write


@word(vectors.value_at_max_across)
def _value_at_max_across(p: Row, v: types.Type, value: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: Any, v_: Any, value_: Any) -> ir.Value:
        def larger(a: Any, of_a: Any, c: Any, of_c: Any) -> Any:
            return formulas.larger_with(a, c, of_a, of_c)

        least = [constant(v, float("-inf")), constant(v, 0.0)]
        parts = fold_group(b, p.group, [v_, value_], least, folding(b, larger, v))
        if p.group != THREAD:  # of equal maxima, each thread has kept its own
            parts = [from_lane(b, part, ONE, 0) for part in parts]
        return context.make_tuple(b, types.UniTuple(v, 2), parts)

    return signature(types.UniTuple(v, 2), p, v, v), write


@word(vectors.all_but_one)
def _all_but_one(p: Row, count: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, count_: ir.Value) -> ir.Value:
        def add(a: Any, c: Any) -> Any:
            return a + c

        zero = [constant(count, 0.0)]
        total = fold_group(b, p.group, [count_], zero, folding(b, add, count))[0]
        return (Scalar(b, total, count) - 1.0).value

    return signature(count, p, count), write


@word(vectors.pick)
def _pick(p: Row, k: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, k_: ir.Value) -> ir.Value:
        barrier(b, p.group)
        value = load_one(b, p_, k_, p.dtype)
        barrier(b, p.group)
        return value

    return signature(computed(p.dtype), p, types.int64), write


@word(vectors.put)
def _put(p: Row, k: types.Type, value: types.Type) -> Any:
    """By the thread to whose lane p[k] belongs, which so sees it without waiting."""

    def write(context: Any, b: ir.IRBuilder, p_: Any, k_: Any, value_: Any) -> None:
        size_ = group_size(b, p.group)
        mine = b.icmp_signed("==", b.urem(k_, size_), lane_of(b, p.group))
        with b.if_then(mine):
            store_one(context, b, p_, k_, value_, p.dtype)

    return signature(types.void, p, types.int64, computed(p.dtype)), write


@word(vectors.either)
def _either(p: types.Type, q: types.Type) -> Any:
    if p == types.none:
        return signature(q, p, q), lambda context, b, p_, q_: None if q == types.none else q_
    return signature(p, p, q), lambda context, b, p_, q_: p_


@word(vectors.if_given)
def _if_given(p: types.Type, array: types.Type) -> Any:
    if array == types.none:
        return signature(types.none, p, array), lambda *_: None
    return signature(p, p, array), lambda context, b, p_, array_: p_



# formulas of elements -----------------------------------------------------------------------------


def _map(stub: Callable[..., Any], at_once: bool) -> None:
    @word(stub)
    def _meaning(formula: types.Type, target: Row, j: types.Type, *sources: Row) -> Any:
        count = 16 // size(target.dtype) if at_once else 1

        def write(context: Any, b: ir.IRBuilder, _f: Any, t: Any, j_: Any, *given: Any) -> None:
            columns = [
                load_pack(b, s, j_, kind.dtype, count, at_once)
                for s, kind in zip(given, sources, strict=True)
            ]
            kind = computed(target.dtype)
            results = [
                formula.typing_key(*(Scalar(b, v, kind) for v in numbers)).value
                for numbers in zip(*columns, strict=True)
            ]
            store_pack(context, b, t, j_, results, target.dtype, at_once)

        return signature(types.void, formula, target, types.int64, *sources), write


_map(words.map_1, at_once=False)
_map(words.map_16, at_once=True)
