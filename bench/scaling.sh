#!/usr/bin/env bash
# Time of adze-compress against hidden size and against calibration tokens, with the exponents of both:
#   bench/scaling.sh [--bin DIR] [--most HIDDEN] [--svg FILE]
# One-block synthetic models (FFN 3 times as wide, 2048 tokens of text) for the first, hidden size 512 for the second.
# Prints a table for docs/performance.md and draws docs/pictures/scaling.svg, or FILE.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."
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
if [[ -z "$bin" ]]; then
  source apps/setup.sh
  adze_setup build tests >&2
  cmake --preset release -DADZE_BENCH=ON >/dev/null
  cmake --build --preset release --target adze-compress adze-synthetic >&2
  bin=build/release/bin
fi

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
awk -v svg="$svg" '
  # least squares of log t over log x, on the last three points: small runs measure the start of the program
  function slope(kind,   i, first, n, sx, sy, sxx, sxy, x, y) {
    first = count[kind] > 3 ? count[kind] - 3 : 0
    for (i = first; i < count[kind]; ++i) {
      x = log(xs[kind, i]); y = log(ts[kind, i]); ++n; sx += x; sy += y; sxx += x * x; sxy += x * y
    }
    return (n * sxy - sx * sy) / (n * sxx - sx * sx)
  }
  function px(kind, x) { return left[kind] + 40 + 260 * log(x / xs[kind, 0]) / log(xs[kind, count[kind] - 1] / xs[kind, 0]) }
  function py(t) { return 250 - 210 * log(t / low) / log(high / low) }
  { xs[$1, count[$1] + 0] = $2; ts[$1, count[$1] + 0] = $3; ++count[$1]
    if (low == "" || $3 < low) low = $3
    if ($3 > high) high = $3 }
  END {
    print "| against | size | seconds | exponent (last three) |\n|---|---|---|---|"
    kinds[1] = "hidden"; kinds[2] = "tokens"; left["hidden"] = 20; left["tokens"] = 380
    print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 310\" font-family=\"sans-serif\" font-size=\"13\" fill=\"#808080\" stroke=\"none\">" > svg
    for (k = 1; k <= 2; ++k) {
      kind = kinds[k]; points = ""
      for (i = 0; i < count[kind]; ++i) {
        printf "| %s | %d | %.2f | %s |\n", kind, xs[kind, i], ts[kind, i], i == count[kind] - 1 ? sprintf("%.2f", slope(kind)) : ""
        x = px(kind, xs[kind, i]); y = py(ts[kind, i]); points = points sprintf("%.1f,%.1f ", x, y)
        printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"#3b82c4\"/><text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.2g s</text><text x=\"%.1f\" y=\"270\" text-anchor=\"middle\">%d</text>\n", x, y, x, y - 10, ts[kind, i], x, xs[kind, i] > svg
      }
      printf "<polyline points=\"%s\" fill=\"none\" stroke=\"#3b82c4\" stroke-width=\"2\"/>\n", points > svg
      printf "<line x1=\"%d\" y1=\"250\" x2=\"%d\" y2=\"250\" stroke=\"#808080\"/><text x=\"%d\" y=\"295\" text-anchor=\"middle\">%s: exponent %.2f</text>\n", left[kind] + 20, left[kind] + 320, left[kind] + 170, kind == "hidden" ? "hidden size" : "calibration tokens", slope(kind) > svg
    }
    print "</svg>" > svg
  }' "$work/points"
echo "$(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg); drawn: $svg" >&2
