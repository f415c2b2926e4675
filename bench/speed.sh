#!/usr/bin/env bash
# Speed as ratios to this machine's own limits, measured in one run: bench/speed.sh [--json] [GROUP...]
# Builds the preset release first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source apps/setup.sh
adze_setup build tests >&2
cmake --preset release -DADZE_BENCH=ON >/dev/null
cmake --build --preset release --target adze-bench >&2
exec build/release/bin/adze-bench "$@"
