"""The words in which kernels speak of vectors; `words` says what they mean to the compiler.

A kernel is a plain Python function that Numba compiles. It reads and writes memory through
pointers, in vectors of `lanes` numbers: 16 float32 or 8 float64. Vectors have the operators of
numbers, so the formulas take them as they stand. This module imports nothing, so that a page of
operations can name its kernels without starting the compiler.

Numbers kept in 16 bits become float32 when they are loaded, and are rounded when stored.

A pointer goes along a row, or stands for a tile of short rows, which are computed at once, one in
each lane: then a "vector" below is a column of the tile, `lanes` is 1, and nothing is folded across
the lanes.

The bodies are empty: these functions exist only inside a kernel.
"""

from typing import Any

Pointer = Any
Vector = Any
Number = Any


def row(array: Any, i: int) -> Pointer:
    """Pointer to row i of an array, whose rows are contiguous; i is 0 for an array as a whole.

    Of None it is None, which is known while compiling.
    """


def at(p: Pointer, j: int) -> Pointer:
    """Pointer to p[j]; None stays None."""


def lanes(p: Pointer) -> int:  # type: ignore[empty-body]
    """How many numbers of a row a vector holds; known while compiling."""


def number(p: Pointer, value: float) -> Number:
    """`value` as a single number of p's type."""


def load(p: Pointer, j: int) -> Vector:
    """The vector p[j], p[j + 1], …"""


def wide(p: Pointer) -> int:  # type: ignore[empty-body]
    """How many numbers of a row a wide vector holds; known while compiling."""


def load_wide(p: Pointer, j: int) -> Vector:
    """The wide vector p[j], p[j + 1], …"""


def unless_gpu(p: Pointer) -> Pointer:
    """p, or None on a GPU, which is known while compiling."""


def load_some(p: Pointer, j: int, n: int, fill: float) -> Vector:
    """As `load`, but only the first n lanes are read; the others are `fill`."""


def load_classes(x: Pointer, p: Pointer, j: int, n: int) -> Vector:
    """The numbers of n classes from j on, to go with those of x; if that is a tile, p[j] alone."""


def store(p: Pointer, j: int, v: Vector) -> None:
    """Write v to p[j], p[j + 1], …"""


def store_some(p: Pointer, j: int, n: int, v: Vector) -> None:
    """Write the first n lanes of v."""


def splat(p: Pointer, value: float) -> Vector:
    """A vector of p's type with `value` in every lane."""


def splat64(p: Pointer, value: float) -> Vector:
    """A vector of as many float64 as there are lanes in a vector of p's type."""


def first_lanes(p: Pointer, v: Vector, n: int) -> Vector:
    """v with 0 in all but the first n lanes."""


def max_across(p: Pointer, v: Vector) -> Number:
    """The largest lane."""


def sum_across(  # type: ignore[empty-body]
    p: Pointer, s: Vector, s_lo: Vector, like: Number
) -> tuple[Number, Number]:
    """The sum of all lanes of s + s_lo."""


def exps_across(  # type: ignore[empty-body]
    p: Pointer, s: Vector, s_lo: Vector, like: Number
) -> tuple[Number, Number]:
    """The same for sums that `accumulate_exps` has made."""


def value_at_max_across(  # type: ignore[empty-body]
    p: Pointer, v: Vector, value: Vector
) -> tuple[Number, Number]:
    """The largest lane of v and what stands in that lane of `value`."""


def prefetch(p: Pointer, j: int) -> None:
    """Ask for the vector at j to be in the cache soon. It need not exist; of a tile: nothing."""


def prefetch_wide(p: Pointer, j: int) -> None:
    """The same for a wide vector."""


def claim_wide(p: Pointer, j: int) -> None:
    """The same for a wide vector that will be written; nothing, if p is None."""


def same_place(p: Pointer, q: Pointer) -> bool:  # type: ignore[empty-body]
    """Whether both point to the same number."""


def to_boundary(p: Pointer) -> int:  # type: ignore[empty-body]
    """How many numbers stand before the first that a vector may be streamed to; p is no tile."""


