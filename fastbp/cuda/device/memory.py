"""The words that read and write numbers: one by one, or as many at once as are in 16 bytes."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature

from ...cpu.halves import BFLOAT16, FLOAT16, I16, Half, from_float32
from ...cpu.simd import I32, I64, IR, computed
from .. import staging, words
from .kinds import SHARED, Row, size, stored, word
from .scalars import Scalar

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
    kind = ir.VectorType(I32, 4).as_pointer()
    return [b.bitcast(b.gep(p, [b.add(j, I64(k))]), kind) for k in range(0, count, per)]


def load_pack(
    b: ir.IRBuilder, p: ir.Value, j: ir.Value, dtype: types.Type, count: int, aligned: bool
) -> list[ir.Value]:
    """`count` numbers from p[j] on, as they are computed with."""
    if not aligned:
        return [load_one(b, p, b.add(j, I64(k)), dtype) for k in range(count)]
    return unpacked(b, load_words(b, p, j, dtype, count), dtype)


def load_words(
    b: ir.IRBuilder, p: ir.Value, j: ir.Value, dtype: types.Type, count: int
) -> list[ir.Value]:
    """`count` numbers from p[j] on as they stand in memory, in vectors of 16 bytes."""
    return [b.load(address, align=16) for address in _packs(b, p, j, dtype, count)]


def unpacked(b: ir.IRBuilder, words: list[ir.Value], dtype: types.Type) -> list[ir.Value]:
    """The numbers in such vectors, as they are computed with."""
    if isinstance(dtype, Half):
        return [
            half_of_word(b, b.extract_element(v, I32(k)), dtype, which)
            for v in words for k in range(4) for which in (0, 1)
        ]  # fmt: skip
    kind = ir.VectorType(stored(dtype), 16 // size(dtype))
    packs = [b.bitcast(v, kind) for v in words]
    return [b.extract_element(v, I32(k)) for v in packs for k in range(kind.count)]


def half_of_word(b: ir.IRBuilder, word: ir.Value, dtype: types.Type, which: int) -> ir.Value:
    """The lower or the upper number of 16 bits in a word, as it is computed with.

    Words stay words: of a vector of eight numbers the compiler would make two accesses.
    """
    if dtype == BFLOAT16:
        bits = b.and_(word, I32(0xFFFF0000)) if which else b.shl(word, I32(16))
        return b.bitcast(bits, ir.FloatType())
    return to_computed(b, b.trunc(b.lshr(word, I32(16)) if which else word, I16), dtype)


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
        numbers = [to_stored(context, b, v, dtype) for v in values[n * per : (n + 1) * per]]
        if isinstance(dtype, Half):
            wide = [b.zext(v, I32) for v in numbers]
            pairs = zip(wide[::2], wide[1::2], strict=True)
            numbers = [b.or_(low, b.shl(high, I32(16))) for low, high in pairs]
        pack = ir.Constant(ir.VectorType(numbers[0].type, len(numbers)), ir.Undefined)
        for k, v in enumerate(numbers):
            pack = b.insert_element(pack, v, I32(k))
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


# Of 16 bits, fewer: unpacked, they need twice the registers, of which blocks of rows have 64.
AT_ONCE = {2: 2, 4: 4, 8: 4}


@word(words.at_once)
def _at_once(p: Row) -> Any:
    return signature(types.int64, p), lambda context, b, p_: I64(AT_ONCE[size(p.dtype)])


@word(words.copy_16_at_once)
def _copy_16_at_once(target: Row, source: Row, j: types.Type, step: types.Type) -> Any:
    count = 16 // min(size(target.dtype), size(source.dtype))

    def write(context: Any, b: ir.IRBuilder, t: Any, s: Any, j_: Any, step_: Any) -> None:
        places = [b.add(j_, b.mul(step_, I64(k))) for k in range(AT_ONCE[size(source.dtype)])]
        # Memory is asked for all of them, and each is unpacked when it is there.
        several = [load_words(b, s, at, source.dtype, count) for at in places]
        for at, words_ in zip(places, several, strict=True):
            values = unpacked(b, words_, source.dtype)
            store_pack(context, b, t, at, values, target.dtype, True)

    return signature(types.void, target, source, types.int64, types.int64), write


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
