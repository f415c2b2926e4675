#!/usr/bin/env bash
# Time of adze-compress against hidden size and against calibration tokens, with the exponents of both:
#   bench/scaling.sh [--bin DIR] [--most HIDDEN] [--svg FILE]
# One-block synthetic models (FFN 3 times as wide, 2048 tokens of text) for the first, hidden size 512 for the second.
# Prints a table for docs/performance.md and draws docs/pictures/scaling.svg, or FILE.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source bench/programs.sh
bin=""
most=2048
svg=docs/pictures/scaling.svg
while [[ $# -gt 0 ]]; do
  case "$1" in
    --bin) bin=$2; shift 2 ;;
    --most) most=$2; shift 2 ;;
    --svg) svg=$2; shift 2 ;;
    *) echo "bench/scaling.sh [--bin DIR] [--most HIDDEN] [--svg FILE]" >&2; exit 64 ;;
  esac
done
if [[ -z "$bin" ]]; then build_programs --bench adze-compress adze-synthetic; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# seconds HIDDEN WINDOWS: what the run says it took, the best of two
seconds() {
  local hidden=$1 windows=$2 best="" took
  if [[ ! -d "$work/m$hidden" ]]; then
    "$bin/adze-synthetic" "$work/m$hidden" --hidden "$hidden" --ffn $((hidden * 3)) --heads $((hidden / 64)) \
      --kv-heads $((hidden / 64)) --layers 1 --vocab 4096 --tied >/dev/null
  fi
  cat > "$work/recipe.yaml" <<EOF
adze: 1
calibration: { set: $PWD/calibration_data/mixed.yaml, windows: $windows, tokens: 256, seed: 7 }
schemes: { q4k: { grid: gguf/q4_k, solver: gptq } }
rules: [ { modules: "layers.**", scheme: q4k } ]
EOF
  for _ in 1 2; do
    "$bin/adze-compress" "$work/recipe.yaml" "$work/m$hidden" -o "$work/out" --quiet > "$work/log"
    took=$(sed -n 's/^ *"seconds": \([0-9.e-]*\),*$/\1/p' "$work/out/report.json" | sort -g | tail -n 1)
    rm -rf "$work/out"
    best=$(awk -v a="$best" -v b="$took" 'BEGIN { print (a == "" || b < a) ? b : a }')
  done
  echo "$best"
}

for ((hidden = 256; hidden <= most; hidden *= 2)); do
  took=$(seconds "$hidden" 8)
  echo "hidden $hidden $took"
done > "$work/points"
for windows in 8 16 32 64; do
  took=$(seconds 512 "$windows")
  echo "tokens $((windows * 256)) $took"
done >> "$work/points"

mkdir -p "$(dirname "$svg")"
awk -v svg="$svg" -v names=hidden,tokens -v labels="hidden size,calibration tokens" -f bench/points.awk "$work/points"
echo "$(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg); drawn: $svg" >&2
