#!/usr/bin/env bash
# Peak memory (VmHWM, mapped pages included) of adze-compress, predicted by the dry run and measured, against model size:
#   bench/memory.sh [--bin DIR] [--full]
# Synthetic bf16 Llama checkpoints, 16 windows of 256 tokens, every matrix in Q4_K, exported and evaluated. --full adds
# the 1.1 billion weights of hidden size 2048 with 22 blocks (2.2 GB of disk, some 10 minutes on two cores).
# --bin: a folder with adze-compress and adze-synthetic; otherwise the preset release is built first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source bench/programs.sh
bin=""
full=""
while [[ $# -gt 0 ]]; do
  case "$1" in
    --bin) bin=$2; shift 2 ;;
    --full) full=1; shift ;;
    *) echo "bench/memory.sh [--bin DIR] [--full]" >&2; exit 64 ;;
  esac
done
if [[ -z "$bin" ]]; then build_programs --bench adze-compress adze-synthetic; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
heldout=(calibration_data/heldout/*)
head -c 12000 "${heldout[0]}" > "$work/text.txt"
cat > "$work/recipe.yaml" <<EOF
adze: 1
calibration: { set: $PWD/calibration_data/mixed.yaml, windows: 16, tokens: 256, seed: 7 }
schemes: { q4k: { grid: gguf/q4_k, solver: gptq } }
rules: [ { modules: "**", scheme: q4k } ]
export: [ { format: gguf, file: model.gguf } ]
evaluate: { text: $work/text.txt, context: 512 }
EOF

number() { sed -n "s/^ *\"$1\": \([0-9]*\),*$/\1/p" <<<"$2" | head -n 1; }

# one NAME [SYNTHETIC OPTIONS] -- [COMPRESS OPTIONS]: a row of the table
one() {
  local name=$1; shift
  local shape=() options=()
  while [[ $# -gt 0 && "$1" != "--" ]]; do shape+=("$1"); shift; done
  [[ $# -gt 0 ]] && shift
  options=("$@")
  if [[ ! -d "$work/$name" ]]; then "$bin/adze-synthetic" "$work/$name" "${shape[@]}" >/dev/null; fi
  local dry peak
  dry=$("$bin/adze-compress" "$work/recipe.yaml" "$work/$name" --dry-run --json --quiet "${options[@]}")
  "$bin/adze-compress" "$work/recipe.yaml" "$work/$name" -o "$work/out" --quiet "${options[@]}" > "$work/log" &
  local pid=$!
  peak=0
  while kill -0 "$pid" 2>/dev/null; do  # VmHWM only grows: the last value read is the peak
    peak=$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true)
    [[ -n "$peak" ]] && last=$peak
    sleep 0.1
  done
  wait "$pid"
  rm -rf "$work/out"
  awk -v name="$name ${options[*]}" -v predicted="$(number peak_memory "$dry")" -v measured="$last" 'BEGIN {
    predicted /= 1048576; measured /= 1024
    printf "| %s | %.0f | %.0f | %+.1f %% |\n", name, predicted, measured, 100 * (predicted / measured - 1) }'
}

echo "$(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg)" >&2
echo "| model | predicted MiB | measured MiB | difference |"
echo "|---|---|---|---|"
small=(--hidden 512 --ffn 1536 --heads 8 --kv-heads 4 --layers 2 --vocab 4096)
one hidden-512 "${small[@]}"
one hidden-1024 --hidden 1024 --ffn 2816 --heads 16 --kv-heads 4 --layers 2 --vocab 16000
one hidden-1024 -- --memory 330MiB
one hidden-2048 --layers 1
if [[ -n "$full" ]]; then
  rm -rf "$work"/hidden-*
  one 1.1-billion -- --memory 1536MiB
fi
