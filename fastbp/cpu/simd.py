"""Portable vectors for Numba: one type, whose operators lower to LLVM's own vector instructions.

* A `Vector` is 16 float32, 8 float64, or as many integers or truth values. LLVM splits it for
  narrower machines (two registers on AVX2, four on NEON). The number of lanes is fixed, so every
  sum has one order and every machine returns the same bits. No fast-math flag is ever set.
* `Traced` is a number or vector while a kernel is being compiled: its operators write LLVM
  instructions. A formula of `fastbp.formulas` is a plain function, and calling it with traced
  numbers is what compiles it, for scalars and vectors alike.
* `teach` makes Numba know a formula by its plain function; `words` does so for those of `vectors`.

Why not `@njit` on every formula: it would compile each one separately for every type, take seconds
where this takes milliseconds, and turn float32 into float64 at every bare literal.
"""

import operator
from collections.abc import Callable, Iterable
from functools import cache
from inspect import signature as signature_of
from operator import attrgetter
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from ..elementary import MANTISSA_BITS
from .halves import BFLOAT16, FLOAT16, Half

LANES = {types.float32: 16, types.float64: 8, FLOAT16: 16, BFLOAT16: 16}
BITS = {types.float32: 32, types.float64: 64}
INTEGER = {types.float32: types.int32, types.float64: types.int64}
I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
IR = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(),
      types.int32: I32, types.int64: I64, types.boolean: ir.IntType(1)}  # fmt: skip


class Vector(types.Type):
    """Several numbers of one type, computed at once."""

    def __init__(self, element: types.Type, lanes: int) -> None:
        self.element = element
        self.lanes = lanes
        super().__init__(name=f"Vector({element}, {lanes})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector is a plain LLVM value, kept in registers."""

    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, ir_type(kind))


def ir_type(kind: types.Type) -> ir.Type:
    """The LLVM type of a number or vector."""
    if isinstance(kind, Vector):
        return ir.VectorType(IR[kind.element], kind.lanes)
    return IR[kind]


def computed(stored: types.Type) -> types.Type:
    """The type in which numbers that are kept in this one are computed."""
    return types.float32 if isinstance(stored, Half) else stored


def element_of(kind: types.Type) -> types.Type:
    """The type of one lane."""
    return kind.element if isinstance(kind, Vector) else kind


def with_element(kind: types.Type, element: types.Type) -> types.Type:
    """The same number of lanes of another type."""
    return Vector(element, kind.lanes) if isinstance(kind, Vector) else element


