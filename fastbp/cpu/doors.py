"""Doors: what Python calls with its objects, and what in compiled code sees whether all is plain.

To check arguments takes Python longer than a small kernel runs. So when a call has gone the general
way, what was found is noted in a table: what each argument was like, and which function of
`plain_maps` or `plain_losses` computes such a call. A later call of the door goes through the table
in some nanoseconds; if an entry fits, and that function, which looks at shapes, strides, labels and
overlaps, does not object, it returns the result, else None: then the general way, which knows all
errors, is taken.

A door is a function that Python calls as one written in C. All doors have the same code; what is
different is their table, which they find where such functions have their `self`.

An entry's words are, from the first on: the address of the function, what the result and the loss
are like, the rules for the arguments, and what the function is told besides. That function gets the
addresses of the arguments and of a frame: words for this call, among them the results' arrays.
"""

from .elementwise import PARALLEL_FROM
from .vectors import (
    ask_python,
    call_inner,
    float_at,
    float_of,
    forget,
    int32_at,
    int_of,
    let_others_run,
    new_array,
    new_pair,
    new_scalar,
    put_float,
    put_word,
    refer,
    run_again,
    word_at,
    words_of_frame,
)

# How objects begin: with what `object` has, whose last word is the type. (See NumPy's C API for
# what an array has behind it, and CPython's for float, whose value follows.)
HEAD = object.__basicsize__
DATA, NDIM, SHAPE, STRIDES, DTYPE, FLAGS = (HEAD + offset for offset in (0, 8, 16, 24, 40, 48))
WRITEABLE = 0x0400
# And a dtype has behind it, after a pointer: its kind, byte order and number. (There may be copies
# of float32, say: an array that comes out of a pickle has its own.)
KIND = HEAD + 8

# The head of a table: how many entries there are, objects and functions that doors must know.
(
    COUNT, NONE, ARRAY_TYPE, FLOAT_TYPE, FLOAT64_TYPE, FLOAT32_TYPE, INT_TYPE, TEAM_FUNCTION,
    NEW_ARRAY, NEW_SCALAR, FIRST,
) = range(11)  # fmt: skip

# An entry: what follows TOLD are MOST_TOLD words, and then three for each argument.
CODE, RESULT, RESULT_DTYPE, OUT, LOSS, LOSS_DTYPE, UPSTREAM, ARGUMENTS, TOLD = range(9)
MOST_TOLD, MOST_ARGUMENTS = 18, 16
RULES = TOLD + MOST_TOLD
ENTRY = RULES + 3 * MOST_ARGUMENTS
MOST_ENTRIES = 16

# What a result or loss is like; a loss may also be a number. (OUT and UPSTREAM say which argument
# is `out`, and which one the gradient by the loss: 0 if there is none.)
NOTHING, OF_ROWS, LIKE_X, NUMBER32, NUMBER64 = range(5)

# The rules for arguments: the same object, an array of this kind and number of axes, a float or
# an int of this value, a float of any value, anything.
SAME, ARRAY, FLOAT, INT, ANY_FLOAT, ANYTHING = range(6)

# A frame: the threads (see `run.team`), the arrays' addresses, the loss, the gradient by it, room
# for the sums of one block, the address of None, and what the entry tells.
TEAM, RESULT_AT, LOSSES_AT, LOSS_IS, DLOSS, SUMS, NONE_AT = 0, 1, 2, 3, 4, 5, 7
FRAME_TOLD = 8
FRAME_WORDS = FRAME_TOLD + MOST_TOLD


def type_of(address: int) -> int:
    """The address of an object's type."""
    return word_at(address + HEAD - 8, 0)


def is_array(value: int, kind: int, ndim: int, head: int) -> bool:
    """Whether that is an array, and of no derived type, of this kind and number of axes."""
    if type_of(value) != word_at(head, ARRAY_TYPE) or int32_at(value + NDIM, 0) != ndim:
        return False
    return word_at(word_at(value + DTYPE, 0) + KIND, 0) == kind


def is_int(value: int, wanted: int, head: int) -> bool:
    """Whether that is an int of this value."""
    if type_of(value) != word_at(head, INT_TYPE):
        return False
    number, overflow = int_of(value)
    return number == wanted and overflow == 0


def is_float(value: int, head: int) -> bool:
    """Whether that is a float of Python's or NumPy's."""
    t = type_of(value)
    return t in (
        word_at(head, FLOAT_TYPE),
        word_at(head, FLOAT64_TYPE),
        word_at(head, FLOAT32_TYPE),
    )


