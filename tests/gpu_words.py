"""What the words of kernels mean in the simulator, and functions that are made of them.

Tests import this module; it holds none itself.
"""

import functools
from types import CellType, CodeType, FunctionType

import numpy as np
from gpu_numbers import Number, Truth
from gpu_threads import (
    LANES,
    DisagreementError,
    Matrix,
    MisalignedError,
    OutOfBoundsError,
    Row,
    computed,
)
from greenlet import getcurrent

from fastbp.cpu import vectors
from fastbp.cuda import compiler, staging, words
from fastbp.cuda.staging import BLOCK, THREAD
from fastbp.formulas import softmax as formulas

# functions ----------------------------------------------------------------------------------------

MEANINGS = {}


def means(word):
    """The function below is what the word means."""

    def remember(meaning):
        MEANINGS[word] = meaning
        return meaning

    return remember


@functools.cache
def simulated(function):
    """The function, with words and other functions of fastbp as they are here."""
    if function in MEANINGS:
        return MEANINGS[function]
    if function.__module__ in compiler.WORDS:
        return missing(function)
    if function.__module__.startswith(compiler.FORMULAS):
        return with_numbers(function)

    def replaced(value):
        ours = isinstance(value, FunctionType) and (
            value.__module__.startswith("fastbp.") or value.__module__ == function.__module__
        )
        return simulated(value) if ours else value

    used = names_in(function.__code__)
    names = {
        name: replaced(value) if name in used else value
        for name, value in function.__globals__.items()
    }
    cells = tuple(
        CellType(simulated(c.cell_contents) if callable(c.cell_contents) else c.cell_contents)
        for c in function.__closure__ or ()
    )
    return FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, cells or None
    )


def names_in(code):
    """All names that a function uses, those of functions within it, too."""
    within = [names_in(c) for c in code.co_consts if isinstance(c, CodeType)]
    return set(code.co_names).union(*within)


def missing(word):
    def meaning(*_arguments):
        raise NotImplementedError(f"nothing says here what {word.__name__} means")

    return meaning


def with_numbers(formula):
    """As the compiler calls a formula: literals among numbers are numbers of their type."""

    def call(*arguments):
        like = next((a for a in arguments if type(a) is Number), Number(np.float64(0)))
        return formula(*(like.literal(a) if type(a) in (float, int) else a for a in arguments))

    return call


# where a thread is --------------------------------------------------------------------------------


@means(words.thread)
def _thread():
    return getcurrent().index


@means(words.threads)
def _threads():
    return getcurrent().block.launch.threads


@means(words.block)
def _block():
    return getcurrent().block.number


@means(words.blocks)
def _blocks():
    return getcurrent().block.launch.blocks


@means(vectors.wide)
@means(vectors.lanes)
def _lanes(p):
    return p.group or _threads()


@means(words.lane)
def _lane(p):
    return _thread() % _lanes(p)


@means(words.wait)
def _wait(p):
    getcurrent().meet(p.group)


@means(words.wait_block)
def _wait_block():
    getcurrent().meet(BLOCK)


# matrices -----------------------------------------------------------------------------------------


def _of_rows(word, which):
    @means(word)
    def choose(*arguments):
        matrix = next(a for a in arguments if isinstance(a, Matrix))
        chosen = staging.MEANINGS[matrix.group, matrix.staged][which]
        return simulated(chosen)(*arguments)


for _which, _word in enumerate(staging.OF_ROWS):
    _of_rows(_word, _which)


@means(words.result_if_given)
def _result_if_given(p, y, i):
    return None if y is None else MEANINGS[words.result_row](p, y, i)


@means(words.spare_row)
def _spare_row(x, room, needed, n, slot):
    if needed is None:
        return None
    return simulated(staging.SPARE_ROWS[x.group, x.staged])(x, room, needed, n, slot)


@means(words.if_staged)
def _if_staged(x, p):
    return p if x.staged else None


@means(words.of_block)
def _of_block(p):
    return Row(p.memory, p.start, BLOCK)


means(words.rows)(lambda x: x.rows)
means(words.columns)(lambda x: x.columns)
means(words.stride)(lambda x: x.stride)


@means(words.row_at)
def _row_at(x, i):
    return None if x is None else Row(x.memory, i * x.stride, x.group)


