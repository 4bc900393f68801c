"""What the words of `vectors` for Python's objects mean to the compiler.

Addresses are integers. How a NumPy array lies in memory, and the functions of Python and NumPy that
are called here, are what every compiled extension relies on.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.np import arrayobj

from . import vectors
from .doors import DATA, FRAME_WORDS, SHAPE, STRIDES
from .simd import I32, I64
from .words import word

INT32, INT64, DOUBLE = ir.IntType(32), ir.IntType(64), ir.DoubleType()
ADDRESS = types.intp


def _behind(
    b: ir.IRBuilder, address: ir.Value, kind: ir.Type, i: ir.Value | int = 0, offset: int = 0
) -> ir.Value:
    """A pointer to the i-th value of a kind from so many bytes behind an address on."""
    i = I64(i) if isinstance(i, int) else i
    return b.gep(b.inttoptr(b.add(address, I64(offset)), kind.as_pointer()), [i])


def _object(b: ir.IRBuilder, pyapi: Any, address: ir.Value) -> ir.Value:
    return b.inttoptr(address, pyapi.pyobj)


def _or_clear(b: ir.IRBuilder, pyapi: Any, made: ir.Value) -> ir.Value:
    """The address of what was made; 0, and no error is left behind, if that failed."""
    address = b.ptrtoint(made, INT64)
    with b.if_then(b.icmp_unsigned("==", address, I64(0)), likely=False):
        pyapi.err_clear()
    return address


# memory -------------------------------------------------------------------------------------------


def _reader(stub: Any, kind: ir.Type, returns: types.Type) -> None:
    @word(stub)
    def meaning(address: types.Type, i: types.Type) -> Any:
        def read(context: Any, b: ir.IRBuilder, address_: Any, i_: Any) -> ir.Value:
            value = b.load(_behind(b, address_, kind, i_))
            return b.sext(value, INT64) if kind == INT32 else value

        return signature(returns, ADDRESS, types.intp), read


_reader(vectors.word_at, INT64, types.intp)
_reader(vectors.int32_at, INT32, types.intp)
_reader(vectors.float_at, DOUBLE, types.float64)


def _writer(stub: Any, kind: ir.Type, takes: types.Type) -> None:
    @word(stub)
    def meaning(address: types.Type, i: types.Type, value: types.Type) -> Any:
        def write(context: Any, b: ir.IRBuilder, address_: Any, i_: Any, value_: Any) -> None:
            b.store(value_, _behind(b, address_, kind, i_))

        return signature(types.void, ADDRESS, types.intp, takes), write


_writer(vectors.put_word, INT64, types.intp)
_writer(vectors.put_float, DOUBLE, types.float64)


@word(vectors.option_at)
def _option_at(address: types.Type, i: types.Type, kind: Any) -> Any:
    def read(context: Any, b: ir.IRBuilder, address_: Any, i_: Any, kind_: Any) -> Any:
        return None if absent else b.load(_behind(b, address_, DOUBLE, i_))

    absent = kind.instance_type == types.none
    return signature(kind.instance_type, ADDRESS, types.intp, kind), read


@word(vectors.words_of_frame)
def _words_of_frame() -> Any:
    def write(context: Any, b: ir.IRBuilder) -> ir.Value:
        return b.ptrtoint(cgutils.alloca_once(b, INT64, FRAME_WORDS), INT64)

    return signature(ADDRESS), write


@word(vectors.array_of)
def _array_of(address: types.Type, kind: Any) -> Any:
    array = kind.instance_type

    def write(context: Any, b: ir.IRBuilder, address_: Any, kind_: Any) -> Any:
        if array == types.none:
            return None
        shape, strides = (
            b.load(_behind(b, address_, INT64.as_pointer(), offset=at)) for at in (SHAPE, STRIDES)
        )
        pointer = context.get_data_type(array.dtype).as_pointer()
        data = b.load(_behind(b, address_, pointer, offset=DATA))
        axes = [[b.load(b.gep(p, [I64(a)])) for a in range(array.ndim)] for p in (shape, strides)]
        return _array(context, b, array, data, *axes)

    return signature(array, ADDRESS, kind), write


@word(vectors.floats_at)
def _floats_at(address: types.Type, n: types.Type) -> Any:
    array = types.Array(types.float64, 2, "C")

    def write(context: Any, b: ir.IRBuilder, address_: Any, n_: Any) -> ir.Value:
        data = b.inttoptr(address_, DOUBLE.as_pointer())
        return _array(context, b, array, data, [n_, I64(2)], [I64(16), I64(8)])

    return signature(array, ADDRESS, types.intp), write


def _array(
    context: Any, b: ir.IRBuilder, kind: types.Array, data: ir.Value, shape: Any, strides: Any
) -> ir.Value:
    """An array of memory that others own."""
    array = arrayobj.make_array(kind)(context, b)
    item = I64(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    arrayobj.populate_array(array, data, shape, strides, item, None)
    return array._getvalue()


# objects ------------------------------------------------------------------------------------------


@word(vectors.int_of)
def _int_of(address: types.Type) -> Any:
    two = types.UniTuple(types.intp, 2)

    def write(context: Any, b: ir.IRBuilder, address_: Any) -> ir.Value:
        pyapi = context.get_python_api(b)
        kind = ir.FunctionType(INT64, [pyapi.pyobj, INT32.as_pointer()])
        function = cgutils.get_or_insert_function(b.module, kind, "PyLong_AsLongLongAndOverflow")
        overflow = cgutils.alloca_once(b, INT32)
        value = b.call(function, [_object(b, pyapi, address_), overflow])
        return context.make_tuple(b, two, (value, b.sext(b.load(overflow), INT64)))

    return signature(two, ADDRESS), write


@word(vectors.float_of)
def _float_of(_: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, address: Any) -> ir.Value:
        pyapi = context.get_python_api(b)
        return pyapi.float_as_double(_object(b, pyapi, address))

    return signature(types.float64, ADDRESS), write


@word(vectors.new_array)
def _new_array(*_: types.Type) -> Any:
    def write(
        context: Any, b: ir.IRBuilder, make: Any, array_type: Any, dtype: Any, ndim: Any, shape: Any
    ) -> ir.Value:  # fmt: skip
        pyapi = context.get_python_api(b)
        pyapi.incref(_object(b, pyapi, dtype))  # it is taken over
        kinds = [INT64, INT64, INT32, INT64, INT64, INT64, INT32, INT64]
        function = b.inttoptr(make, ir.FunctionType(pyapi.pyobj, kinds).as_pointer())
        none, flags = I64(0), I32(0)
        given = [array_type, dtype, b.trunc(ndim, INT32), shape, none, none, flags, none]
        return _or_clear(b, pyapi, b.call(function, given))

    return signature(ADDRESS, *[types.intp] * 5), write


@word(vectors.new_scalar)
def _new_scalar(*_: types.Type) -> Any:
    def write(
        context: Any, b: ir.IRBuilder, make: Any, dtype: Any, is_wide: Any, value: Any
    ) -> Any:
        pyapi = context.get_python_api(b)
        place = cgutils.alloca_once_value(b, value)
        with b.if_then(b.icmp_signed("==", is_wide, I64(0))):
            narrow = b.bitcast(place, ir.FloatType().as_pointer())
            b.store(b.fptrunc(value, ir.FloatType()), narrow)
        kind = ir.FunctionType(pyapi.pyobj, [INT64] * 3)
        function = b.inttoptr(make, kind.as_pointer())
        return _or_clear(b, pyapi, b.call(function, [b.ptrtoint(place, INT64), dtype, I64(0)]))

    return signature(ADDRESS, *[types.intp] * 3, types.float64), write


@word(vectors.new_pair)
def _new_pair(*_: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, first: Any, second: Any) -> ir.Value:
        pyapi = context.get_python_api(b)
        both = [_object(b, pyapi, a) for a in (first, second)]
        pair = _or_clear(b, pyapi, pyapi.tuple_pack(both))
        for one in both:  # which the tuple refers to itself
            pyapi.decref(one)
        return pair

    return signature(ADDRESS, ADDRESS, ADDRESS), write


@word(vectors.refer)
def _refer(_: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, address: Any) -> ir.Value:
        pyapi = context.get_python_api(b)
        pyapi.incref(_object(b, pyapi, address))
        return address

    return signature(ADDRESS, ADDRESS), write


@word(vectors.forget)
def _forget(_: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, address: Any) -> None:
        pyapi = context.get_python_api(b)
        pyapi.decref(_object(b, pyapi, address))  # of nothing, it does nothing

    return signature(types.void, ADDRESS), write


@word(vectors.ask_python)
def _ask_python(_: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, function: Any) -> ir.Value:
        pyapi = context.get_python_api(b)
        answer = pyapi.call_function_objargs(_object(b, pyapi, function), ())
        number = cgutils.alloca_once_value(b, I64(0))
        with b.if_else(cgutils.is_not_null(b, answer)) as (answered, failed):
            with answered:
                b.store(pyapi.long_as_longlong(answer), number)
                pyapi.decref(answer)
            with failed:
                pyapi.err_clear()
        return b.load(number)

    return signature(types.intp, ADDRESS), write


@word(vectors.let_others_run)
def _let_others_run() -> Any:
    def write(context: Any, b: ir.IRBuilder) -> ir.Value:
        return b.ptrtoint(context.get_python_api(b).save_thread(), INT64)

    return signature(types.intp), write


@word(vectors.run_again)
def _run_again(_: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, state: Any) -> None:
        pyapi = context.get_python_api(b)
        pyapi.restore_thread(b.inttoptr(state, pyapi.voidptr))

    return signature(types.void, types.intp), write


@word(vectors.call_inner)
def _call_inner(*_: types.Type) -> Any:
    kinds = (types.intp, types.intp)

    def write(context: Any, b: ir.IRBuilder, code: Any, args: Any, frame: Any) -> ir.Value:
        convention = context.call_conv
        function_type = convention.get_function_type(types.intp, kinds)
        function = b.inttoptr(code, function_type.as_pointer())
        status, result = convention.call_function(b, function, types.intp, kinds, (args, frame))
        return b.select(status.is_error, I64(0), result)

    return signature(types.intp, *[types.intp] * 3), write
