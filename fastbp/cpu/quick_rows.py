"""Traversals of rows whose results are rounded to 16 bits, in fewer operations.

Sums are within 8 ULP of float32.
"""

from ..elementary import biased_exp_quickly
from ..formulas.softmax import accumulate_quickly, scaled_quickly
from .rows import exp_sums, map_row

quick_exp_sum = exp_sums(biased_exp_quickly, accumulate_quickly, True)
quick_exp_total = exp_sums(biased_exp_quickly, accumulate_quickly, False)
scale_quickly = map_row(scaled_quickly)
