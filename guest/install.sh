#!/bin/sh
# install.sh PROGRAM: puts the helper that build.sh has made into the guest that this runs in, as root. Run again, it updates.
set -eu
program=${1:?usage: install.sh PROGRAM}
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
[ -d /run/systemd/system ] || {
  echo "install.sh: this guest does not run systemd: have its init run the program again whenever it ends, outside of every slice that is frozen" >&2
  exit 1
}
# Beside, then renamed: the program that runs now cannot be written to.
install -D -m 755 "$program" /usr/local/sbin/skep-helper.new
mv /usr/local/sbin/skep-helper.new /usr/local/sbin/skep-helper
install -D -m 644 "$here/skep-helper.service" /etc/systemd/system/skep-helper.service
install -D -m 644 "$here/60-skep-helper.rules" /etc/udev/rules.d/60-skep-helper.rules
if command -v restorecon >/dev/null 2>&1; then
  restorecon /usr/local/sbin/skep-helper /etc/systemd/system/skep-helper.service /etc/udev/rules.d/60-skep-helper.rules
fi
udevadm control --reload
systemctl daemon-reload
systemctl restart skep-helper.service
