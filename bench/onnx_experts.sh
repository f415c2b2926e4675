#!/usr/bin/env bash
# What experts cost in onnxruntime, where each is six nodes whether it gets a token or not:
#   bench/onnx_experts.sh [--bin DIR]
# Synthetic Mixtrals in int4 (round to nearest) as onnx, four blocks of hidden size 1024 and experts of 1408: a FFN of that size,
# then 2 of 8 to 128 experts. Prints a table for docs/mixtures.md: milliseconds of a prompt of 256 tokens, and of a token after it.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source bench/programs.sh
bin=""
while [[ $# -gt 0 ]]; do
  case "$1" in
    --bin) bin=$(realpath -e -- "$2"); shift 2 ;;
    *) echo "bench/onnx_experts.sh [--bin DIR]" >&2; exit 64 ;;
  esac
done
if [[ -z "$bin" ]]; then build_programs --bench adze-export adze-quantize adze-synthetic; fi
if [[ ! -d tests/node/node_modules ]]; then (cd tests/node && npm ci --ignore-scripts --no-progress --loglevel=error >&2); fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "| experts | prompt, ms | a token, ms |"
echo "|---|---|---|"
for experts in 0 8 32 128; do
  rm -rf "${work:?}"/*
  options=()
  if [[ $experts -gt 0 ]]; then options=(--experts "$experts" --experts-per-token 2); fi
  "$bin/adze-synthetic" "$work/model" --hidden 1024 --ffn 1408 --heads 16 --kv-heads 4 --layers 4 --vocab 4096 "${options[@]}" >/dev/null
  "$bin/adze-quantize" "$work/model" --grid int4 --group 32 --solver rtn -o "$work/out" -q >/dev/null
  "$bin/adze-export" "$work/out" --format onnx -o "$work/onnx" -q >/dev/null
  "${ADZE_NODE:-node}" tests/node/onnx_times.mjs "$work/onnx/model.onnx" 256 33 |
    awk -v experts="$experts" -F '[:,}]' '{ printf "| %s | %.0f | %.1f |\n", experts ? experts : "none", $2, $4 }'
done
echo "$(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg)" >&2
