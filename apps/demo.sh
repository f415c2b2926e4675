#!/usr/bin/env bash
# Shows what adze does, from a fresh clone: sets up, builds, compresses the bundled model to 4 bits twice (rounding to
# nearest, then our solver) and prints sizes and quality of both beside the original, judged on text held out from
# calibration. Files go to demo-out/, which a second run replaces.
#
#   apps/demo.sh
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source apps/setup.sh

readonly OUT=demo-out MODEL=tests/models/demo-llama BIN=build/release/bin
readonly RECIPES=(q4_k-rtn q4_k)

step() {
  printf '\n--- %s (%d s)\n' "$*" "$SECONDS" >&2
}

build() {
  # The tests and benchmarks of the preset are left out: nothing here runs them.
  cmake --preset release -DADZE_TESTS=OFF -DADZE_BENCH=OFF >&2
  cmake --build --preset release --parallel "$(nproc)" >&2
}

# judge MODEL...: one table over all of them, on stdout.
judge() {
  "$BIN/adze" eval "$@" --reference "$MODEL" --text calibration_data/heldout.yaml --protocol lcpp-512
}

trap 'echo "demo: stopped by the error above" >&2' ERR
step "packages"
adze_setup build
step "build, preset release"
build
rm -rf "$OUT"
mkdir "$OUT"
for recipe in "${RECIPES[@]}"; do
  step "compress with recipes/$recipe.yaml"
  "$BIN/adze" compress "recipes/$recipe.yaml" "$MODEL" -o "$OUT/$recipe" >&2
done
step "evaluate on calibration_data/heldout.yaml"
judge "$MODEL" "${RECIPES[@]/#/$OUT/}"
step "done. Files made:"
find "$OUT" -type f -printf '%10s  %p\n' | sort -k 2
