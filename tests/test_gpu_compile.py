"""Kernels for GPUs, compiled on a machine without one, and what the machine code must be like.

Every check is a function from what a compiler wrote to what it finds wrong, and is shown all
kernels, where it must find nothing, and planted mistakes, which it must find.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from gpu_recorder import (
    COLUMNS,
    DTYPES,
    FIRST,
    HOPPER,
    MORE,
    ON_CPUS,
    ON_GPUS,
    Launched,
    launches_of,
    recorded,
)

import fastbp
from fastbp.cuda import compiler, driver, element_losses, elementwise, ranges, run
from fastbp.cuda.run import BLOCK, TILE, WARP

DEVICES = {
    "sm_75": driver.Device(0, (7, 5), 65_536, 40),
    "sm_80": driver.Device(0, (8, 0), 166_912, 108),
    "sm_90a": HOPPER,
    "sm_100a": driver.Device(0, (10, 0), 232_448, 148),
}

# The registers of a thread on Hopper, rounded up to a multiple of 8, as they are given out: of
# float32, of float64, of numbers of 16 bits. (Blocks of 1024 threads have 64 for each and no more:
# what they lack would be spilled.)
# fmt: off
REDUCED = "fastbp_each_row_reduced_mapped"
EXACTLY, QUICKLY = "accumulate_exps_exp_of_reduced", "accumulate_quickly_exp_of_quickly_reduced"
ALL, BUT_ONE = f"total_of_all_{EXACTLY}", f"total_but_one_{EXACTLY}"
ALL_QUICKLY, BUT_ONE_QUICKLY = f"total_of_all_{QUICKLY}", f"total_but_one_{QUICKLY}"
MOST_REGISTERS = {
    f"{REDUCED}_scaled_reciprocal_{ALL}": (64, 96, 64),
    f"{REDUCED}_scaled_quickly_reciprocal_{ALL_QUICKLY}": (0, 0, 56),  # of 16 bits alone
    f"{REDUCED}_softmax_reciprocal_of_row_{ALL}": (56, 96, 56),
    f"{REDUCED}_log_softmax_log_total_{BUT_ONE}": (64, 104, 56),
    f"{REDUCED}_log_softmax_quickly_log_beside_maximum_{BUT_ONE_QUICKLY}": (0, 0, 56),
    "fastbp_each_two_rows_mapped_softmax_backward_sums_of_short": (64, 80, 64),
    "fastbp_each_two_rows_mapped_log_softmax_backward_sums_of_log_softmax": (64, 72, 64),
    f"fastbp_each_row_to_number_logsumexp_of_row_{BUT_ONE}": (64, 112, 56),
    "fastbp_each_row_with_two_numbers_mapped_logsumexp_backward": (56, 80, 56),
    "fastbp_map_one_sigmoid": (48, 48, 48),
    "fastbp_map_one_sigmoid_quickly": (48, 48, 48),
    "fastbp_map_two_sigmoid_backward_of_output": (40, 40, 40),
    "fastbp_map_two_sigmoid_backward_of_input": (48, 56, 56),
    "fastbp_map_one_log_sigmoid": (56, 64, 96),
    "fastbp_map_two_log_sigmoid_backward": (48, 48, 64),
    "fastbp_loss_elements_step_sigmoid_gradient_sigmoid_loss_neither": (56, 88, 56),
    "fastbp_reduced_by_one_pair": (32, 40, 32),
    "fastbp_copy_3": (64, 64, 64),
    "fastbp_sum_blocks": (40, 32, 40),
    "fastbp_loss_elements_step_weighted_sigmoid_gradient_weighted_sigmoid_loss_both": (72, 104, 80),
    "fastbp_loss_elements_step_squared_error_gradient_squared_error_neither": (56, 72, 56),
    "fastbp_loss_elements_step_half_squared_error_gradient_half_squared_error_neither": (48, 72, 48),  # noqa: E501
    "fastbp_loss_elements_step_binary_gradient_binary_loss_neither": (56, 80, 56),
    "fastbp_count_labels": (40, 48, 40),
    "fastbp_label_logs": (40, 48, 40),
    "fastbp_reduced_by_one_number": (32, 40, 32),
    "fastbp_label_gradients": (64, 64, 64),
    "fastbp_target_logs": (64, 80, 64),
    "fastbp_target_gradients": (64, 72, 64),
    "fastbp_label_rows": (104, 136, 104),
    "fastbp_index_rows": (112, 192, 112),
    "fastbp_target_rows": (96, 144, 96),
    "fastbp_count_indices": (40, 40, 40),
    "fastbp_bad_classes": (40, 48, 40),
    "fastbp_grad_hess_rows": (72, 112, 72),
    "fastbp_grad_hess_columns": (72, 104, 72),
    "fastbp_bad_fractions": (40, 40, 40),
    "fastbp_first_bad": (56, 56, 56),
    "fastbp_sigmoid_grad_hess_elements": (48, 56, 56),
    f"fastbp_each_range_of_row_{BUT_ONE}": (64, 120, 64),
    f"fastbp_each_range_of_row_{BUT_ONE_QUICKLY}": (0, 0, 64),
    "fastbp_joined_3_join_reciprocal_of_one_more_leave_3": (64, 96, 64),
    "fastbp_joined_3_join_log_total_leave_2": (64, 96, 64),
    "fastbp_joined_3_join_log_beside_maximum_leave_2": (0, 0, 64),
    "fastbp_joined_to_number_logsumexp_join_totals": (64, 96, 64),
    "fastbp_each_range_mapped_mapped_softmax_take_3": (64, 96, 64),
    "fastbp_each_range_mapped_mapped_log_softmax_take_2": (64, 96, 64),
    "fastbp_each_range_mapped_mapped_log_softmax_quickly_take_2": (0, 0, 64),
    "fastbp_each_range_of_two_6_leave_6_dot_of_range": (80, 96, 64),
    "fastbp_joined_6_join_dots_leave_3": (64, 88, 64),
    "fastbp_each_range_of_two_mapped_mapped_softmax_backward_take_3": (72, 56, 72),
    "fastbp_each_range_of_two_3_leave_3_likely_and_others": (72, 72, 72),
    "fastbp_joined_3_join_sums_of_dy_leave_2": (48, 72, 48),
    "fastbp_each_range_of_two_mapped_mapped_log_softmax_backward_take_2": (72, 80, 72),
    "fastbp_each_range_with_two_numbers_mapped_logsumexp_backward": (64, 96, 64),
    "fastbp_label_totals": (72, 112, 72),
    "fastbp_label_ranges": (64, 104, 64),
    "fastbp_each_row_where_softmax_row_0": (72, 120, 72),
    "fastbp_each_long_row_where_softmax_row_0": (64, 112, 64),
    "fastbp_each_row_where_log_softmax_row_inf": (72, 104, 72),
    "fastbp_each_long_row_where_log_softmax_row_inf": (56, 104, 56),
    "fastbp_each_row_to_number_where_logsumexp_row": (64, 112, 64),
    "fastbp_each_long_row_to_number_where_logsumexp_row": (64, 112, 64),
}
# fmt: on

# Kernels that read a number of a row at most, and fill the row of the result.
NEVER_ON_THE_CHIP = {"label_gradients"}

# What the other architectures are tried with.
OF_FEW = [
    ("softmax", "bfloat16", 2000),
    ("log_softmax_backward", "float32", 100),
    ("logsumexp", "float64", 7),
    ("sigmoid_backward[x]", "bfloat16", 7),
    ("softmax_cross_entropy_with_grad[labels]", "float32", 2000),
    ("softmax", "float32", 70_000),
    ("softmax_backward", "float16", 70_000),
    ("log_softmax_backward", "float64", 70_000),
]


class Built(NamedTuple):
    """A kernel's code, and what the assembler says of it."""

    ptx: str
    report: str
    cubin: bytes


