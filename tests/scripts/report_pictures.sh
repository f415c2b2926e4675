#!/usr/bin/env bash
# Takes the pictures of docs/report.md and the README anew: compresses the bundled model, opens its report in Chromium and
# writes docs/pictures/report-*.png. Needs a build (preset dev) and what tests/run.sh sets up.
#
#   tests/scripts/report_pictures.sh [RECIPE]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

recipe=${1:-recipes/q4_k.yaml}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

# picture NAME WIDTH SCHEME SELECTOR [HOVER]: one part of the page.
picture() {
  "${ADZE_NODE:-node}" tests/node/page.mjs shot "$place/out/report.html" "docs/pictures/report-$1.png" "${@:2}"
}

build/dev/bin/adze compress "$recipe" tests/models/demo-llama -o "$place/out" -q > "$place/log"
picture losses 1280 light '#figure-4' '#figure-4 svg rect:nth-of-type(13)'
picture dark 1280 dark '#figure-5'