class Traced:
    """A number, or a vector of them, whose operators write LLVM instructions."""

    __slots__ = ("builder", "kind", "value")
    __hash__ = None  # type: ignore[assignment]  # == compares lanes

    def __init__(self, builder: ir.IRBuilder, value: ir.Value, kind: types.Type) -> None:
        self.builder = builder
        self.value = value
        self.kind = kind

    @property
    def bits(self) -> int:
        """32 for float32, 64 for float64."""
        return BITS[element_of(self.kind)]

    @property
    def lanes(self) -> int:
        """How many numbers this is."""
        return self.kind.lanes if isinstance(self.kind, Vector) else 1

    @property
    def has_wider(self) -> bool:
        """Whether sums of such numbers are of a wider type: float64, for float32."""
        return self.bits == 32

    @property
    def on_gpu(self) -> bool:
        """Whether this is a number of one of a GPU's threads."""
        return False

    def literal(self, value: float) -> "Traced":
        """A literal as a number of this one's type."""
        kind = element_of(self.kind)
        return type(self)(self.builder, constant(kind, value), kind)

    # what operators are made of

    def _new(self, value: ir.Value, element: types.Type | None = None) -> "Traced":
        kind = self.kind if element is None else with_element(self.kind, element)
        return type(self)(self.builder, value, kind)

    def _like_me(self, other: "Traced | float") -> ir.Value:
        """`other` as an LLVM value of this number's type: literals and scalars are spread."""
        if not isinstance(other, Traced):
            return constant(self.kind, other)
        if other.kind == self.kind:
            return other.value
        if isinstance(other.kind, Vector) and self.lanes % other.lanes == 0:
            return repeated(self.builder, other.value, self.kind)
        if other.kind != element_of(self.kind):
            raise TypeError(f"{self.kind} met {other.kind}")
        return spread(self.builder, other.value, self.kind)

    def _binary(self, instruction: str, other: "Traced | float", swap: bool = False) -> "Traced":
        if isinstance(other, Traced) and self.lanes < other.lanes:
            return other._binary(instruction, self, not swap)
        a, b = self.value, self._like_me(other)
        if swap:
            a, b = b, a
        return self._new(getattr(self.builder, instruction)(a, b))

    def _call(self, name: str, *operands: ir.Value) -> "Traced":
        kind = ir_type(self.kind)
        element = f"f{self.bits}"
        suffix = f"v{self.kind.lanes}{element}" if isinstance(self.kind, Vector) else element
        function = self.builder.module.declare_intrinsic(
            f"llvm.{name}.{suffix}", fnty=ir.FunctionType(kind, [kind] * len(operands))
        )
        return self._new(self.builder.call(function, operands))

    def _compare(self, sign: str, other: "Traced | float") -> "Traced":
        if isinstance(other, Traced) and self.lanes < other.lanes:
            mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}[sign]
            return other._compare(mirrored, self)
        compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        return self._new(compare(sign, self.value, self._like_me(other)), types.boolean)

    # the operators

    def __add__(self, other: "Traced | float") -> "Traced":
        return self._binary("fadd", other)

    def __radd__(self, other: float) -> "Traced":
        return self._binary("fadd", other, swap=True)

    def __sub__(self, other: "Traced | float") -> "Traced":
        return self._binary("fsub", other)

    def __rsub__(self, other: float) -> "Traced":
        return self._binary("fsub", other, swap=True)

    def __mul__(self, other: "Traced | float") -> "Traced":
        return self._binary("fmul", other)

    def __rmul__(self, other: float) -> "Traced":
        return self._binary("fmul", other, swap=True)

    def __truediv__(self, other: "Traced | float") -> "Traced":
        return self._binary("fdiv", other)

    def __rtruediv__(self, other: float) -> "Traced":
        return self._binary("fdiv", other, swap=True)

    def __neg__(self) -> "Traced":
        return self._new(self.builder.fneg(self.value))

    def __abs__(self) -> "Traced":
        return self._call("fabs", self.value)

    def __lt__(self, other: "Traced | float") -> "Traced":
        return self._compare("<", other)

    def __le__(self, other: "Traced | float") -> "Traced":
        return self._compare("<=", other)

    def __gt__(self, other: "Traced | float") -> "Traced":
        return self._compare(">", other)

    def __ge__(self, other: "Traced | float") -> "Traced":
        return self._compare(">=", other)

    def __eq__(self, other: object) -> "Traced":  # type: ignore[override]
        return self._compare("==", other)  # type: ignore[arg-type]

    def __ne__(self, other: object) -> "Traced":  # type: ignore[override]
        return self._compare("!=", other)  # type: ignore[arg-type]

    def __and__(self, other: "Traced") -> "Traced":
        return self._new(self.builder.and_(self.value, other.value))

    def __or__(self, other: "Traced") -> "Traced":
        return self._new(self.builder.or_(self.value, other.value))

    # what formulas need beyond operators

    def fma(self, b: "Traced | float", c: "Traced | float") -> "Traced":
        """self·b + c, rounded once."""
        like = widest((self, b, c))
        return like._call("fma", *(like._like_me(n) for n in (self, b, c)))

    def by_bits(self, other: "Traced | float") -> "tuple[Traced, Traced]":
        """This number and another, first the one whose bits are the larger unsigned integer."""
        b = self.builder
        other = self._new(self._like_me(other))
        mine, theirs = self._as_integer()[0], other._as_integer()[0]
        # (LLVM makes unsigned maxima of these, where a machine has them.)
        is_first = b.icmp_unsigned(">", mine, theirs)
        large, small = b.select(is_first, mine, theirs), b.select(is_first, theirs, mine)
        kind = ir_type(self.kind)
        return self._new(b.bitcast(large, kind)), self._new(b.bitcast(small, kind))

    def where(self, a: "Traced | float", b: "Traced | float") -> "Traced":
        """a where this condition holds, else b."""
        numbers = [n for n in (a, b) if isinstance(n, Traced)]
        kinds = [n.kind for n in numbers]
        vector = widest((self, *numbers)).kind
        kind = with_element(vector, element_of(kinds[0]) if kinds else types.float64)
        like = type(self)(
            self.builder, self.value, kind
        )  # a scalar condition chooses whole vectors
        chosen = self.builder.select(self.value, like._like_me(a), like._like_me(b))
        return type(self)(self.builder, chosen, kind)

    def widen(self) -> "Traced":
        """This number in float64."""
        if self.bits == 64:
            return self
        wide = with_element(self.kind, types.float64)
        return type(self)(self.builder, self.builder.fpext(self.value, ir_type(wide)), wide)

    def widen_bits(self) -> "Traced":
        """These float32, none below 0, as float64 of 2^-896 of their value, even lanes first.

        That is what the bits of a float32 mean in their place in a float64, whose exponents count
        from elsewhere: shifts, which cost less than conversions. NaN becomes a large number.
        """
        b, n = self.builder, self.lanes
        pairs = ir.VectorType(I64, n // 2)
        both = b.bitcast(self.value, pairs)

        def all_lanes(value: int) -> ir.Constant:
            return ir.Constant(pairs, [value] * (n // 2))

        even = b.shl(b.and_(both, all_lanes(0xFFFFFFFF)), all_lanes(29))
        odd = b.and_(b.lshr(both, all_lanes(3)), all_lanes(0xFFFFFFFF << 29))
        kind = with_element(self.kind, types.float64)
        joined = b.shuffle_vector(even, odd, ir.Constant(ir.VectorType(I32, n), list(range(n))))
        return Traced(b, b.bitcast(joined, ir_type(kind)), kind)

    def in_turns(self) -> "Traced":
        """The lanes of the first and of the second half, one from each in turn."""
        n = self.lanes
        order = [i // 2 + i % 2 * (n // 2) for i in range(n)]
        mask = ir.Constant(ir.VectorType(I32, n), order)
        return self._new(self.builder.shuffle_vector(self.value, self.value, mask))

    def differs(self, other: "Traced") -> "Traced":
        """1 in the lanes whose bits are not the other's, else 0: integers, without a comparison."""
        b = self.builder
        mine, kind = self._as_integer()
        theirs, _ = self._new(self._like_me(other))._as_integer()
        bits, one = b.xor(mine, theirs), constant(kind, 1)
        return Traced(b, b.select(b.icmp_unsigned("<", bits, one), bits, one), kind)

    def masked(self, ones: "Traced") -> "Traced":
        """This number where there is a 1, 0 where there is a 0."""
        b = self.builder
        integer, kind = self._as_integer()
        kept = b.and_(integer, b.sub(constant(kind, 0), ones.value))
        return self._new(b.bitcast(kept, ir_type(self.kind)))

    def narrow(self) -> "Traced":
        """This float64 rounded to float32."""
        kind = with_element(self.kind, types.float32)
        return type(self)(self.builder, self.builder.fptrunc(self.value, ir_type(kind)), kind)

    def _as_integer(self) -> tuple[ir.Value, types.Type]:
        kind = with_element(self.kind, INTEGER[element_of(self.kind)])
        return self.builder.bitcast(self.value, ir_type(kind)), kind

    def shift_to_exponent(self, mantissa_bits: int) -> "Traced":
        """The number whose bits are this one's lowest, shifted up to the exponent's place."""
        integer, kind = self._as_integer()
        shifted = self.builder.shl(integer, constant(kind, mantissa_bits))
        return self._new(self.builder.bitcast(shifted, ir_type(self.kind)))

    def split_exponent(self, lowest: int) -> "tuple[Traced, Traced]":
        """(k, u) with self = u·2^k, bits(u) >= lowest the least possible; for numbers >= 1."""
        b = self.builder
        integer, kind = self._as_integer()
        digits = MANTISSA_BITS[self.bits]
        # self >= 1 > u makes the difference positive, so the logical shift, which unlike the
        # arithmetic one every machine has for 64 bits, is right.
        k = b.lshr(b.sub(integer, constant(kind, lowest)), constant(kind, digits))
        u = b.sub(integer, b.shl(k, constant(kind, digits)))
        # k as a number: its bits below the mantissa's top, 2^52 + k, less 2^52.
        top = {32: 0x4B000000, 64: 0x4330000000000000}[self.bits]
        magic = b.or_(k, constant(kind, top))
        as_float = self._new(b.bitcast(magic, ir_type(self.kind))) - 2.0**digits
        return as_float, self._new(b.bitcast(u, ir_type(self.kind)))

    def parts(self, n: int) -> "list[Traced]":
        """This wide vector as vectors of n lanes."""
        if self.lanes == n:
            return [self]
        b, kind = self.builder, Vector(self.kind.element, n)
        return [Traced(b, lanes_of(b, self.value, i, n), kind) for i in range(0, self.lanes, n)]

    def halves(self) -> "tuple[Traced, Traced]":
        """The lower and the upper half of the lanes; of two lanes, two numbers."""
        b, n = self.builder, self.kind.lanes // 2
        if n == 1:
            return tuple(
                Traced(b, b.extract_element(self.value, I32(i)), self.kind.element) for i in (0, 1)
            )  # type: ignore[return-value]
        return tuple(self.parts(n))  # type: ignore[return-value]


def constant(kind: types.Type, value: float) -> ir.Constant:
    """A literal of that type, the same in every lane."""
    if isinstance(kind, Vector):
        return ir.Constant(ir_type(kind), [constant(kind.element, value)] * kind.lanes)
    if kind == types.float32:
        value = float(round_to_float32(value))
    return ir.Constant(IR[kind], value)


def round_to_float32(value: float) -> float:
    """LLVM wants a float32 literal spelt as the float64 that it is exactly."""
    import numpy as np

    return float(np.float32(value))


def widest(numbers: Iterable[Any]) -> Traced:
    """The traced number of the most lanes; the others may be literals."""
    return max((n for n in numbers if isinstance(n, Traced)), key=attrgetter("lanes"))


def lanes_of(builder: ir.IRBuilder, value: ir.Value, first: int, n: int) -> ir.Value:
    """n lanes of a vector from `first` on; the vector itself, if it has no more."""
    if value.type.count == n:
        return value
    order = ir.Constant(ir.VectorType(I32, n), list(range(first, first + n)))
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), order)


def repeated(builder: ir.IRBuilder, value: ir.Value, kind: Vector) -> ir.Value:
    """A wide vector that holds a vector several times."""
    lanes = [i % value.type.count for i in range(kind.lanes)]
    order = ir.Constant(ir.VectorType(I32, kind.lanes), lanes)
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), order)