def fits(value: int, rule: int, head: int) -> bool:
    """Whether an argument is as a rule says."""
    kind, wanted = word_at(rule, 0), word_at(rule, 1)
    if kind == ARRAY:
        return is_array(value, wanted, word_at(rule, 2), head)
    if kind == FLOAT:
        return type_of(value) == word_at(head, FLOAT_TYPE) and word_at(value + HEAD, 0) == wanted
    if kind == INT:
        return is_int(value, wanted, head)
    if kind == ANY_FLOAT:
        return is_float(value, head)
    return kind == ANYTHING or value == wanted


def all_fit(entry: int, args: int, head: int) -> bool:
    """Whether all arguments are as an entry's rules say."""
    rule = entry + 8 * RULES
    for i in range(word_at(entry, ARGUMENTS)):
        if not fits(word_at(args, i), rule, head):
            return False
        rule += 24
    return True


def array_like(shape: int, dtype: int, x: int, head: int) -> int:
    """A new array of as many numbers as x has, or as it has rows; 0 if there is no memory."""
    ndim = 1 if shape == OF_ROWS else int32_at(x + NDIM, 0)
    array_type, make = word_at(head, ARRAY_TYPE), word_at(head, NEW_ARRAY)
    return new_array(make, array_type, dtype, ndim, word_at(x + SHAPE, 0))


def result_of(entry: int, args: int, x: int, head: int) -> int:
    """`out` if it may be written, or a new array: a new reference; 0 if there is neither."""
    shape, dtype = word_at(entry, RESULT), word_at(entry, RESULT_DTYPE)
    out = word_at(args, word_at(entry, OUT))
    if out == word_at(head, NONE):
        return array_like(shape, dtype, x, head)
    ndim = 1 if shape == OF_ROWS else int32_at(x + NDIM, 0)
    is_one = is_array(out, word_at(dtype + KIND, 0), ndim, head)
    return refer(out) if is_one and int32_at(out + FLAGS, 0) & WRITEABLE else 0


def size_of(x: int) -> int:
    """How many numbers an array holds."""
    size, shape = 1, word_at(x + SHAPE, 0)
    for a in range(int32_at(x + NDIM, 0)):
        size *= word_at(shape, a)
    return size


def answer(entry: int, args: int, head: int) -> int:
    """A new reference to what a call returns; 0 if it must go the general way.

    While other Python threads run, one of them may write another entry in this one's place.
    """
    x, frame = word_at(args, 0), words_of_frame()
    loss, loss_dtype, upstream = (
        word_at(entry, LOSS), word_at(entry, LOSS_DTYPE), word_at(entry, UPSTREAM)
    )  # fmt: skip
    result = losses = 0
    if word_at(entry, RESULT) != NOTHING:
        result = result_of(entry, args, x, head)
        if result == 0:
            return 0
    if loss in (OF_ROWS, LIKE_X):
        losses = array_like(loss, loss_dtype, x, head)
        if losses == 0:
            forget(result)
            return 0
    put_word(frame, RESULT_AT, result)
    put_word(frame, LOSSES_AT, losses)
    put_float(frame, DLOSS, 1.0 if upstream == 0 else float_of(word_at(args, upstream)))
    put_word(frame, NONE_AT, word_at(head, NONE))
    for i in range(MOST_TOLD):
        put_word(frame, FRAME_TOLD + i, word_at(entry, TOLD + i))
    code = word_at(entry, CODE)
    if size_of(x) < PARALLEL_FROM:
        put_word(frame, TEAM, 0)
        done = call_inner(code, args, frame)
    else:
        put_word(frame, TEAM, ask_python(word_at(head, TEAM_FUNCTION)))
        state = let_others_run()
        done = call_inner(code, args, frame)
        run_again(state)
    if done != 0 and loss in (NUMBER32, NUMBER64):
        is_wide = 1 if loss == NUMBER64 else 0
        value = float_at(frame, LOSS_IS)
        losses = done = new_scalar(word_at(head, NEW_SCALAR), loss_dtype, is_wide, value)
    if done == 0:
        forget(result)
        forget(losses)
        return 0
    if losses == 0:
        return result
    return losses if result == 0 else new_pair(losses, result)


def door(table: int, args: int, _n: int) -> int:
    """What Python calls with the addresses of a table and of its arguments'."""
    head = word_at(table + DATA, 0)
    entry = head + 8 * FIRST
    for _ in range(word_at(head, COUNT)):
        if all_fit(entry, args, head):
            result = answer(entry, args, head)
            if result != 0:
                return result
            break
        entry += 8 * ENTRY
    return refer(word_at(head, NONE))