def missing():
    """What is needed to compile and is not installed."""
    try:
        compiler.numba_cuda()
    except compiler.MissingCudaError as error:
        return str(error)
    from cuda import pathfinder

    try:
        for library in ("nvvm", "nvrtc", "nvJitLink"):
            pathfinder.load_nvidia_dynamic_lib(library)
    except RuntimeError as error:
        return f"{str(error).splitlines()[0]}: pip install 'fastbp[compile]'"
    return None


needs_compiler = pytest.mark.skipif(bool(missing()), reason=f"nothing is compiled: {missing()}")


_built = {}


def built(launched, device=HOPPER):
    key = *launched.key, device
    if key not in _built:
        signature = tuple(run.numba_type(a, launched.regime) for a in launched.arguments)
        name = run.plain_name(launched.kernel)
        code = compiler.compiled(
            launched.kernel, name, signature, device.capability, launched.threads
        )
        cubin, report = code.cubin(device.architecture)
        _built[key] = Built(code.ptx, report, cubin)
    return _built[key]


@pytest.fixture(scope="module", autouse=True)
def used_on_cpus():
    """What kernels for CPUs are made of is compiled first, as a process may want both."""
    x = np.zeros((2, 100), np.float32)
    fastbp.softmax(x)
    fastbp.sigmoid(x)
    fastbp.softmax_cross_entropy_with_grad(x, np.zeros(2, int))


