#!/bin/sh
# npm test [-- ARGUMENT…]: sets itself up, then runs every *.test.ts; --full adds *.slow.test.ts.
# Other arguments go to node --test: files replace the whole set, options (--test-name-pattern=…) are added.
set -eu
root=${0%/*}/..
CDPATH='' cd -- "$root"
root=$PWD
# shellcheck source=scripts/setup.sh
. "$root/scripts/setup.sh"

tier="test"
minutes=3
if [ "${1:-}" = --full ]; then
  shift
  tier=full
  minutes=30
  export SKEP_CRASH_SEEDS="${SKEP_CRASH_SEEDS:-200}"
fi
packages_ready dev || set_up_packages dev
system_ready "$tier" || set_up_system "$tier"

export SKEP_TEST_HOME="${SKEP_TEST_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/skep-test}"
"$node" --conditions=skep-source --disable-warning=ExperimentalWarning scripts/prepare-test-images.ts "$tier"

named=
for argument in "$@"; do
  case $argument in
    *.test.ts)
      named=yes
      # A named slow test may take its time.
      case $argument in *.slow.test.ts) minutes=30 ;; esac
      ;;
  esac
done
if [ -z "$named" ]; then
  if [ "$tier" = full ]; then skip=; else skip='*.slow.test.ts'; fi
  # shellcheck disable=SC2046 # our own paths have no spaces
  set -- "$@" $(find apps bench engines faces protocols scripts test -name node_modules -prune -o \
    -name dist -prune -o -name '*.test.ts' ! -name "$skip" -print | sort)
fi
exec "$node" --conditions=skep-source --disable-warning=ExperimentalWarning --test \
  --test-reporter=spec --test-concurrency=2 --test-timeout=$((minutes * 60000)) "$@" </dev/null
