"""Numbers kept in 16 bits: read as float32, computed in float32, and rounded once when written.

Numba has no such types on CPUs. Here they are two types of its own, whose values are integers of
16 bits until `load` and `store` (in `words`) convert them: with the machine's own instructions
where it has them, else by moving bits, with the same results.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

I16, I32 = ir.IntType(16), ir.IntType(32)


class Half(types.Type):
    """A floating-point number of 16 bits."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)


@register_model(Half)
class HalfModel(models.PrimitiveModel):
    """Its bits."""

    def __init__(self, manager: Any, kind: Half) -> None:
        super().__init__(manager, kind, I16)


FLOAT16, BFLOAT16 = Half("float16"), Half("bfloat16")
BY_NAME = {str(kind): kind for kind in (FLOAT16, BFLOAT16)}

# 2^112 makes of a float16's bits, moved to the place of a float32's, its value.
REBIAS_16 = 2.0**112
INFINITY_32, QUIET_32, SIGN_32 = 0x7F800000, 0x00400000, 0x80000000


def _like(value: ir.Value, element: ir.Type) -> ir.Type:
    """As many numbers of that type."""
    kind = value.type
    return ir.VectorType(element, kind.count) if isinstance(kind, ir.VectorType) else element


def _constant(value: ir.Value, number: float) -> ir.Constant:
    """A literal of a value's type."""
    kind = value.type
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def to_float32(context: Any, b: ir.IRBuilder, bits: ir.Value, half: Half) -> ir.Value:
    """The numbers whose bits these are, exactly."""
    f32 = _like(bits, ir.FloatType())
    if half == FLOAT16 and _has_conversions(context):
        return b.fpext(b.bitcast(bits, _like(bits, ir.HalfType())), f32)
    wide = b.zext(bits, _like(bits, I32))
    if half == BFLOAT16:
        return b.bitcast(b.shl(wide, _constant(wide, 16)), f32)
    magnitude = b.shl(b.and_(wide, _constant(wide, 0x7FFF)), _constant(wide, 13))
    sign = b.shl(b.and_(wide, _constant(wide, 0x8000)), _constant(wide, 16))
    number = b.bitcast(magnitude, f32)
    number = b.bitcast(b.fmul(number, _constant(number, REBIAS_16)), wide.type)
    special = b.icmp_unsigned(">=", magnitude, _constant(wide, 0x7C00 << 13))
    number = b.select(special, b.or_(magnitude, _constant(wide, INFINITY_32)), number)
    return b.bitcast(b.or_(number, sign), f32)


def from_float32(context: Any, b: ir.IRBuilder, numbers: ir.Value, half: Half) -> ir.Value:
    """The bits of the nearest numbers of 16 bits, ties to even."""
    i16, i32 = _like(numbers, I16), _like(numbers, I32)
    if half == FLOAT16 and _has_conversions(context):
        return b.bitcast(b.fptrunc(numbers, _like(numbers, ir.HalfType())), i16)
    bits = b.bitcast(numbers, i32)
    is_nan = b.fcmp_unordered("uno", numbers, numbers)
    if half == BFLOAT16:
        quiet = b.or_(bits, _constant(bits, QUIET_32))
        rounded = b.select(is_nan, quiet, _rounded(b, bits, 16))
        return b.trunc(b.lshr(rounded, _constant(bits, 16)), i16)
    sign = b.lshr(b.and_(bits, _constant(bits, SIGN_32)), _constant(bits, 16))
    magnitude = b.and_(bits, _constant(bits, SIGN_32 - 1))
    too_large = _constant(bits, 0x47800000)  # 65536
    magnitude = b.select(b.icmp_unsigned("<", magnitude, too_large), magnitude, too_large)
    normal = _rounded(b, b.sub(magnitude, _constant(bits, 112 << 23)), 13)
    normal = b.lshr(normal, _constant(bits, 13))
    # Added to 1/2, a number below 2^-14 loses just the bits that a subnormal has no room for.
    half_ = _constant(numbers, 0.5)
    shifted = b.bitcast(b.fadd(b.bitcast(magnitude, numbers.type), half_), i32)
    subnormal = b.sub(shifted, _constant(bits, 0x3F000000))
    is_small = b.icmp_unsigned("<", magnitude, _constant(bits, 113 << 23))
    result = b.select(is_small, subnormal, normal)
    result = b.select(is_nan, _constant(bits, 0x7E00), result)
    return b.trunc(b.or_(result, sign), i16)


def _rounded(b: ir.IRBuilder, bits: ir.Value, n: int) -> ir.Value:
    """Rounded to nearest, ties to even, in all but the lowest n bits, which are still there."""
    odd = b.and_(b.lshr(bits, _constant(bits, n)), _constant(bits, 1))
    return b.add(b.add(bits, odd), _constant(bits, (1 << (n - 1)) - 1))


def _has_conversions(context: Any) -> bool:
    """Whether the machine converts float16 by itself; else LLVM would call what need not exist."""
    triple, _, features = context.codegen().magic_tuple()
    return "+f16c" in features.split(",") or triple.startswith(("aarch64", "arm64"))