# the checks ---------------------------------------------------------------------------------------


def registers(report):
    return int(re.search(r"Used (\d+) registers", report)[1])


def too_many_registers(report, most):
    used = registers(report)
    return [f"{used} registers, more than {most}"] if used > most else []


def local_memory(ptx, report):
    """Where what does not fit into registers is kept, and arrays of a thread: far away."""
    found = re.findall(r"^\s*(\.local\b.*|(?:ld|st)\.local\b.*)$", ptx, re.MULTILINE)
    sizes = re.findall(r"(\d+) bytes (stack frame|spill stores|spill loads)", report)
    assert sizes
    return found + [f"{size} bytes {what}" for size, what in sizes if size != "0"]


def wide_numbers(ptx):
    """Instructions on float64, of which most GPUs do one for every 32 or 64 on float32."""
    return re.findall(r"^\s*(\S*\.f64\b.*)$", ptx, re.MULTILINE)


def loose_arithmetic(ptx):
    """What the assembler may contract or round otherwise, and what drops subnormal numbers."""
    loose = r"^\s*((?:add|sub|mul|div|rcp|sqrt|fma|mad)\.(?!r[nzmp]\.)\S*f(?:16|32|64)\b.*"
    return re.findall(loose + r"|.*\.(?:ftz|approx)\b.*)$", ptx, re.MULTILINE)


# An access of 16 bytes.
OF_16 = re.compile(r"\b(?:ld|st)\.global(?:\.\w+)*?\.(?:v4\.[fubs]32|v2\.[fubs]64)\b")


def narrow_accesses(ptx, arrays):
    """Where there are fewer accesses of 16 bytes than arrays."""
    count = len(OF_16.findall(ptx))
    return [f"{count} accesses of 16 bytes to {arrays} arrays"] if count < arrays else []


# In the assembler's language and in the machine's: reads, and what waits for them.
READ_OR_WRITTEN = re.compile(r"\b(?:(ld\.global\S*)|st\.global\S*)\s")
READ_OR_STAGED = re.compile(
    r"\b(?:(ld\.global(?:\.\w+)*?\.(?:v4\.[fubs]32|v2\.[fubs]64)|LDG\.E\.128\S*)"
    r"|(?:st\.shared\S*|STS\S*))\s"
)


def lonely_reads(code, at_least, accesses=READ_OR_STAGED):
    """Where fewer reads, of 16 bytes, are under way at once, before one of them is waited for."""
    most = now = 0
    for found in accesses.finditer(code):
        now = now + 1 if found[1] else 0
        most = max(most, now)
    return [f"{most} reads at once"] if most < at_least else []


def wide_arrays(launched):
    """How many arrays have as many numbers as the largest, if they are read 16 bytes at a time.

    Short rows come number by number, neighbouring threads taking neighbours; those too long for the
    chip stay where they are; and so do masks.
    """
    if launched.kernel.__module__ == elementwise.__name__:
        return sum(isinstance(a, run.Numbers) for a in launched.arguments)
    if launched.regime not in {WARP, BLOCK} or launched.kernel.__name__ in NEVER_ON_THE_CHIP:
        return 0
    matrices = [a for a in launched.arguments if isinstance(a, run.Rows) and a.dtype != "uint8"]
    return sum(a.columns == matrices[0].columns for a in matrices)


