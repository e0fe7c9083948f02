// Stopping all services and sessions of the guest for a while, and never for longer.
#define _GNU_SOURCE
#include "helper.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int lease_seconds; // 0: nothing is frozen
static volatile sig_atomic_t lease_is_over;

static void at_alarm(int signal) {
  (void)signal;
  lease_is_over = 1;
}

// It runs while the guest does, and stands still while the guest is stopped, saved or asleep. Once over,
// it rings each second, so that none is missed before a read.
static void set_lease(int seconds) {
  lease_seconds = seconds, lease_is_over = 0;
  struct sigaction action = {.sa_handler = at_alarm}; // without SA_RESTART: read returns
  sigaction(SIGALRM, &action, NULL);
  struct itimerval timer = {{seconds ? 1 : 0, 0}, {seconds, 0}};
  setitimer(ITIMER_REAL, &timer, NULL);
}

void renew_lease(void) {
  if (lease_seconds) set_lease(lease_seconds);
}

void end_lease_where_over(void) {
  if (lease_is_over && lease_seconds && slices("0") <= 0) set_lease(0);
}

// All of the first level: services, sessions, machines, and those that somebody else has made.
static int is_slice(const char *name) {
  size_t n = strlen(name);
  return n > 6 && !strcmp(name + n - 6, ".slice");
}

// Frozen with the others, it could never thaw them.
static int is_inside(void) {
  char text[4096];
  if (get("/proc/self/cgroup", text, sizeof text) < 0) return 0;
  char *at = strstr(text, "0::/");
  if (!at) return 0;
  at += 4, at[strcspn(at, "/\n")] = 0;
  return is_slice(at);
}

static int set_slice(const char *name, const char *value) {
  char path[600], full[4400], events[256];
  snprintf(path, sizeof path, "/sys/fs/cgroup/%s/cgroup.freeze", name);
  if (below(full, path)) return ENAMETOOLONG;
  int fd = open(full, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? SKIPPED : errno; // it has just ended
  int error = write(fd, value, 1) == 1 ? 0 : errno;
  close(fd);
  if (error) return error == ENODEV ? SKIPPED : error;
  snprintf(path, sizeof path, "/sys/fs/cgroup/%s/cgroup.events", name);
  const char *wanted = *value == '1' ? "frozen 1" : "frozen 0";
  struct timespec pause = {0, 2 * 1000 * 1000};
  int tries = 500;
  while (get(path, events, sizeof events) > 0 && !strstr(events, wanted) && --tries) nanosleep(&pause, NULL);
  return tries ? 0 : ETIMEDOUT;
}

int slices(const char *value) {
  char path[4400];
  if (below(path, "/sys/fs/cgroup")) return ENAMETOOLONG;
  DIR *all = opendir(path);
  if (!all) return SKIPPED;
  int result = SKIPPED;
  for (struct dirent *slice; (result <= 0 || *value == '0') && (slice = readdir(all));) {
    int error = is_slice(slice->d_name) ? set_slice(slice->d_name, value) : SKIPPED;
    if (error != SKIPPED && result <= 0) result = error;
  }
  closedir(all);
  return result;
}

int freeze(const struct step *s) {
  if (is_inside()) return EDEADLK;
  prepare_mac();
  set_lease(atoi(s->argument[0]));
  int error = slices("1");
  if (error && slices("0") <= 0) set_lease(0); // all of it or nothing
  return error;
}

int thaw(const struct step *s) {
  (void)s;
  int error = slices("0");
  if (error <= 0) set_lease(0); // else the lease tries again
  return error;
}
