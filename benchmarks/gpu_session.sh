#!/usr/bin/env bash
# All that can be learnt on a machine with a GPU, in about twenty minutes: tests, then benchmarks.
#
#     benchmarks/gpu_session.sh FOLDER [PART …]
#
# Parts: facts tests memory benchmarks; all of them if none is named. Results and logs go to FOLDER,
# few files and small ones; summary.txt says what became of each part. A part that fails, or that
# takes too long, does not keep the next one from running. Nothing is downloaded or installed:
# Python finds fastbp here, and what else it needs where PYTHONPATH says.
#
# PYTHON names the interpreter. MINUTES scales all limits of time (20 as a rule).
set -uo pipefail

[[ $# -ge 1 ]] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1" || exit 2
folder=$(cd "$1" && pwd)
shift
[[ $# -gt 0 ]] || set -- facts tests memory benchmarks
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

python=${PYTHON:-python3}
minutes=${MINUTES:-20}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 MPLBACKEND=Agg
export FASTBP_CACHE_DIR=${FASTBP_CACHE_DIR:-$(mktemp -d)}
failed=0

limit() { echo $(($1 * minutes * 3)); }  # seconds: so many twentieths of the whole

# part NAME TWENTIETHS COMMAND…: run it, keep its output in NAME.log, note how it ended.
part() {
    local name=$1 seconds status start=$SECONDS
    seconds=$(limit "$2")
    shift 2
    printf '\n=== %s: %s (at most %d s)\n' "$name" "$*" "$seconds"
    timeout --kill-after=20 "$seconds" "$@" 2>&1 | tee -a "$folder/$name.log" | tail -n 40
    status=${PIPESTATUS[0]}
    [[ $status -eq 0 ]] || failed=1
    printf '%-12s exit %3d after %4d s: %s\n' "$name" "$status" $((SECONDS - start)) "$*" |
        tee -a "$folder/summary.txt"
}

facts() {
    part facts 1 bash -c '
        date --utc
        uname -srm
        nvidia-smi
        "$0" --version
        "$0" -m pip list 2>/dev/null | grep -iE "torch|triton|cupy|numba|llvmlite|numpy|cuda|nvidia"
        "$0" -c "
import fastbp
from fastbp.cuda import compiler
print(fastbp.__version__, compiler.numba_cuda().__file__)
"' "$python"
}

tests() {
    local workers=()
    "$python" -c 'import xdist' 2>/dev/null && workers=(-n 8)
    part tests 8 "$python" -m pytest tests/test_gpu_device.py --cuda -q -rsf --durations=10 \
        -p no:cacheprovider "${workers[@]}"
}

# Accesses beyond arrays, and races: a few operations, for these tools are slow.
memory() {
    if ! command -v compute-sanitizer >/dev/null; then
        echo "memory: compute-sanitizer is not installed" | tee -a "$folder/summary.txt"
        return
    fi
    local tool few='test_unusual_shapes or (test_special_values and not 20)'
    for tool in memcheck racecheck; do
        part memory 1 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" \
            --target-processes all --error-exitcode 9 --print-limit 20 \
            "$python" -m pytest tests/test_gpu_device.py --cuda -q -x -p no:cacheprovider -k "$few"
    done
}

benchmarks() {
    part benchmarks 9 "$python" benchmarks/gpu.py --seconds "$(($(limit 9) - 60))" \
        --json "$folder/gpu.json" --plot "$folder/gpu.png"
}

for name in "$@"; do
    case $name in
    facts | tests | memory | benchmarks) "$name" ;;
    *) echo "there is no part $name" | tee -a "$folder/summary.txt" >&2; failed=1 ;;
    esac
done

printf '\n'
cat "$folder/summary.txt"
ls -l "$folder"
exit "$failed"
