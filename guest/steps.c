// The steps: each leaves the same when it is done twice.
#define _GNU_SOURCE
#include "helper.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *root_directory = "";
char told[512];

// File systems that were written to since the last sync: a file open on each.
static struct { dev_t device; int file; } written[8];
static int written_count;

static void remember_written(int file) {
  struct stat about;
  if (fstat(file, &about)) return;
  for (int i = 0; i < written_count; i++) if (written[i].device == about.st_dev) return;
  if (written_count == 8) return (void)syncfs(file);
  int held = fcntl(file, F_DUPFD_CLOEXEC, 0);
  if (held < 0) return (void)syncfs(file);
  written[written_count].device = about.st_dev, written[written_count++].file = held;
}

int below(char out[4400], const char *path) {
  return snprintf(out, 4400, "%s%s", root_directory, path) < 4400 ? 0 : ENAMETOOLONG;
}

// Written beside, renamed: whole or not there.
int put(const char *path, const void *data, size_t n, mode_t mode, uid_t owner, gid_t group) {
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
  if (!error && (fchown(fd, owner, group) || fchmod(fd, mode))) error = errno;
  if (!error && rename(temporary, to)) error = errno;
  if (error) unlink(temporary);
  else remember_written(fd);
  close(fd);
  return error;
}

int put_text(const char *path, const char *text, size_t n, mode_t mode) {
  return put(path, text, n, mode, geteuid(), getegid());
}

// All that earlier steps wrote, at once: file by file it takes as many flushes of the disk.
static int make_durable(const struct step *s) {
  (void)s;
  int error = 0;
  while (written_count > 0) {
    int file = written[--written_count].file;
    if (syncfs(file)) error = errno;
    close(file);
  }
  return error;
}

ssize_t get(const char *path, char *out, size_t size) {
  char from[4400];
  if (below(from, path)) return -1;
  int fd = open(from, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  size_t done = 0;
  while (done < size - 1) {
    ssize_t n = read(fd, out + done, size - 1 - done);
    if (n > 0) done += (size_t)n;
    else if (n == 0 || errno != EINTR) break;
  }
  close(fd);
  out[done] = 0;
  return (ssize_t)done;
}

static int ping(const struct step *s) {
  (void)s;
  size_t used = 0;
  for (const struct verb *verb = verbs; verb->name; verb++)
    used += (size_t)snprintf(told + used, sizeof told - used, "%s%s", used ? " " : "", verb->name);
  return 0;
}

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

static int hostname(const struct step *s) {
  static char old[32 * 1024], out[40 * 1024];
  const char *name = s->argument[0];
  if (!*root_directory && sethostname(name, strlen(name))) return errno;
  int n = snprintf(out, sizeof out, "%s\n", name), error = put_text("/etc/hostname", out, (size_t)n, 0644);
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
  return put_text("/etc/hosts", out, used, 0644);
}

// The journal lies below the old id: readers look below the new one, and the journal's service, until
// it starts again, writes below the old.
static int move_journal(const char *directory, const char *old, const char *new) {
  char path[200], from[4400], to[4400];
  struct stat about;
  snprintf(path, sizeof path, "%s/%s", directory, old);
  if (below(from, path) || lstat(from, &about) || !S_ISDIR(about.st_mode)) return 0;
  snprintf(path, sizeof path, "%s/%s", directory, new);
  if (below(to, path)) return ENAMETOOLONG;
  // The link of an id that it had before.
  if (!lstat(to, &about) && S_ISLNK(about.st_mode)) unlink(to);
  if (rename(from, to)) return errno;
  return symlink(new, from) ? errno : 0;
}

static int machine_id(const struct step *s) {
  char line[40], old[40] = "";
  int n = snprintf(line, sizeof line, "%s\n", s->argument[0]);
  ssize_t had = get("/etc/machine-id", old, sizeof old);
  if (!*root_directory) umount2("/etc/machine-id", MNT_DETACH);
  int error = 0;
  if (had >= 32 && strspn(old, "0123456789abcdef") == 32 && strncmp(old, line, 32)) {
    old[32] = 0;
    error = move_journal("/var/log/journal", old, s->argument[0]);
    int other = move_journal("/run/log/journal", old, s->argument[0]);
    if (other) error = other;
  }
  int failed = put_text("/etc/machine-id", line, (size_t)n, 0444);
  return failed ? failed : error;
}

static int has(const struct step *s) {
  char path[4400];
  if (below(path, s->argument[0])) return ENAMETOOLONG;
  return access(path, F_OK) ? SKIPPED : 0;
}

static int put_step(const struct step *s, uid_t owner, gid_t group) {
  return put(s->argument[0], s->data, s->data_bytes, (mode_t)strtol(s->argument[1], NULL, 8), owner, group);
}

static int replace_file(const struct step *s) {
  return has(s) == SKIPPED ? SKIPPED : put_step(s, geteuid(), getegid());
}

// A file in somebody's directory is theirs.
static int own_file(const struct step *s) {
  char directory[4400];
  struct stat about;
  if (below(directory, s->argument[0])) return ENAMETOOLONG;
  strrchr(directory, '/')[1] = 0;
  return stat(directory, &about) ? errno : put_step(s, about.st_uid, about.st_gid);
}

// Since OpenSSH 9.8, which has a program of its own for that, connections are served with the keys of sshd's start.
static int sshd_keeps_keys(void) {
  static const char *const session[] = {
    "/usr/lib/openssh/sshd-session", "/usr/lib/ssh/sshd-session",
    "/usr/libexec/openssh/sshd-session", "/usr/libexec/sshd-session",
  };
  for (size_t i = 0; i < sizeof session / sizeof *session; i++) if (!access(session[i], X_OK)) return 1;
  return 0;
}

static int reload_sshd(const struct step *s) {
  (void)s;
  IN_KERNEL;
  char text[32], path[64];
  if (get("/run/sshd.pid", text, sizeof text) < 0) return errno == ENOENT ? SKIPPED : errno;
  int pid = atoi(text);
  if (pid <= 1) return EINVAL;
  snprintf(path, sizeof path, "/proc/%d/comm", pid);
  if (get(path, text, sizeof text) < 0 || strcmp(text, "sshd\n")) return SKIPPED; // it has ended since
  // A reload closes its port for a moment.
  return sshd_keeps_keys() && kill(pid, SIGHUP) ? errno : 0;
}

const struct verb verbs[] = {
  {"ping-1", "", ping}, {"seed", "b", seed}, {"clock", "n", set_clock}, {"mac", "m", set_mac},
  {"hostname", "h", hostname}, {"machine-id", "i", machine_id}, {"has", "p", has}, {"unless", "p", has},
  {"own-file", "pob", own_file}, {"replace", "pob", replace_file}, {"sync", "", make_durable},
  {"instance", "h", instance}, {"reload-sshd", "", reload_sshd}, {"freeze", "s", freeze}, {"thaw", "", thaw},
  {0},
};