def faults(launched, code):
    """All that is wrong with a kernel for any GPU."""
    found = local_memory(code.ptx, code.report) + loose_arithmetic(code.ptx)
    found += too_many_registers(code.report, 65536 // launched.threads)
    if "float64" not in launched.dtypes:
        found += wide_numbers(code.ptx)
    wide = wide_arrays(launched)
    if wide and launched.kernel.__module__ != elementwise.__name__:
        halves = launched.dtypes & set(run.HALVES)
        found += lonely_reads(code.ptx, 2 if halves else 4)
    if launched.kernel.__module__ == element_losses.__name__:
        found += lonely_reads(code.ptx, 8, READ_OR_WRITTEN)  # four elements and their targets
    return found + narrow_accesses(code.ptx, wide)


def most_registers(launched):
    """A kernel's limit on Hopper."""
    of_float32, of_float64, of_16_bits = MOST_REGISTERS[run.plain_name(launched.kernel)]
    if "float64" in launched.dtypes:
        return of_float64
    return of_16_bits if launched.dtypes & set(run.HALVES) else of_float32


# all kernels --------------------------------------------------------------------------------------


def wrong_kernels(name, dtype, columns):
    """What is wrong with each kernel that an operation launches."""
    found = {}
    for n in columns:
        launches = launches_of(name, dtype, n)
        assert launches
        for launched in launches:
            code = built(launched)
            kernel = run.plain_name(launched.kernel)
            wrong = faults(launched, code)
            wrong += too_many_registers(code.report, most_registers(launched))
            found |= {f"{kernel}, {launched.regime.name}": wrong} if wrong else {}
    return found


@needs_compiler
@pytest.mark.parametrize("name", [*FIRST, *MORE])
def test_kernels_of_an_operation_on_hopper(name):
    """Of float32 all; of other types those whose rows are on the chip, or few registers left."""
    assert wrong_kernels(name, "float32", COLUMNS) == {}
    if name in FIRST:
        assert wrong_kernels(name, "bfloat16", COLUMNS[1:3]) == {}
        assert wrong_kernels(name, "float64", COLUMNS[2:3]) == {}


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*ON_GPUS, *MORE])
def test_all_kernels_on_hopper(name, dtype):
    assert wrong_kernels(name, dtype, COLUMNS) == {}


@needs_compiler
@pytest.mark.parametrize(("name", "dtype", "columns"), OF_FEW)
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_100a"])
def test_kernels_of_an_operation_elsewhere(name, dtype, columns, architecture):
    device = DEVICES[architecture]
    assert device.architecture == architecture
    for launched in launches_of(name, dtype, columns, device):
        assert faults(launched, built(launched, device)) == []


@needs_compiler
def test_the_machine_code_is_for_the_architecture():
    code = built(launches_of("softmax", "float32", 7)[0])
    assert code.cubin.startswith(b"\x7fELF")
    assert ".target sm_90a" in code.ptx
    assert f".visible .entry {REDUCED}_scaled_reciprocal_{ALL}(" in code.ptx


@pytest.mark.parametrize("name", sorted(ON_CPUS))
def test_what_works_on_cpus_alone_says_so(name):
    """An operation that has learnt to compute on a GPU is to be taken from that list."""
    with pytest.raises(TypeError, match="lives on a GPU"):
        launches_of(name, "float32", 7)


def test_the_lengths_meet_every_way_of_sharing_rows():
    for dtype in DTYPES:
        names = [launches_of("softmax", dtype, n)[0].regime.name for n in COLUMNS[:4]]
        assert names == [regime.name for regime in run.REGIMES]
        shared = launches_of("softmax", dtype, COLUMNS[4])
        assert [launched.kernel.__module__ for launched in shared] == [ranges.__name__] * 3


# the formulas are computed as they are written ----------------------------------------------------


PLANTED = "fastbp.formulas.planted"


def product_and_sum(x, y):
    return x * y + x


def fused(x, y):
    return x.fma(y, x)


