#!/bin/sh
# build.sh OUTPUT [COMPILER OPTION...]: one static program, no dependency but libc.
set -eu
output=${1:?usage: build.sh OUTPUT [COMPILER OPTION...]}
shift
[ "$#" -gt 0 ] || set -- -static -Os -s -Wl,--build-id=none
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
exec "${CC:-cc}" -std=c11 -Wall -Wextra "$@" -o "$output" \
  "$here/helper.c" "$here/parse.c" "$here/steps.c" "$here/network.c" "$here/freeze.c" "$here/instance.c"
