// The steps: each leaves the same when it is done twice.
#define _GNU_SOURCE
#include "helper.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *root_directory = "";
#define IN_KERNEL if (*root_directory) return SKIPPED

static int below(char out[4400], const char *path) {
  return snprintf(out, 4400, "%s%s", root_directory, path) < 4400 ? 0 : ENAMETOOLONG;
}

// Written beside, synced, renamed: whole or not there.
static int put(const char *path, const void *data, size_t n, mode_t mode) {
  char to[4400], temporary[4410];
  if (below(to, path)) return ENAMETOOLONG;
  snprintf(temporary, sizeof temporary, "%s.skep", to);
  unlink(temporary);
  int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), error = 0;
  if (fd < 0) return errno;
  for (size_t done = 0; !error && done < n;) {
    ssize_t w = write(fd, (const char *)data + done, n - done);
    if (w > 0) done += (size_t)w;
    else if (errno != EINTR) error = w ? errno : EIO;
  }
  if (!error && (fchmod(fd, mode) || fsync(fd))) error = errno;
  close(fd);
  if (!error && rename(temporary, to)) error = errno;
  if (error) unlink(temporary);
  return error;
}

static ssize_t get(const char *path, char *out, size_t size) {
  char from[4400];
  if (below(from, path)) return -1;
  int fd = open(from, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t n = read(fd, out, size - 1);
  close(fd);
  if (n >= 0) out[n] = 0;
  return n;
}

static int ping(const struct step *s) { (void)s; return 0; }

static int seed(const struct step *s) {
  struct { struct rand_pool_info info; unsigned char bytes[512]; } pool;
  if (s->data_bytes < 32 || s->data_bytes > 512) return EINVAL;
  IN_KERNEL;
  memcpy(pool.info.buf, s->data, s->data_bytes);
  pool.info.buf_size = (int)s->data_bytes;
  pool.info.entropy_count = (int)s->data_bytes * 8;
  int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  int error = ioctl(fd, RNDADDENTROPY, &pool) || ioctl(fd, RNDRESEEDCRNG, 0) ? errno : 0;
  close(fd);
  return error;
}

static int set_clock(const struct step *s) {
  IN_KERNEL;
  long long ms = atoll(s->argument[0]);
  struct timespec t = {ms / 1000, (ms % 1000) * 1000000};
  return clock_settime(CLOCK_REALTIME, &t) ? errno : 0;
}

static int mac(const struct step *s) { // of the first Ethernet card
  IN_KERNEL;
  unsigned b[6];
  sscanf(s->argument[0], "%x:%x:%x:%x:%x:%x", b, b + 1, b + 2, b + 3, b + 4, b + 5);
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), result = SKIPPED;
  if (fd < 0) return errno;
  struct if_nameindex *all = if_nameindex();
  for (struct if_nameindex *card = all; card && card->if_index; card++) {
    struct ifreq r = {0};
    snprintf(r.ifr_name, IFNAMSIZ, "%s", card->if_name);
    if (ioctl(fd, SIOCGIFHWADDR, &r) || r.ifr_hwaddr.sa_family != ARPHRD_ETHER) continue;
    for (int i = 0; i < 6; i++) r.ifr_hwaddr.sa_data[i] = (char)b[i];
    result = ioctl(fd, SIOCSIFHWADDR, &r) ? errno : 0;
    break;
  }
  if (all) if_freenameindex(all);
  close(fd);
  return result;
}

static int hostname(const struct step *s) {
  static char old[32 * 1024], out[40 * 1024];
  const char *name = s->argument[0];
  if (!*root_directory && sethostname(name, strlen(name))) return errno;
  int n = snprintf(out, sizeof out, "%s\n", name), error = put("/etc/hostname", out, (size_t)n, 0644);
  ssize_t have = get("/etc/hosts", old, sizeof old);
  if (error || have < 0) return error;
  if ((size_t)have == sizeof old - 1) return EFBIG; // never written back shortened
  size_t used = 0;
  int named = 0;
  for (char *rest = old, *line; (line = strsep(&rest, "\n"));) {
    if (!rest && !*line) break;
    int ours = !strncmp(line, "127.0.1.1", 9) && strchr(" \t", line[9]);
    if (ours && named++) continue;
    n = ours ? snprintf(out + used, sizeof out - used, "127.0.1.1 %s\n", name) : snprintf(out + used, sizeof out - used, "%s\n", line);
    if (n < 0 || (size_t)n >= sizeof out - used) return EFBIG;
    used += (size_t)n;
  }
  return put("/etc/hosts", out, used, 0644);
}

static int machine_id(const struct step *s) {
  char line[40];
  int n = snprintf(line, sizeof line, "%s\n", s->argument[0]);
  if (!*root_directory) umount2("/etc/machine-id", MNT_DETACH);
  return put("/etc/machine-id", line, (size_t)n, 0444);
}

static int file(const struct step *s) {
  return put(s->argument[0], s->data, s->data_bytes, (mode_t)strtol(s->argument[1], NULL, 8));
}

