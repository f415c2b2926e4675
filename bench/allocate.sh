#!/usr/bin/env bash
# Time of `adze allocate --dry-run` against the number of matrices: bench/allocate.sh [--bin DIR]
# Synthetic Mixtrals of 128 experts in each of 12, 24 and 48 blocks, of which every matrix (of 32 x 32 values) chooses among
# three schemes; a budget of a GGUF, whose experts choose together, and of a folder, whose experts do not. Nothing is solved: what
# is left is the plan and the prices of options. Prints a line for each; time should double from line to line.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source bench/programs.sh
bin=""
while [[ $# -gt 0 ]]; do
  case "$1" in
    --bin) bin=$(realpath -e -- "$2"); shift 2 ;;
    *) echo "bench/allocate.sh [--bin DIR]" >&2; exit 64 ;;
  esac
done
if [[ -z "$bin" ]]; then build_programs --bench adze-allocate adze-synthetic; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# recipe FORMAT SCHEME...: every linear of a block chooses among these grids
recipe() {
  local format=$1 grids=("${@:2}") i
  echo "adze: 1"
  echo "calibration: { set: $PWD/calibration_data/calib/narrative.txt, windows: 2, tokens: 64, seed: 1 }"
  echo "schemes:"
  for i in "${!grids[@]}"; do echo "  s$i: { ${grids[$i]}, solver: rtn }"; done
  echo "rules: [ { modules: \"layers.**\", choose: [s0, s1, s2] } ]"
  echo "budget: { size: 1 GiB }"
  echo "export: [ { format: $format, file: model } ]"
}
recipe gguf "grid: gguf/q4_0" "grid: gguf/q5_0" "grid: gguf/q8_0" > "$work/gguf.yaml"
recipe compressed-tensors "grid: int4, group: 32" "grid: int4, group: 16" "grid: int8, group: 32" > "$work/folder.yaml"

printf '%10s  %8s  %8s\n' matrices gguf,s folder,s
for layers in 12 24 48; do
  "$bin/adze-synthetic" "$work/model" --hidden 32 --ffn 32 --heads 1 --kv-heads 1 --layers "$layers" --vocab 4096 --tied \
    --experts 128 --experts-per-token 2 >/dev/null
  printf '%10d' "$((layers * (4 + 3 * 128)))"
  for kind in gguf folder; do
    TIMEFORMAT=%R
    took=$({ time "$bin/adze-allocate" "$work/$kind.yaml" "$work/model" --dry-run -q >/dev/null 2>"$work/log"; } 2>&1) ||
      { cat "$work/log" >&2; exit 1; }
    printf '  %8s' "$took"
  done
  echo
  rm -rf "$work/model"
done
