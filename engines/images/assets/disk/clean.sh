# Runs in the finished tree: takes out whatever would make two machines, or two builds, differ or alike.
set -e
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /etc/ssh/ssh_host_* /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
echo localhost >/etc/hostname
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >/etc/hosts
find /var/log -type f -exec rm -f {} +
rm -rf /var/cache/apt/* /var/lib/apt/lists/* /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache \
  /var/lib/dpkg/*-old /var/lib/cloud/* /var/tmp/* /tmp/* /run/* /var/lib/systemd/timers/* \
  /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid- /etc/.pwd.lock
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial
rm -f /etc/apt/apt.conf.d/99mmdebstrap /var/lib/initramfs-tools/*.tmp
sed -i '/^force-confold$/d' /etc/dpkg/dpkg.cfg.d/99mmdebstrap
