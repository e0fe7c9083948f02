# Runs in the finished tree: takes out whatever would make two machines, or two builds, differ or alike.
set -e
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /etc/ssh/ssh_host_* /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
echo localhost >/etc/hostname
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >/etc/hosts
find /var/log -type f -exec rm -f {} +
rm -rf /var/cache/apt/* /var/lib/apt/lists/* /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache \
  /var/lib/dpkg/*-old /var/lib/cloud/* /var/tmp/* /run/* /var/lib/systemd/timers/* \
  /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid- /etc/.pwd.lock
# Without mmdebstrap's own file its `apt-get clean` would be the host's. It removes that itself.
find /tmp -mindepth 1 -maxdepth 1 ! -name 'mmdebstrap.apt.conf.*' -exec rm -rf {} +
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial
rm -f /etc/apt/apt.conf.d/99mmdebstrap /var/lib/initramfs-tools/*.tmp
sed -i '/^force-confold$/d' /etc/dpkg/dpkg.cfg.d/99mmdebstrap
# Under a fixed date Debian compiles Python so that every import reads and hashes the source. These files say the
# source's time instead, as on an installed machine: then a look at its inode is enough.
if [ -x /usr/bin/python3 ]; then
  /usr/bin/python3 -BIS - <<'END-OF-PYTHON'
import os, struct

latest = int(os.environ["SOURCE_DATE_EPOCH"])  # what is younger gets this time when the tree is packed
for folder, _, files in os.walk("/usr"):
    if not folder.endswith("/__pycache__"):
        continue
    for file in files:
        source = os.path.join(os.path.dirname(folder), file.split(".")[0] + ".py")
        with open(os.path.join(folder, file), "r+b") as compiled:
            magic, flags = struct.unpack("<4sI", compiled.read(8))
            if flags != 3 or not os.path.exists(source):
                continue
            stats = os.stat(source)
            compiled.seek(4)
            compiled.write(struct.pack("<III", 0, min(int(stats.st_mtime), latest), stats.st_size))
END-OF-PYTHON
fi
