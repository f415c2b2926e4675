# shellcheck shell=bash disable=SC2034 # who sources it uses `bin`
# For the other scripts of this folder, which source it: the programs that they run where --bin names none.

# build_programs [--bench] TARGET...: builds them as the preset release; `bin` is then the folder that they are in.
# --bench: some are programs of bench/, which need what tests need.
build_programs() {
  local packages=(build) options=()
  if [[ "$1" == --bench ]]; then
    packages+=(tests)
    options+=(-DADZE_BENCH=ON)
    shift
  fi
  source apps/setup.sh
  adze_setup "${packages[@]}" >&2
  cmake --preset release "${options[@]}" >/dev/null
  cmake --build --preset release --target "$@" >&2
  bin=$PWD/build/release/bin
}