@means(words.own_row)
def _own_row(x, i):
    return i + _thread() if x.group == THREAD else i


@means(words.put_number)
def _put_number(x, numbers, i, value):
    own = _own_row(x, i)
    if own < x.rows if x.group == THREAD else _thread() % (x.group or _threads()) == 0:
        numbers.write(own, numbers.literal(value))


# memory -------------------------------------------------------------------------------------------


@means(words.chip)
def _chip(p, offset):
    if offset < 0:
        raise OutOfBoundsError(f"{offset} on the chip")
    kind = computed(p.memory.numbers.dtype)
    return Row(getcurrent().block.chip(kind), offset, p.group)


@means(words.pack)
def _pack(p):
    return 16 // p.size


@means(words.beyond_16)
def _beyond_16(p):
    return p.address() % 16 // p.size


@means(words.copy_place)
def _copy_place(target, k, source, j):
    target.write(k, source.read(j))


@means(words.copy_1)
def _copy_1(target, source, j):
    target.write(j, source.read(j))


def aligned(p, j):
    if p.address(j) % 16:
        raise MisalignedError(f"{p.address(j) % 16} bytes behind a multiple of 16")


@means(words.copy_16)
def _copy_16(target, source, j):
    aligned(source, j)
    _copy_16_apart(target, source, j)


@means(words.at_once)
def _at_once(p):
    return 2 if p.size == 2 else 4


@means(words.copy_16_at_once)
def _copy_16_at_once(target, source, j, step):
    times = range(_at_once(source))
    for k in times:
        aligned(source, j + k * step)
    per = 16 // min(target.size, source.size)
    places = [j + k * step + i for k in times for i in range(per)]
    values = [source.read(place) for place in places]
    for k in times:
        aligned(target, j + k * step)
    for place, value in zip(places, values, strict=True):
        target.write(place, value)


