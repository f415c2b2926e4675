#!/usr/bin/env bash
# How fast solved grids are exported, beside what the disk takes: bench/export.sh [--bin DIR] [--hidden N] [--layers N] [--runs N]
# A random checkpoint in int4 (groups of 128), for GGUF in Q4_K, is written in each packed format, read back and compared;
# `ratio` is its bytes per second over those of dd with fsync, the median of three (or N) runs of each, in turns; processor
# time is the least. 270 MB by default; 0.9 GB with --layers 36, where the start of the program counts for less.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source bench/programs.sh

hidden=2048 layers=10 runs=3 bin=""
while [[ $# -gt 0 ]]; do
  case "$1" in
    --help | -h) sed -n '2,5s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
    --hidden) hidden=$2 ;;
    --layers) layers=$2 ;;
    --runs) runs=$2 ;;
    --bin) bin=$(realpath -e -- "$2") ;;
    *) echo "export: unknown option $1: --help" >&2; exit 64 ;;
  esac
  shift 2
done
if [[ -z "$bin" ]]; then build_programs --bench adze-synthetic adze-quantize adze-export; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# took COMMAND...: seconds of the wall clock, and of the processor.
took() {
  local TIMEFORMAT='%R %U %S'
  if ! { time "$@" > "$work/log" 2>&1; } 2> "$work/time"; then
    cat "$work/log" >&2
    exit 1
  fi
  awk '{ print $1, $2 + $3 }' "$work/time"
}
median() { sort -n | sed -n "$(((runs + 1) / 2))s/ .*//p"; }

"$bin/adze-synthetic" "$work/model" --hidden "$hidden" --layers "$layers" --ffn $((hidden * 11 / 4)) --heads 32 \
  --kv-heads 8 --vocab 4096 > /dev/null
# What each format is made of; AWQ has zero points.
declare -A made_of=([compressed-tensors]=sym [gptq]=sym [awq]=asym [mlx]=sym [pack]=sym [onnx]=sym [gguf]=q4_k)
solve() {
  "$bin/adze-quantize" "$work/model" --solver rtn "${@:2}" -o "$work/$1" -q > /dev/null
}
solve sym --grid int4 --group 128
solve asym --grid int4 --group 128 --symmetric false
solve q4_k --grid gguf/q4_k
echo "| format | bytes | MB/s | dd MB/s | ratio | processor s |"
echo "|---|---|---|---|---|---|"
for format in compressed-tensors gptq awq mlx pack onnx gguf; do
  out=$work/out
  if [[ $format == gguf ]]; then out+=.gguf; fi
  : > "$work/ours"
  : > "$work/dd"
  for ((run = 0; run < runs; ++run)); do
    rm -rf "$out" "$work/zeros"
    sync
    took "$bin/adze-export" "$work/${made_of[$format]}" --format "$format" -o "$out" -q >> "$work/ours"
    bytes=$(du -sb --apparent-size "$out" | cut -f1)
    sync
    took dd if=/dev/zero of="$work/zeros" bs=1M count=$((bytes >> 20)) conv=fsync >> "$work/dd"
  done
  echo "$format $bytes $(median < "$work/ours") $(median < "$work/dd") $(cut -d' ' -f2 "$work/ours" | sort -n | head -n 1)" |
    awk '{ printf "| %s | %d | %.0f | %.0f | %.2f | %.2f |\n", $1, $2, $2 / $3 / 1e6, $2 / $4 / 1e6, $4 / $3, $5 }'
done
