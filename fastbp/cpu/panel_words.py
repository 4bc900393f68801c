"""The words of `vectors` that speak of panels: rows that lie apart, brought together and back.

Such rows are seen as an array (outer, n, inner), row o·inner + c being x[o, :, c]. Room for some of
them holds each in one piece, beginning at a cache line. Its rows are an odd number of lines apart:
were it a power of two, numbers of one column would all compete for the same few lines of a cache.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.np import arrayobj

from . import vectors
from .simd import I8, I32, I64, Vector
from .streams import prefetch_from
from .tiles import transposed
from .words import first_lanes_mask, masked, word

LINE = 64  # bytes
LEVEL = 3  # what is fetched goes into the first-level cache


class Matrix:
    """An array of three axes while a word writes its code."""

    def __init__(self, context: Any, b: ir.IRBuilder, x: types.Array, x_: ir.Value) -> None:
        array = arrayobj.make_array(x)(context, b, x_)
        self.data = array.data
        self.n, self.inner = cgutils.unpack_tuple(b, array.shape, 3)[1:]
        self.strides = cgutils.unpack_tuple(b, array.strides, 3)

    def address(self, b: ir.IRBuilder, o: ir.Value, j: ir.Value, c: ir.Value) -> ir.Value:
        """Of x[o, j, c], as one of bytes."""
        offset = I64(0)
        for index, stride in zip((o, j, c), self.strides, strict=True):
            offset = b.add(offset, b.mul(index, stride))
        return b.gep(b.bitcast(self.data, I8.as_pointer()), [offset])


def _size(context: Any, dtype: types.Type) -> int:
    return int(context.get_abi_sizeof(context.get_data_type(dtype)))


def _side(size: int) -> int:
    """Lanes of a square: those of a vector, of small numbers no more than of float32."""
    return LINE // max(size, 4)


def _bytes_of_row(b: ir.IRBuilder, n: ir.Value, size: int) -> ir.Value:
    lines = b.udiv(b.add(b.mul(n, I64(size)), I64(LINE - 1)), I64(LINE))
    return b.mul(b.or_(lines, I64(1)), I64(LINE))


def _array(
    context: Any, b: ir.IRBuilder, dtype: types.Type, data: ir.Value, shape: Any, strides: Any
) -> ir.Value:
    """An array that owns nothing, so that counting references to it costs nothing."""
    array = arrayobj.make_array(types.Array(dtype, len(shape), "A"))(context, b)
    data = b.bitcast(data, context.get_data_type(dtype).as_pointer())
    arrayobj.populate_array(array, data, shape, strides, _size(context, dtype), None)
    return array._getvalue()


@word(vectors.in_columns)
def _in_columns(x: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, x_: ir.Value) -> ir.Value:
        if x == types.none:
            return cgutils.true_bit
        strides = Matrix(context, b, x, x_).strides
        size = I64(_size(context, x.dtype))
        apart = b.icmp_signed("!=", strides[1], size)
        return b.and_(apart, b.icmp_signed("==", strides[2], size))

    return signature(types.boolean, x), write


@word(vectors.strip)
def _strip(x: types.Type, i: types.Type, k: types.Type) -> Any:
    if x == types.none:
        return signature(x, x, types.intp, types.intp), lambda *_: None

    def write(context: Any, b: ir.IRBuilder, x_: Any, i_: Any, k_: Any) -> ir.Value:
        matrix = Matrix(context, b, x, x_)
        o, c = b.udiv(i_, matrix.inner), b.urem(i_, matrix.inner)
        _, down, right = matrix.strides
        data = matrix.address(b, o, I64(0), c)
        return _array(context, b, x.dtype, data, (k_, matrix.n), (right, down))

    return signature(types.Array(x.dtype, 2, "A"), x, types.intp, types.intp), write


@word(vectors.place)
def _place(x: types.Type) -> Any:
    two = types.UniTuple(types.intp, 2)

    def write(context: Any, b: ir.IRBuilder, x_: ir.Value) -> ir.Value:
        if x == types.none:
            return context.make_tuple(b, two, (I64(0), I64(0)))
        array = arrayobj.make_array(x)(context, b, x_)
        step, whole = I64(_size(context, x.dtype)), cgutils.true_bit
        axes = zip(
            cgutils.unpack_tuple(b, array.shape, x.ndim),
            cgutils.unpack_tuple(b, array.strides, x.ndim),
            strict=True,
        )
        for n, stride in reversed(list(axes)):
            whole = b.and_(whole, b.icmp_signed("==", stride, step))
            step = b.mul(step, n)
        whole = b.or_(whole, b.icmp_signed("==", step, I64(0)))  # strides of nothing are any
        n_bytes = b.select(whole, step, I64(-1))
        return context.make_tuple(b, two, (b.ptrtoint(array.data, I64), n_bytes))

    return signature(two, x), write


@word(vectors.one_row)
def _one_row(x: types.Type) -> Any:
    if x == types.none:
        return signature(x, x), lambda *_: None

    def write(context: Any, b: ir.IRBuilder, x_: ir.Value) -> ir.Value:
        array = arrayobj.make_array(x)(context, b, x_)
        size = I64(_size(context, x.dtype))
        n = array.nitems
        return _array(context, b, x.dtype, array.data, (I64(1), n), (b.mul(n, size), size))

    return signature(types.Array(x.dtype, 2, "A"), x), write


@word(vectors.part)
def _part(of_rows: types.Type, i: types.Type, k: types.Type) -> Any:
    if of_rows == types.none:
        return signature(of_rows, of_rows, types.intp, types.intp), lambda *_: None

    def write(context: Any, b: ir.IRBuilder, of_rows_: Any, i_: Any, k_: Any) -> ir.Value:
        array = arrayobj.make_array(of_rows)(context, b, of_rows_)
        shape = cgutils.unpack_tuple(b, array.shape, of_rows.ndim)
        strides = cgutils.unpack_tuple(b, array.strides, of_rows.ndim)
        one_each = b.icmp_signed(">", shape[0], I64(1))
        offset = b.mul(strides[0], b.select(one_each, i_, I64(0)))
        data = cgutils.pointer_add(b, array.data, offset)
        shape[0] = b.select(one_each, k_, shape[0])
        return _array(context, b, of_rows.dtype, data, shape, strides)

    return signature(of_rows.copy(layout="A"), of_rows, types.intp, types.intp), write


@word(vectors.panel_room)
def _panel_room(x: types.Type, k: types.Type) -> Any:
    if x == types.none:
        return signature(x, x, types.intp), lambda *_: None

    def write(context: Any, b: ir.IRBuilder, x_: ir.Value, k_: ir.Value) -> ir.Value:
        size = _size(context, x.dtype)
        # A square may reach over the last row.
        rows = b.add(k_, I64(_side(size)))
        needed = b.mul(rows, _bytes_of_row(b, Matrix(context, b, x, x_).n, size))
        whole = context.nrt.allocate(b, b.add(needed, I64(LINE)))
        # The address of the whole stands before the first line in it, where 8 bytes are free.
        end = b.ptrtoint(b.gep(whole, [I64(LINE)]), I64)
        first = b.inttoptr(b.and_(end, I64(-LINE)), whole.type)
        b.store(whole, b.bitcast(b.gep(first, [I64(-8)]), whole.type.as_pointer()))
        return b.bitcast(first, context.get_data_type(x.dtype).as_pointer())

    return signature(types.CPointer(x.dtype), x, types.intp), write


@word(vectors.return_panel_room)
def _return_panel_room(room: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, room_: ir.Value) -> None:
        if room != types.none:
            first = b.bitcast(room_, I8.as_pointer())
            place = b.bitcast(b.gep(first, [I64(-8)]), first.type.as_pointer())
            context.nrt.free(b, b.load(place))

    return signature(types.void, room), write


@word(vectors.rows_in_room)
def _rows_in_room(room: types.Type, x: types.Type, k: types.Type) -> Any:
    if x == types.none:
        return signature(x, room, x, types.intp), lambda *_: None

    def write(context: Any, b: ir.IRBuilder, room_: Any, x_: Any, k_: Any) -> ir.Value:
        n, size = Matrix(context, b, x, x_).n, _size(context, x.dtype)
        strides = (_bytes_of_row(b, n, size), I64(size))
        return _array(context, b, x.dtype, room_, (k_, n), strides)

    return signature(types.Array(x.dtype, 2, "A"), room, x, types.intp), write


# squares ------------------------------------------------------------------------------------------


class Square:
    """Its place in an array and in the room."""

    def __init__(self, context: Any, b: ir.IRBuilder, x: types.Array, *values: ir.Value) -> None:
        x_, o, c, j, room, r = values
        matrix = Matrix(context, b, x, x_)
        element = context.get_data_type(x.dtype)
        self.size = _size(context, x.dtype)
        self.side = _side(self.size)
        self.vector = ir.VectorType(element, self.side)
        self.name = f"f{8 * self.size}" if self.size > 2 else f"i{8 * self.size}"
        self.left = b.sub(matrix.n, j)  # how many of its columns exist
        self.outside = matrix.address(b, o, j, c)
        self.down = matrix.strides[1]
        self.step = _bytes_of_row(b, matrix.n, self.size)
        inside = b.add(b.mul(r, self.step), b.mul(j, I64(self.size)))
        self.inside = b.gep(b.bitcast(room, I8.as_pointer()), [inside])

    def lines(self, b: ir.IRBuilder) -> list[tuple[ir.Value, ir.Value]]:
        """Where each line of it stands in the array, and whether it exists; if not, the last."""
        found, address = [], self.outside
        for line in range(self.side):
            exists = b.icmp_signed("<", I64(line), self.left)
            if line:
                address = b.gep(address, [b.select(exists, self.down, I64(0))])
            found.append((b.bitcast(address, self.vector.as_pointer()), exists))
        return found

    def first(self, b: ir.IRBuilder, k: ir.Value) -> ir.Value:
        """A mask of its first k rows."""
        return first_lanes_mask(b, k, Vector(types.int32, self.side))

    def prefetch(self, b: ir.IRBuilder) -> None:
        """Ask for the lines that come two squares later: in memory they may be pages apart."""
        for line in range(2 * self.side, 3 * self.side):
            prefetch_from(b, b.gep(self.outside, [b.mul(self.down, I64(line))]), LEVEL)

    def fills_lines(self, b: ir.IRBuilder) -> ir.Value:
        """Whether each line of it is a line of the cache."""
        if self.size * self.side < LINE:
            return cgutils.false_bit
        places = b.or_(b.ptrtoint(self.outside, I64), self.down)
        return b.icmp_signed("==", b.and_(places, I64(LINE - 1)), I64(0))

    def rows(self, b: ir.IRBuilder) -> list[ir.Value]:
        """Where each row of it stands in the room."""
        addresses = [b.gep(self.inside, [b.mul(self.step, I64(row))]) for row in range(self.side)]
        return [b.bitcast(a, self.vector.as_pointer()) for a in addresses]


@word(vectors.square_side)
def _square_side(x: types.Array) -> Any:
    return signature(types.intp, x), lambda context, *_: I64(_side(_size(context, x.dtype)))


@word(vectors.read_square)
def _read_square(
    x: types.Array, o: Any, c: Any, k: Any, j: Any, room: types.CPointer, r: Any
) -> Any:
    def write(
        context: Any, b: ir.IRBuilder, x_: Any, o_: Any, c_: Any, k_: Any, j_: Any, room_: Any,
        r_: Any,
    ) -> None:  # fmt: skip
        square = Square(context, b, x, x_, o_, c_, j_, room_, r_)

        def read(lines: list[ir.Value]) -> None:
            for v, p in zip(transposed(b, lines), square.rows(b), strict=True):
                b.store(v, p, align=square.size * square.side)

        with b.if_else(b.icmp_signed(">=", k_, I64(square.side))) as (whole, part):
            with whole:
                square.prefetch(b)
                read([b.load(p, align=square.size) for p, _ in square.lines(b)])
            with part:
                mask, zero = square.first(b, k_), ir.Constant(square.vector, None)
                rest = (I32(square.size), mask, zero)
                lines = [p for p, _ in square.lines(b)]
                read([masked(b, "load", square.name, square.vector, [p, *rest]) for p in lines])

    places = (types.intp,) * 4
    return signature(types.void, x, *places, room, types.intp), write


@word(vectors.write_square)
def _write_square(
    room: types.CPointer, r: Any, x: types.Array, o: Any, c: Any, k: Any, j: Any, past: Any
) -> Any:
    def write(
        context: Any, b: ir.IRBuilder, room_: Any, r_: Any, x_: Any, o_: Any, c_: Any, k_: Any,
        j_: Any, past_: Any,
    ) -> None:  # fmt: skip
        square = Square(context, b, x, x_, o_, c_, j_, room_, r_)
        align = square.size * square.side
        lines = transposed(b, [b.load(p, align=align) for p in square.rows(b)])
        places = square.lines(b)
        side = I64(square.side)
        whole = b.and_(b.icmp_signed(">=", k_, side), b.icmp_signed(">=", square.left, side))
        with b.if_else(whole) as (all_, part):
            with all_, b.if_else(b.and_(past_, square.fills_lines(b))) as (streamed, kept):
                with streamed:
                    for line, (p, _) in zip(lines, places, strict=True):
                        stored = b.store(line, p, align=align)
                        stored.set_metadata("nontemporal", b.module.add_metadata([I32(1)]))
                with kept:
                    for line, (p, _) in zip(lines, places, strict=True):
                        b.store(line, p, align=square.size)
            with part:
                for line, (p, exists) in zip(lines, places, strict=True):
                    mask = square.first(b, b.select(exists, k_, I64(0)))
                    rest = (I32(square.size), mask)
                    masked(b, "store", square.name, ir.VoidType(), [line, p, *rest])

    places = (types.intp,) * 4
    return signature(types.void, room, types.intp, x, *places, types.boolean), write


@word(vectors.rows_to_line)
def _rows_to_line(x: types.Array, i: Any) -> Any:
    def write(context: Any, b: ir.IRBuilder, x_: Any, i_: Any) -> ir.Value:
        matrix, size = Matrix(context, b, x, x_), _size(context, x.dtype)
        o, c = b.udiv(i_, matrix.inner), b.urem(i_, matrix.inner)
        address = b.ptrtoint(matrix.address(b, o, I64(0), c), I64)
        return b.udiv(b.and_(b.neg(address), I64(LINE - 1)), I64(size))

    return signature(types.intp, x, types.intp), write


# rows of any strides ------------------------------------------------------------------------------


def _copy_row(
    context: Any, b: ir.IRBuilder, x: types.Array, places: tuple[ir.Value, ...], into_room: bool
) -> None:
    """One row; in one piece, if it is one in the array, too."""
    x_, o, c, room, r = places
    matrix, size = Matrix(context, b, x, x_), _size(context, x.dtype)
    element = context.get_data_type(x.dtype)
    outside = matrix.address(b, o, I64(0), c)
    inside = b.gep(b.bitcast(room, I8.as_pointer()), [b.mul(r, _bytes_of_row(b, matrix.n, size))])
    down = matrix.strides[1]
    with b.if_else(b.icmp_signed("==", down, I64(size))) as (in_one, apart):
        with in_one:
            to, given = (inside, outside) if into_room else (outside, inside)
            cgutils.raw_memcpy(b, to, given, matrix.n, size)
        with apart, cgutils.for_range(b, matrix.n) as loop:
            far = b.gep(outside, [b.mul(loop.index, down)])
            near = b.gep(inside, [b.mul(loop.index, I64(size))])
            to, given = (near, far) if into_room else (far, near)
            number = b.load(b.bitcast(given, element.as_pointer()), align=size)
            b.store(number, b.bitcast(to, element.as_pointer()), align=size)


@word(vectors.read_row)
def _read_row(x: types.Array, o: Any, c: Any, room: types.CPointer, r: Any) -> Any:
    def write(context: Any, b: ir.IRBuilder, *places: ir.Value) -> None:
        _copy_row(context, b, x, places, into_room=True)

    return signature(types.void, x, types.intp, types.intp, room, types.intp), write


@word(vectors.write_row)
def _write_row(room: types.CPointer, r: Any, x: types.Array, o: Any, c: Any) -> Any:
    def write(
        context: Any, b: ir.IRBuilder, room_: Any, r_: Any, x_: Any, o_: Any, c_: Any
    ) -> None:
        _copy_row(context, b, x, (x_, o_, c_, room_, r_), into_room=False)

    return signature(types.void, room, types.intp, x, types.intp, types.intp), write