def formula_built(formula, dtype):
    """A kernel of elements of a formula, which is to be taken for one of fastbp's."""
    planted = sys.modules.setdefault(PLANTED, ModuleType(PLANTED))
    setattr(planted, formula.__name__, formula)
    formula.__module__ = PLANTED
    three = (run.Numbers(0, dtype),) * 3
    return built(Launched(elementwise.map_two(formula), TILE, run.OF_ELEMENTS, (0, *three)))


def count(pattern, text):
    return len(re.findall(pattern, text))


def pack_and_one(dtype):
    """Formulas are written out for a pack of 16 bytes, and for single elements three times."""
    return {"float32": 4, "float64": 2}.get(dtype, 8) + 3


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_products_and_sums_are_rounded_apart(dtype):
    kind = "f64" if dtype == "float64" else "f32"
    apart, together = formula_built(product_and_sum, dtype), formula_built(fused, dtype)

    products = count(rf"\bmul\.rn\.{kind}", apart.ptx)
    assert products >= pack_and_one(dtype)
    assert count(rf"\badd\.rn\.{kind}", apart.ptx) == products
    assert count(r"\bfma\.", apart.ptx) == 0
    assert count(rf"\bfma\.rn\.{kind}", together.ptx) >= pack_and_one(dtype)
    assert count(r"\b(?:mul|add)\.rn\.f", together.ptx) == 0


def disassembler():
    folder = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    found = [shutil.which("nvdisasm"), *sorted(map(str, folder.glob("*/bin/nvdisasm")))]
    return next(filter(None, found), None)


def disassembled(cubin, folder):
    file = folder / "kernel.cubin"
    file.write_bytes(cubin)
    command = [disassembler(), "-c", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@needs_compiler
@pytest.mark.skipif(not disassembler(), reason="nvdisasm is not installed")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_assembler_contracts_nothing_either(dtype, tmp_path):
    def instructions(formula):
        text = disassembled(formula_built(formula, dtype).cubin, tmp_path)
        return Counter(re.findall(r"\b([FD](?:MUL|ADD|FMA))\b", text))

    letter = "D" if dtype == "float64" else "F"
    apart, together = instructions(product_and_sum), instructions(fused)
    least = pack_and_one(dtype)
    assert apart[f"{letter}MUL"] >= least
    assert apart[f"{letter}ADD"] >= least
    assert not [name for name in apart if name.endswith("FMA")]
    assert together[f"{letter}FMA"] >= least
    assert set(together) == {f"{letter}FMA"}


@needs_compiler
@pytest.mark.skipif(not disassembler(), reason="nvdisasm is not installed")
@pytest.mark.parametrize("columns", [COLUMNS[1], COLUMNS[2], COLUMNS[4]])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_assembler_waits_for_no_read_too_early(dtype, columns, tmp_path):
    code = built(launches_of("softmax", dtype, columns)[0])
    assert lonely_reads(disassembled(code.cubin, tmp_path), 4 if dtype == "float32" else 2) == []


# each check finds what it is for ------------------------------------------------------------------


REPORT = """ptxas info    : Function properties for k
    {} bytes stack frame, {} bytes spill stores, {} bytes spill loads
ptxas info    : Used {} registers, used 1 barriers
"""


def test_registers_are_counted():
    report = REPORT.format(0, 0, 0, 65)
    assert too_many_registers(report, 65) == []
    assert too_many_registers(report, 64) == ["65 registers, more than 64"]


def test_spilled_registers_are_found():
    assert local_memory("", REPORT.format(0, 0, 0, 64)) == []
    found = ["40 bytes stack frame", "64 bytes spill stores", "56 bytes spill loads"]
    assert local_memory("", REPORT.format(40, 64, 56, 64)) == found


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (wide_numbers, "\tadd.rn.f32 \t%f1, %f2, %f3;", "\tadd.rn.f64 \t%fd1, %fd2, %fd3;"),
        (wide_numbers, "\tmov.b64 \t%rd1, %rd2;", "\tcvt.f64.f32 \t%fd1, %f1;"),
        (loose_arithmetic, "\tmul.rn.f32 \t%f1, %f2, %f3;", "\tmul.f32 \t%f1, %f2, %f3;"),
        (loose_arithmetic, "\tsub.rn.f64 \t%fd1, %fd2, %fd3;", "\tsub.f64 \t%fd1, %fd2, %fd3;"),
        (loose_arithmetic, "\tadd.s64 \t%rd1, %rd2, 1;", "\tadd.ftz.f32 \t%f1, %f2, %f3;"),
        (loose_arithmetic, "\tdiv.rn.f32 \t%f1, %f2, %f3;", "\tdiv.approx.f32 \t%f1, %f2, %f3;"),
        (loose_arithmetic, "\trcp.rn.f32 \t%f1, %f2;", "\tex2.approx.f32 \t%f1, %f2;"),
        (loose_arithmetic, "\tfma.rn.f32 \t%f1, %f2;", "\tfma.rn.ftz.f32 \t%f1, %f2;"),
        (lambda ptx: local_memory(ptx, REPORT.format(0, 0, 0, 9)),
         "\tst.shared.f32 \t[%rd1], %f1;", "\tst.local.f32 \t[%rd1], %f1;"),
        (lambda ptx: local_memory(ptx, REPORT.format(0, 0, 0, 9)),
         ".global .align 8 .u64 k_locals_;", "\t.local .align 8 .b8 \t__local_depot0[64];"),
    ],
)  # fmt: skip
def test_instructions_are_found(check, good, bad):
    assert check(good) == []
    assert check(bad) == [bad.strip()]
    assert check(f"{good}\n{bad}\n{good}\n") == [bad.strip()]


