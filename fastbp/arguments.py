"""Types of command-line arguments: what argparse calls with the text of one."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

from .testing import as_dtype


def whole(low: int, high: float = math.inf) -> Callable[[str], int]:
    """Whole numbers in [low, high]."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not low <= number <= high:
            limits = f"at least {low}" if high == math.inf else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"{number} is not {limits}")
        return number

    return parse


def number(high: float = math.inf) -> Callable[[str], float]:
    """Numbers in [0, high)."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not 0 <= value < high:  # written so that NaN fails too
            raise argparse.ArgumentTypeError(f"{text} is not in [0, {high})")
        return value

    return parse


def dtype(text: str) -> Any:
    """A dtype of values by its name."""
    try:
        return as_dtype(text)
    except (ImportError, TypeError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


DTYPES_HELP = "out of float32, float64, float16 and bfloat16; default:"
