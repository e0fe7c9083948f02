#!/bin/sh
# with-node.sh FILE [ARGUMENT…]: runs a TypeScript file of this checkout with the pinned Node.js.
set -eu
root=${0%/*}/..
# shellcheck source=scripts/setup.sh
. "$root/scripts/setup.sh"
packages_ready dev || set_up_packages dev
exec "$node" --conditions=skep-source --disable-warning=ExperimentalWarning "$@"
