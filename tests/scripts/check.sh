#!/usr/bin/env bash
# Checks what no compiler checks: the scripts, the list of packages, the npm lock files, the reasons in .clang-tidy and
# the summary of tests/run.sh. Names every finding; exit code 1 when there is one.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

findings=0
found() {
  printf 'check: %s\n' "$*"
  findings=$((findings + 1))
}

# same WHAT EXPECTED ACTUAL
same() {
  if [ "$2" != "$3" ]; then found "$1: expected '$2', got '$3'"; fi
}

scripts_parse() {
  local script
  while IFS= read -r script; do
    bash -n "$script" || found "$script: does not parse"
    if command -v shellcheck >/dev/null; then shellcheck -x "$script" || found "$script: shellcheck"; fi
  done < <(find apps tests bench .ci -name node_modules -prune -o \( -name '*.sh' -o -path .ci/run \) -print)
}

packages_are_listed_once_with_a_purpose() {
  local line
  while IFS= read -r line; do found "apps/packages.txt: $line"; done < <(awk '
    /^#/ || /^\[[a-z]+\]/ || NF == 0 { next }
    $1 in line { print $1 " stands in lines " line[$1] " and " FNR }
    NF < 3 || $2 != "#" { print "line " FNR ": want NAME # PURPOSE, is: " $0 }
    { line[$1] = FNR }' apps/packages.txt)
}

lock_files_hold_hashes_and_no_addresses() {
  local lock
  while IFS= read -r lock; do
    grep -nE '"resolved"|"(git\+|https?:)[^"]*\.tgz' "$lock" && found "$lock: holds download addresses"
    grep -q '^omit-lockfile-registry-resolved=true$' "$(dirname "$lock")/.npmrc" ||
      found "$lock: the .npmrc beside it does not keep addresses out"
    same "$lock: packages with a hash" "$(grep -c '^    "node_modules/' "$lock")" \
      "$(grep -c '"integrity": "sha512-' "$lock")"
  done < <(find tests -name node_modules -prune -o -name package-lock.json -print)
}

disabled_checks_have_reasons() {
  local check
  while IFS= read -r check; do
    grep -qE "^# $check +[a-zA-Z]" .clang-tidy || found ".clang-tidy: $check is off without a reason"
  done < <(sed -n 's/^  -\([a-z][a-zA-Z0-9-]*\),\{0,1\}$/\1/p' .clang-tidy)
}

set_up_finds_what_is_missing() {
  command -v dpkg-query >/dev/null || return 0 # apps/setup.sh refuses such a system
  # shellcheck source=apps/setup.sh
  source apps/setup.sh
  same "adze_missing" "adze-no-such-package" "$(adze_missing bash adze-no-such-package dpkg)"
  same "adze_missing, nothing missing" "" "$(adze_missing bash dpkg)"
  same "adze_packages tests" "libgtest-dev libgmock-dev chromium" "$(adze_packages tests | xargs)"
  adze_packages no-such-group >/dev/null 2>&1 && found "adze_packages accepts a group that does not exist"
}

# summary NAME STRICT: the summary of scripts/NAME, its lines joined by "|", and the exit code.
summary() {
  local text
  text=$(awk -v strict="$2" -f tests/scripts/summary.awk "tests/scripts/$1")
  echo "${text//$'\n'/|}|exit $?"
}

summary_counts_and_judges() {
  local skips='skipped: a/Extra: extra: no <shared> & "folder"' strict refusal fails
  for strict in 0 1; do
    same "summary of excused skips" "$skips|2 passed, 0 failed, 1 skipped|exit 0" "$(summary excused.xml $strict)"
  done
  skips='skipped: a/NoNode: no node: set ADZE_NODE|skipped: a/Off: disabled'
  same "summary of skips" "$skips|1 passed, 0 failed, 2 skipped|exit 0" "$(summary skips.xml 0)"
  refusal='FAILED: 2 skipped without an "extra:" reason, which CI does not allow'
  same "summary of skips in CI" "$skips|$refusal|1 passed, 0 failed, 2 skipped|exit 1" "$(summary skips.xml 1)"
  fails='FAILED: a/Fails|FAILED: a/SkipsAndFails|FAILED: a/Missing'
  same "summary of failures" "$fails|1 passed, 3 failed, 0 skipped|exit 1" "$(summary failures.xml 0)"
  same "summary of nothing" "FAILED: no tests ran|0 passed, 0 failed, 0 skipped|exit 1" "$(summary empty.xml 0)"
}

scripts_parse
packages_are_listed_once_with_a_purpose
lock_files_hold_hashes_and_no_addresses
disabled_checks_have_reasons
set_up_finds_what_is_missing
summary_counts_and_judges
echo "check: $findings findings"
[ "$findings" -eq 0 ]