@means(words.copy_16_apart)
def _copy_16_apart(target, source, j):
    aligned(target, j)
    for k in range(16 // min(target.size, source.size)):
        _copy_1(target, source, j + k)


@means(words.map_1)
def _map_1(formula, target, j, *sources):
    target.write(j, formula(*(s.read(j) for s in sources)))


@means(words.map_16)
def _map_16(formula, target, j, *sources):
    for p in (target, *sources):
        aligned(p, j)
    for k in range(16 // target.size):
        _map_1(formula, target, j + k, *sources)


@means(words.convert_place)
def _convert_place(target, k, source, j):
    source.memory.use(source.start + j, writing=False)
    target.memory.use(target.start + k, writing=True)
    to, value = target.memory.numbers, source.memory.numbers[source.start + j]
    if value.dtype != to.dtype:
        value = np.float64(value) if value.dtype.kind in "iu" else value
        if to.dtype != np.float16:
            value = computed(to.dtype)(value)
    to[target.start + k] = to.dtype.type(value)


# numbers ------------------------------------------------------------------------------------------


@means(vectors.at)
def _at(p, j):
    return None if p is None else Row(p.memory, p.start + j, p.group)


for _word in (vectors.number, vectors.splat, vectors.splat64):
    means(_word)(lambda p, value: p.literal(value))
means(vectors.sum_zero)(lambda p: p.literal(0))
means(vectors.counts)(lambda p, _k: p.literal(0))
means(vectors.unless_gpu)(lambda _p: None)
means(vectors.counted)(lambda _p, counts: counts)
for _word in (vectors.prefetch, vectors.prefetch_wide, vectors.claim_wide):
    means(_word)(lambda _p, _j: None)
means(vectors.either)(lambda p, q: q if p is None else p)
means(vectors.if_given)(lambda p, array: None if array is None else p)


@means(vectors.load_wide)
@means(vectors.load)
def _load(p, j):
    return p.read(j + _lane(p))


@means(vectors.load_some)
def _load_some(p, j, n, fill):
    return _load(p, j) if _lane(p) < n else p.literal(fill)


@means(vectors.load_mask)
def _load_mask(x, mask, j, n):
    me = _lane(x)
    return Truth(np.bool_(me < n and mask.read(j + me) != 0))


@means(vectors.load_classes)
def _load_classes(x, p, j, n):
    return _load_some(Row(p.memory, p.start, x.group), j, n, 0)


@means(vectors.store)
def _store(p, j, v):
    p.write(j + _lane(p), v)


@means(vectors.store_some)
def _store_some(p, j, n, v):
    if _lane(p) < n:
        _store(p, j, v)


@means(vectors.first_lanes)
def _first_lanes(p, v, n):
    return v if _lane(p) < n else v.literal(0)


@means(vectors.count)
def _count(p, counts, mask):
    return counts + p.literal(int(mask.value))


@means(vectors.count_out)
def _count_out(counts, ones):
    return counts + counts.literal(int(not ones.value))  # what stays, see `vectors.counts`


@means(vectors.pick)
def _pick(p, k):
    _wait(p)
    value = p.read(k)
    _wait(p)
    return value


@means(vectors.put)
def _put(p, k, value):
    if k % _lanes(p) == _lane(p):
        p.write(k, p.literal(value))


# across the threads of a group --------------------------------------------------------------------


def across(p, formula, values, identities, of_first_lane=False):
    """The values of a group's threads folded as a GPU does it; other orders have other bits.

    They are the same in every thread; or all take those of their warp's first lane.
    """

    def fold(everyone):
        parts = [np.array([v[k].value for v in everyone]) for k in range(len(values))]
        parts = fold_warps([part.reshape(-1, LANES) for part in parts], formula)
        if p.group == BLOCK:  # what the warps have left on the chip is folded by every warp
            of_warps = []
            for part, nothing in zip(parts, identities, strict=True):
                all_lanes = np.full(LANES, nothing, part.dtype)
                all_lanes[: len(part)] = part[:, 0]
                of_warps.append(np.tile(all_lanes, (len(part), 1)))
            parts = fold_warps(of_warps, formula)
        if of_first_lane:
            parts = [np.repeat(part[:, :1], LANES, axis=1) for part in parts]
        agree(parts)
        return zip(*(map(Number, part.ravel()) for part in parts), strict=True)

    return getcurrent().meet(p.group, fold, values)


def agree(parts):
    """Every thread of a group has folded the same."""
    for part in parts:
        first = part[0, 0]
        if not np.array_equal(part, np.full_like(part, first), equal_nan=True):
            raise DisagreementError(f"threads have folded {part.tolist()}")


def fold_warps(parts, formula):
    """Numbers (warps, lanes) folded along every warp, each lane with the one at a distance."""
    distance = LANES // 2
    while distance:
        theirs = np.arange(LANES) ^ distance
        results = formula(*map(Number, parts), *(Number(part[:, theirs]) for part in parts))
        parts = [r.value for r in (results if isinstance(results, tuple) else (results,))]
        distance //= 2
    return parts


@means(vectors.max_across)
def _max_across(p, v):
    return across(p, formulas.larger, (v,), [-np.inf])[0]


@means(vectors.exps_across)
@means(vectors.sum_across)
def _sum_across(p, s, s_lo, _like):
    def add(a, a_lo, b, b_lo):
        return formulas.add_pairs(a, a_lo, b, b_lo, a)

    return across(p, add, (s, s_lo), [0, 0])


@means(vectors.value_at_max_across)
def _value_at_max_across(p, v, value):
    def larger(a, of_a, b, of_b):
        return formulas.larger_with(a, b, of_a, of_b)

    # Of equal maxima, each thread has kept its own.
    return across(p, larger, (v, value), [-np.inf, 0], of_first_lane=True)


@means(vectors.all_but_one)
def _all_but_one(p, counted):
    return across(p, lambda a, b: a + b, (counted,), [0])[0] - 1.0


@means(words.least_across)
def _least_across(p, k):
    def less(a, b):
        return Number(np.minimum(a.value, b.value))

    return int(across(p, less, (Number(np.int64(k)),), [2**63 - 1])[0].value)


# labels -------------------------------------------------------------------------------------------


@means(words.class_at)
def _class_at(labels, i, n):
    v = _value(labels, i)
    return int(v) if 0 <= v < n and v == int(v) else -1


@means(words.is_fraction)
def _is_fraction(numbers, i):
    return bool(0 <= _value(numbers, i) <= 1)


def _value(p, i):
    v = p.read(i)
    return v.value if type(v) is Number else v