@pytest.mark.parametrize(
    "access",
    ["ld.global.v4.f32", "st.global.v4.u32", "ld.global.nc.v4.b32", "st.global.v2.f64"],
)
def test_accesses_of_16_bytes_are_counted(access):
    ptx = f"\t{access} \t{{%f1, %f2, %f3, %f4}}, [%rd1];\n\tst.global.v4.u32 \t[%rd1], {{%r1}};"
    assert narrow_accesses(ptx, 2) == []
    assert narrow_accesses(ptx, 3) == ["2 accesses of 16 bytes to 3 arrays"]


def test_reads_at_once_are_counted():
    read, stage = (
        "\tld.global.v4.u32 \t{%r1, %r2, %r3, %r4}, [%rd1];\n",
        "\tst.shared.v4.u32 \t[%rd1];\n",
    )
    assert lonely_reads(4 * read + 4 * stage, 4) == []
    assert lonely_reads(2 * (2 * read + stage), 3) == ["2 reads at once"]
    assert lonely_reads(4 * " LDG.E.128 R4, desc[UR4][R4.64] ;\n STS.128 [R56], R4 ;\n", 2)
    one, write = "\tld.global.u16 \t%r1, [%rd1];\n", "\tst.global.u16 \t[%rd1], %r1;\n"
    assert lonely_reads(8 * one + write, 8, READ_OR_WRITTEN) == []
    assert lonely_reads(8 * (one + write), 8, READ_OR_WRITTEN) == ["1 reads at once"]
    assert not lonely_reads(4 * " LDG.E.128.CONSTANT R4, desc[UR4][R4.64] ;\n", 4)


@pytest.mark.parametrize(
    "access", ["ld.global.v4.u16", "ld.global.v2.f32", "ld.global.f64", "ld.shared.v4.f32"]
)
def test_narrower_ones_are_not(access):
    assert narrow_accesses(f"\t{access} \t%f1, [%rd1];", 1)


def test_what_would_be_launched_is_told_without_a_gpu():
    with recorded() as found:
        assert found == []
    (launched,) = launches_of("softmax_backward", "bfloat16", 100)
    assert launched.regime is WARP
    assert [a.dtype for a in launched.arguments] == ["bfloat16"] * 3
    assert wide_arrays(launched) == 3


def test_every_limit_is_that_of_a_kernel_and_suffices():
    """All threads of a block have 65,536 registers together."""
    met = set()
    for name in [*ON_GPUS, *MORE]:
        for dtype in ("float32", "bfloat16"):
            for columns in COLUMNS:
                for launched in launches_of(name, dtype, columns):
                    met.add(run.plain_name(launched.kernel))
                    assert min(most_registers(launched), 65536 // launched.threads) >= 16
    assert met == set(MOST_REGISTERS)