def stream(p: Pointer, j: int, v: Vector) -> None:
    """As `store`, but past the cache, to j numbers after such a place, j being a multiple of lanes.

    Whoever streams ends with `drain`.
    """


def drain() -> None:
    """Wait until other threads can see what was streamed."""


def counts(p: Pointer, k: int) -> Vector:
    """What counts begin with: k in every lane, the most that `count_out` will take from it.

    On a GPU 0, as `count_out` counts there what it would leave: k may take a division.
    """


def count(p: Pointer, counts: Vector, mask: Vector) -> Vector:
    """The counts, one more in the lanes where the mask holds."""


def count_out(counts: Vector, ones: Vector) -> Vector:
    """The counts, one less in the lanes that are 1."""


def counted(p: Pointer, counts: Vector) -> Number:
    """The sum of the counts of all lanes."""


def all_but_one(p: Pointer, n: Number) -> Number:
    """A sum of counts, less 1, as a number of the precision of sums."""


def sum_zero(p: Pointer) -> Number:
    """What a sum of numbers that were folded across lanes begins with."""


def longest_short_row(x: Any) -> int:  # type: ignore[empty-body]
    """Up to how many columns rows are short enough to go into tiles; known while compiling."""


def rows_in_tile(x: Any) -> int:  # type: ignore[empty-body]
    """How many rows a tile holds; known while compiling."""


def read_tile(x: Any, i: int, k: int, n: int) -> Pointer:
    """A tile of the k rows of x from row i on, of n columns each."""


def write_tile(tile: Pointer, x: Any, i: int, k: int, n: int) -> None:
    """Write a tile to the k rows of x from row i on."""


def if_given(p: Pointer, array: Any) -> Pointer:
    """p, or None if array is None, which is known while compiling."""


def spare_tile(tile: Pointer, needed: Any) -> Pointer:
    """Another tile, or None if `needed` is None, which is known while compiling."""


def borrow(x: Any, y: Any, needed: Any, n: int) -> Pointer:
    """Room for n numbers such as x's are computed with, to be given back; None if that is y's row.

    That is, unless y keeps its numbers in 16 bits, or `needed` is not None.
    """


def give_back(room: Pointer) -> None:
    """The end of what was borrowed."""


def either(p: Pointer, q: Pointer) -> Pointer:
    """p, or q if p is None, which is known while compiling."""


def load_mask(x: Pointer, mask: Pointer, j: int, n: int) -> Vector:
    """Truth values for the n numbers of x from j on; false in the other lanes."""


def lane_numbers(x: Any) -> Pointer:
    """Room for a float64 for each row of a tile of x."""


def load_lanes(tile: Pointer, numbers: Pointer) -> Vector:
    """A float64 for each row of the tile."""


def store_lanes(tile: Pointer, numbers: Pointer, v: Vector) -> None:
    """The inverse of `load_lanes`."""


def pick(p: Pointer, k: Number) -> Number:
    """p[k]; of a tile, where k is a float64 for each row, what stands there in each row."""


def put(p: Pointer, k: Number, value: Number) -> None:
    """p[k] = value, likewise."""


def call_kernel(address: int, first: int, last: int, arguments: tuple[Any, ...]) -> None:
    """Call the compiled kernel at an address."""


def share(
    loop: int, kernel: int, n: int, chunks: int, grain: int, arguments: tuple[Any, ...]
) -> None:
    """Have the parallel loop at an address call a kernel, see `run`; of one chunk, call it."""


# Panels: rows whose numbers lie apart in memory, as (outer, n, inner) arrays hold them ------------


def in_columns(x: Any) -> bool:  # type: ignore[empty-body]
    """Whether rows next to each other have their numbers next to each other, or x is None."""


def strip(x: Any, i: int, k: int) -> Any:
    """The k rows of x from row i on as an array (k, n), for `read_tile`; None stays None.

    They must be of one `outer`.
    """


def place(x: Any) -> tuple[int, int]:  # type: ignore[empty-body]
    """(address, bytes) of an array; bytes is -1 unless its elements follow one another.

    Of None, (0, 0).
    """


def one_row(x: Any) -> Any:
    """An array whose elements follow one another as a single row; None stays None."""


