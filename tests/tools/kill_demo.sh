#!/bin/bash
# Kills `adze compress` again and again at random moments, resumes each time, and compares every byte of the result with
# that of an undisturbed run. One line per kill; exit code 1 when anything differs.
#
#   tests/tools/kill_demo.sh BIN_FOLDER [KILLS] [RECIPE]
#
# BIN_FOLDER holds the programs (build/release/bin); KILLS is 20 and RECIPE recipes/q4_k.yaml unless stated.
set -euo pipefail

bin=${1:?"usage: kill_demo.sh BIN_FOLDER [KILLS] [RECIPE]"}
kills=${2:-20}
root=$(cd "$(dirname "$0")/../.." && pwd)
recipe=${3:-$root/recipes/q4_k.yaml}
model=$root/tests/models/demo-llama
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

RANDOM=7   # the same moments each time, as far as the machine allows
now_ms() { echo $(($(date +%s%N) / 1000000)); }

start=$(now_ms)
"$bin/adze" compress "$recipe" "$model" -o "$place/undisturbed" -q > "$place/log"
whole=$(($(now_ms) - start))
echo "undisturbed: $((whole / 1000)).$(printf %03d $((whole % 1000))) s, $(find "$place/undisturbed" -type f | wc -l) files"

differing=0
for ((i = 1; i <= kills; ++i)); do
  out=$place/killed
  rm -rf "$out"
  moment=$((RANDOM * whole / 32768))
  "$bin/adze" compress "$recipe" "$model" -o "$out" -q > "$place/log" 2>&1 &
  process=$!
  sleep "$((moment / 1000)).$(printf %03d $((moment % 1000)))"
  kill -KILL $process 2> "$place/log" || true
  wait $process 2> "$place/log" || true
  blocks=$(find "$out/store" -name 'block-*.h5' 2> "$place/log" | wc -l) || true
  start=$(now_ms)
  if [[ ! -e $out/manifest.json ]]; then "$bin/adze" compress "$recipe" "$model" -o "$out" -q > "$place/log"; fi
  resumed=$(($(now_ms) - start))
  verdict=identical
  diff -r --exclude='report.*' --exclude=work "$place/undisturbed" "$out" > "$place/log" || verdict=DIFFERENT
  [[ $verdict == identical ]] || differing=$((differing + 1))
  printf 'kill %2d after %6d ms: %d blocks stored, resumed and finished in %6d ms: %s\n' \
    "$i" "$moment" "$blocks" "$resumed" "$verdict"
done
echo "$kills kills, $differing results differ"
[[ $differing -eq 0 ]]