def spread(builder: ir.IRBuilder, value: ir.Value, kind: Vector) -> ir.Value:
    """A vector with one value in all lanes."""
    undefined = ir.Constant(ir_type(kind), ir.Undefined)
    first = builder.insert_element(undefined, value, I32(0))
    zeros = ir.Constant(ir.VectorType(I32, kind.lanes), [0] * kind.lanes)
    return builder.shuffle_vector(first, undefined, zeros)


# teaching Numba -----------------------------------------------------------------------------------


def traceable(kind: types.Type) -> bool:
    """Whether formulas work on values of this Numba type."""
    return element_of(kind) in IR


@cache
def result_kinds(formula: Callable[..., Any], kinds: tuple[types.Type, ...]) -> Any:
    """The types of what a formula returns, found by tracing it into a function thrown away."""
    function = ir.Function(
        ir.Module(), ir.FunctionType(ir.VoidType(), [ir_type(k) for k in kinds]), "typing"
    )
    builder = ir.IRBuilder(function.append_basic_block())
    result = formula(*(Traced(builder, a, k) for a, k in zip(function.args, kinds, strict=True)))
    if isinstance(result, tuple):
        return types.Tuple([part.kind for part in result])
    return result.kind


def plain(kinds: tuple[types.Type, ...]) -> tuple[types.Type, ...]:
    """The types, literal ones without their value."""
    return tuple(types.unliteral(k) for k in kinds)


