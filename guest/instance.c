// cloud-init's instance: the same one under its new id, so that nothing runs twice.
#define _GNU_SOURCE
#include "helper.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LARGEST (128 * 1024)

// What it tells of the running system (`cloud-init query`): JSON, one field a line. Each boot makes it anew.
static const char *const tellers[] = {
  "/run/cloud-init/instance-data.json", "/run/cloud-init/instance-data-sensitive.json", NULL,
};
static const char *const ids[] = {"instance-id", "instance_id", NULL};
static const char *const names[] = {"local-hostname", "local_hostname", NULL};

// Where the line `"key": "value"` has its value; NULL: it is not one of these keys.
static const char *value_of(const char *line, const char *const *keys) {
  for (line += strspn(line, " "); *keys; keys++) {
    size_t n = strlen(*keys);
    if (*line == '"' && !strncmp(line + 1, *keys, n) && !strncmp(line + 1 + n, "\": \"", 4)) return line + n + 5;
  }
  return NULL;
}

static int retell_file(const char *path, const char *id, const char *name) {
  static char old[LARGEST], out[LARGEST + LARGEST / 2];
  char from[4400];
  struct stat about;
  if (below(from, path) || lstat(from, &about) || !S_ISREG(about.st_mode)) return 0;
  ssize_t n = get(path, old, sizeof old);
  if (n < 0) return errno;
  if ((size_t)n == sizeof old - 1) return EFBIG;
  size_t used = 0;
  for (char *rest = old, *line; (line = strsep(&rest, "\n"));) {
    const char *at = value_of(line, ids), *new = at ? id : name;
    if (!at && *name) at = value_of(line, names);
    const char *end = at ? strchr(at, '"') : NULL;
    int bytes = end ? snprintf(out + used, sizeof out - used, "%.*s%s%s\n", (int)(at - line), line, new, end)
                    : snprintf(out + used, sizeof out - used, "%s\n", line);
    if (bytes < 0 || (size_t)bytes >= sizeof out - used) return EFBIG;
    used += (size_t)bytes;
  }
  // The last line had no end, or was empty.
  return put(path, out, used - 1, about.st_mode & 0777, about.st_uid, about.st_gid);
}

// The name is the one that the machine has by now.
static int retell(const char *id, const char *line, size_t bytes) {
  char name[80], path[4400];
  if (get("/etc/hostname", name, sizeof name) < 0) *name = 0;
  name[strcspn(name, "\n")] = 0;
  int error = 0;
  if (!below(path, "/run/cloud-init/.instance-id") && !access(path, F_OK))
    error = put_text("/run/cloud-init/.instance-id", line, bytes, 0644);
  for (const char *const *path = tellers; *path; path++) {
    int failed = retell_file(*path, id, name);
    if (failed) error = failed;
  }
  return error;
}

int instance(const struct step *s) {
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
  int error = put_text("/var/lib/cloud/data/previous-instance-id", line, bytes, 0644);
  if (!error) error = put_text("/var/lib/cloud/data/instance-id", line, bytes, 0644);
  int failed = retell(s->argument[0], line, bytes);
  return error ? error : failed;
}
