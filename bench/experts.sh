#!/usr/bin/env bash
# Processor time of calibration and evaluation of mixtures, against how many experts there are and how many of them a token
# goes to: bench/experts.sh [--bin DIR] [--svg FILE]
# One-block synthetic Mixtrals of hidden size 256 and experts of 512, 128 windows of 512 tokens: enough that no expert has to
# borrow tokens. First 2 of 4 to 32 experts, whose weights grow and whose work should not; then 1 to 8 of 16. Prints tables for
# docs/mixtures.md and draws FILE-calibrate.svg and FILE-eval.svg (docs/pictures/experts).
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source bench/programs.sh
bin=""
svg=docs/pictures/experts
while [[ $# -gt 0 ]]; do
  case "$1" in
    --bin) bin=$(realpath -e -- "$2"); shift 2 ;;
    --svg) svg=$2; shift 2 ;;
    *) echo "bench/experts.sh [--bin DIR] [--svg FILE]" >&2; exit 64 ;;
  esac
done
if [[ -z "$bin" ]]; then build_programs --bench adze-calibrate adze-eval adze-synthetic; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# ids of a text that is long enough
awk 'BEGIN { srand(1); printf "["; for (i = 0; i < 70000; ++i) printf "%s%d", i ? ", " : "", 2 + int(4000 * rand()); print "]" }' > "$work/ids.json"

# seconds COMMAND...: processor time, the best of two
seconds() {
  local best="" took
  for _ in 1 2; do
    rm -rf "$work/stats"
    took=$({ TIMEFORMAT='%U %S'; time "$@" >/dev/null 2>"$work/log"; } 2>&1) || { cat "$work/log" >&2; return 1; }
    took=$(awk '{ print $1 + $2 }' <<< "$took")
    best=$(awk -v a="$best" -v b="$took" 'BEGIN { print (a == "" || b < a) ? b : a }')
  done
  echo "$best"
}

# measure KIND SIZE EXPERTS PER_TOKEN
measure() {
  "$bin/adze-synthetic" "$work/model" --hidden 256 --ffn 512 --heads 4 --kv-heads 4 --layers 1 --vocab 4096 --tied \
    --experts "$3" --experts-per-token "$4" >/dev/null
  echo "$1 $2 $(seconds "$bin/adze-calibrate" "$work/model" --set "$work/ids.json" --windows 128 --tokens 512 -o "$work/stats" -q)" \
    >> "$work/calibrate"
  echo "$1 $2 $(seconds "$bin/adze-eval" "$work/model" --text "$work/ids.json" --protocol lcpp-512 -q)" >> "$work/eval"
  rm -rf "$work/model"
}
for experts in 4 8 16 32; do measure experts "$experts" "$experts" 2; done
for active in 1 2 4 8; do measure active "$active" 16 "$active"; done

mkdir -p "$(dirname "$svg")"
for tool in calibrate eval; do
  echo "adze $tool:"
  awk -v svg="$svg-$tool.svg" -v names=experts,active -v "labels=experts (2 a token),experts a token (of 16)" -f bench/points.awk \
    "$work/$tool"
done
echo "$(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg); drawn: $svg-calibrate.svg, $svg-eval.svg" >&2