def teach(formula: Callable[..., Any], only_vectors: bool = False) -> None:
    """Let kernels call a formula by its plain function; operators keep their other meanings."""

    @infer_global(formula)
    class Template(AbstractTemplate):
        def generic(self, args: tuple[types.Type, ...], kws: Any) -> Any:
            kinds = plain(args)
            if not all(traceable(k) for k in kinds):
                return None
            if only_vectors and not any(isinstance(k, Vector) for k in kinds):
                return None
            return signature(result_kinds(formula, kinds), *kinds)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        result = formula(*(Traced(builder, a, k) for a, k in zip(args, sig.args, strict=True)))
        if isinstance(result, tuple):
            return context.make_tuple(builder, sig.return_type, [part.value for part in result])
        return result.value

    if only_vectors:
        n = len(signature_of(formula).parameters)
        for mask in range(1, 2**n):
            kinds = [Vector if mask >> i & 1 else types.Any for i in range(n)]
            lower_builtin(formula, *kinds)(lower)
    else:
        lower_builtin(formula, types.VarArg(types.Any))(lower)


for _operator in (
    operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, abs,
    operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne,
    operator.and_, operator.or_, operator.iadd, operator.isub, operator.imul,
):  # fmt: skip
    teach(_operator, only_vectors=True)
