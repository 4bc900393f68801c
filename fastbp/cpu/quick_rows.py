"""Traversals of rows whose results are rounded to 16 bits, in fewer operations.

Sums are within 8 ULP of float32.
"""

from ..elementary import exp_of_quickly_reduced, quickly_reduced_minus
from ..formulas.softmax import accumulate_quickly, scaled_quickly
from .rows import exp_sums, map_row, total_but_one, total_of_all, totals

_quickly = quickly_reduced_minus, exp_of_quickly_reduced, accumulate_quickly
quick_sums_of_all = exp_sums(*_quickly, True)
quick_sums_but_maxima = exp_sums(*_quickly, False)
quick_exp_sum = totals(quick_sums_of_all, total_of_all)
quick_exp_total = totals(quick_sums_but_maxima, total_but_one)
scale_quickly = map_row(scaled_quickly)