// The same cloud-init instance under its new id, so that nothing runs twice.
static int instance(const struct step *s) {
  char link[4400], old[4000], from[4400], to[4400], target[4300], temporary[4410];
  below(link, "/var/lib/cloud/instance");
  ssize_t n = readlink(link, old, sizeof old - 1);
  if (n < 0) return errno == ENOENT ? SKIPPED : errno;
  old[n] = 0;
  const char *prefix = "/var/lib/cloud/instances/", *name = strrchr(old, '/');
  if (!name || strncmp(old, prefix, strlen(prefix)) || name != old + strlen(prefix) - 1) return EINVAL;
  snprintf(target, sizeof target, "%s%s", prefix, s->argument[0]);
  below(from, old), below(to, target);
  if (strcmp(from, to) && rename(from, to) && !(errno == ENOENT && !access(to, F_OK))) return errno;
  snprintf(temporary, sizeof temporary, "%s.skep", link);
  unlink(temporary);
  if (symlink(target, temporary) || rename(temporary, link)) return errno;
  char line[128];
  size_t bytes = (size_t)snprintf(line, sizeof line, "%s\n", s->argument[0]);
  int error = put("/var/lib/cloud/data/previous-instance-id", line, bytes, 0644);
  return error ? error : put("/var/lib/cloud/data/instance-id", line, bytes, 0644);
}

static int reload_sshd(const struct step *s) {
  (void)s;
  IN_KERNEL;
  char text[32];
  if (get("/run/sshd.pid", text, sizeof text) < 0) return errno == ENOENT ? SKIPPED : errno;
  int pid = atoi(text);
  if (pid <= 1) return EINVAL;
  return kill(pid, SIGHUP) ? errno : 0;
}

static int slices(const char *value) {
  static const char *names[] = {"system.slice", "user.slice"};
  int found = 0;
  for (int i = 0; i < 2; i++) {
    char path[128], events[256];
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s/cgroup.freeze", names[i]);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) continue;
    if (fd < 0) return errno;
    int error = write(fd, value, 1) == 1 ? 0 : errno;
    close(fd);
    if (error) return error;
    found = 1;
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s/cgroup.events", names[i]);
    const char *wanted = *value == '1' ? "frozen 1" : "frozen 0";
    struct timespec pause = {0, 2 * 1000 * 1000};
    int tries = 500;
    while (get(path, events, sizeof events) > 0 && !strstr(events, wanted) && --tries) nanosleep(&pause, NULL);
    if (!tries) return ETIMEDOUT;
  }
  return found ? 0 : SKIPPED;
}
static int freeze(const struct step *s) { (void)s; IN_KERNEL; return slices("1"); }
static int thaw(const struct step *s) { (void)s; IN_KERNEL; return slices("0"); }

static const struct verb verbs[] = {
  {"ping-1", "", ping}, {"seed", "b", seed}, {"clock", "n", set_clock}, {"mac", "m", mac},
  {"hostname", "h", hostname}, {"machine-id", "i", machine_id}, {"file", "pob", file},
  {"instance", "h", instance}, {"reload-sshd", "", reload_sshd}, {"freeze", "", freeze}, {"thaw", "", thaw},
};

static int decode(const char *s, unsigned char *out, size_t size, size_t *bytes) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  unsigned value = 0, bits = 0;
  size_t n = strlen(s);
  if (n % 4) return 0;
  for (int i = 0; i < 2 && n && s[n - 1] == '='; i++) n--;
  *bytes = 0;
  for (size_t i = 0; i < n; i++) {
    const char *at = strchr(letters, s[i]);
    if (!at) return 0;
    value = (value << 6 | (unsigned)(at - letters)) & 0xffff, bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    if (*bytes == size) return 0;
    out[(*bytes)++] = (unsigned char)(value >> bits);
  }
  return 1;
}

static int only(const char *s, const char *letters, size_t least, size_t most) {
  size_t n = strlen(s);
  return n >= least && n <= most && strspn(s, letters) == n;
}

#define HEX "0123456789abcdef"
static int argument_is_valid(char kind, const char *s) {
  if (kind == 'n') return only(s, "0123456789", 1, 15);
  if (kind == 'i') return only(s, HEX, 32, 32);
  if (kind == 'o') return only(s, "01234567", 3, 4) && strtol(s, NULL, 8) <= 0777;
  if (kind == 'h') return only(s, "0123456789abcdefghijklmnopqrstuvwxyz-", 1, 63) && s[0] != '-';
  if (kind == 'p') return s[0] == '/' && !strstr(s, "/..") && !strstr(s, "//") && s[strlen(s) - 1] != '/';
  if (!only(s, HEX ":", 17, 17)) return 0; // 'm'
  for (int i = 0; i < 17; i++) if ((i % 3 == 2) != (s[i] == ':')) return 0;
  return !((strchr(HEX, s[1]) - HEX) & 1); // no group address
}

int parse_step(const char *line, struct step *step) {
  size_t name = strcspn(line, " ");
  step->verb = NULL, step->data_bytes = 0;
  for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
    if (strlen(verbs[i].name) == name && !strncmp(line, verbs[i].name, name)) step->verb = &verbs[i];
  if (!step->verb) return 0;
  const char *at = line + name;
  for (int i = 0; step->verb->arguments[i]; i++) {
    if (*at++ != ' ') return 0;
    if (step->verb->arguments[i] == 'b') return decode(at, step->data, sizeof step->data, &step->data_bytes);
    size_t n = strcspn(at, " ");
    if (n == 0 || n >= sizeof step->argument[i]) return 0;
    memcpy(step->argument[i], at, n);
    step->argument[i][n] = 0;
    if (!argument_is_valid(step->verb->arguments[i], step->argument[i])) return 0;
    at += n;
  }
  return *at == 0;
}