def part(of_rows: Any, i: int, k: int) -> Any:
    """What belongs to k rows from row i on; all of it, if that is not one for each row.

    None stays None.
    """


def panel_room(x: Any, k: int) -> Pointer:
    """Room for k rows of x, to be given back by `return_panel_room`."""


def return_panel_room(room: Pointer) -> None:
    """The end of such room."""


def rows_in_room(room: Pointer, x: Any, k: int) -> Any:
    """The first k rows of the room as an array (k, n), n as of x; None if x is None."""


def square_side(x: Any) -> int:  # type: ignore[empty-body]
    """How many numbers of how many rows `read_square` takes; known while compiling."""


def read_square(x: Any, o: int, c: int, k: int, j: int, room: Pointer, r: int) -> None:
    """Numbers from x[o, j, c] on into the room from row r, column j on.

    Of as many rows as a square has, of which k exist.
    """


def write_square(room: Pointer, r: int, x: Any, o: int, c: int, k: int, j: int, past: bool) -> None:
    """The inverse of `read_square`; writes what exists.

    Whole lines go past the cache, if told so; whoever does that ends with `drain`.
    """


def rows_to_line(x: Any, i: int) -> int:  # type: ignore[empty-body]
    """How many rows after row i the first is that begins with a line of the cache."""


def read_row(x: Any, o: int, c: int, room: Pointer, r: int) -> None:
    """The row x[o, :, c], of any strides, into row r of the room."""


def write_row(room: Pointer, r: int, x: Any, o: int, c: int) -> None:
    """The inverse of `read_row`."""


# Python's objects, by their addresses, for `doors`, on CPUs alone ---------------------------------


def word_at(address: int, i: int) -> int:  # type: ignore[empty-body]
    """The i-th integer of 64 bits from an address on."""


def float_at(address: int, i: int) -> float:  # type: ignore[empty-body]
    """The i-th float64."""


def int32_at(address: int, i: int) -> int:  # type: ignore[empty-body]
    """The i-th integer of 32 bits."""


def put_word(address: int, i: int, value: int) -> None:
    """Write what `word_at` reads."""


def put_float(address: int, i: int, value: float) -> None:
    """Write what `float_at` reads."""


def option_at(address: int, i: int, kind: Any) -> Any:
    """The i-th float64, or None if that is the kind."""


def words_of_frame() -> int:  # type: ignore[empty-body]
    """The address of room for the words of a call, see `doors`, until the caller returns."""


def array_of(address: int, kind: Any) -> Any:
    """The NumPy array whose object is at an address, of a type of Numba's; None, if of none."""


def float_of(address: int) -> float:  # type: ignore[empty-body]
    """The value of a Python or NumPy float."""


def floats_at(address: int, n: int) -> Any:
    """The 2n float64 from an address on, as an array (n, 2)."""


def int_of(address: int) -> tuple[int, int]:  # type: ignore[empty-body]
    """The value of a Python int and 0; if it is too large, something else than 0."""


def new_array(  # type: ignore[empty-body]
    make: int, array_type: int, dtype: int, ndim: int, shape: int
) -> int:
    """A new array, not yet filled; 0 if there is no memory. `make` is PyArray_NewFromDescr."""


def new_scalar(  # type: ignore[empty-body]
    make: int, dtype: int, is_wide: int, value: float
) -> int:
    """A NumPy number of float64 or float32, by PyArray_Scalar; 0 if there is no memory."""


def new_pair(a: int, b: int) -> int:  # type: ignore[empty-body]
    """A new tuple, which takes over both references; 0 if there is no memory."""


def refer(address: int) -> int:  # type: ignore[empty-body]
    """The same address, with one reference to its object more."""


def forget(address: int) -> None:
    """One reference less, if the address is not 0."""


def ask_python(function: int) -> int:  # type: ignore[empty-body]
    """What a Python function without arguments returns, an int; 0 if it fails."""


def let_others_run() -> int:  # type: ignore[empty-body]
    """Release Python's lock; for `run_again`."""


def run_again(state: int) -> None:
    """Take Python's lock."""


def call_inner(code: int, args: int, frame: int) -> int:  # type: ignore[empty-body]
    """The int that a compiled function of two addresses returns; 0 if it raises an error."""
