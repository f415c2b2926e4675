#!/usr/bin/env bash
# Speed as ratios to this machine's own limits, measured in one run: bench/speed.sh [--json] [GROUP...]
# Builds the preset release first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source bench/programs.sh
build_programs --bench adze-bench
exec "$bin/adze-bench" "$@"
