#!/usr/bin/env bash
# Installs what adze needs on Debian 12 (or a relative with the same package names), and only what is missing.
#
#   apps/setup.sh            what the build needs
#   apps/setup.sh --tests    and what the tests need
#
# Nothing missing: nothing is done, and apt is not called. Sourced, it only defines adze_setup for demo.sh and run.sh.
# The packages are in packages.txt beside this file.

ADZE_PACKAGES=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/packages.txt

# adze_packages GROUP...: the names in those groups of packages.txt, one a line.
adze_packages() {
  local group
  for group in "$@"; do
    awk -v want="[$group]" '
      { sub(/#.*/, "") }
      /^\[/ { inside = ($1 == want); next }
      inside && NF { print $1; found = 1 }
      END { exit !found }' "$ADZE_PACKAGES" || {
      echo "setup: $ADZE_PACKAGES has no group [$group]" >&2
      return 1
    }
  done
}

# adze_missing NAME...: those that are not installed, one a line.
adze_missing() {
  # A name dpkg has never heard of makes dpkg-query fail and say so; such a name is missing, which is all we ask.
  { dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true; } |
    awk -v names="$*" '
      $1 == "installed" { have[$2] = 1 }
      END { n = split(names, name, " "); for (i = 1; i <= n; i++) if (!(name[i] in have)) print name[i] }'
}

# adze_setup GROUP...: installs what is missing of those groups. apt's own output goes to stderr.
adze_setup() {
  local list
  local -a names missing root=()
  list=$(adze_packages "$@") || return 1
  mapfile -t names <<<"$list"
  if ! command -v dpkg-query >/dev/null; then
    adze_refuse "this is not Debian (no dpkg-query). Install what these Debian packages hold: ${names[*]}"
    return 1
  fi
  list=$(adze_missing "${names[@]}")
  if [ -z "$list" ]; then return 0; fi
  mapfile -t missing <<<"$list"
  if [ "$(id -u)" -ne 0 ]; then
    if ! root=("$(command -v sudo)"); then
      adze_refuse "packages are missing, and this is neither root nor a machine with sudo. As root, run:" \
        "apt-get update && apt-get install --no-install-recommends ${missing[*]}"
      return 1
    fi
  fi
  echo "setup: installing ${missing[*]}" >&2
  "${root[@]}" apt-get -q update >&2 || echo "setup: apt-get update failed; trying with the lists at hand" >&2
  if ! "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y --no-install-recommends install "${missing[@]}" >&2; then
    adze_refuse "apt-get could not install ${missing[*]}; its own message is above." \
      "adze is made for Debian 12 (bookworm), this is $(adze_system)."
    return 1
  fi
}

# adze_refuse LINE...: says why the set-up cannot go on.
adze_refuse() {
  printf 'setup: %s\n' "$@" >&2
}

adze_system() {
  sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release 2>/dev/null || uname -a
}

adze_usage() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

adze_setup_main() {
  local groups=(build)
  case "${1:-}" in
    "") ;;
    --tests) groups+=(tests) ;;
    -h | --help)
      adze_usage
      return 0
      ;;
    *)
      adze_usage >&2
      return 64
      ;;
  esac
  adze_setup "${groups[@]}"
  echo "setup: the packages for ${groups[*]} are installed"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  adze_setup_main "$@"
fi
