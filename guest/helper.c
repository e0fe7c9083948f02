// skep's resident helper: one message of many steps in, one answer out. PROTOCOL.md describes it.
#define _GNU_SOURCE
#include "helper.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static char message[MESSAGE_BYTES + 1], answer[64 * 1024];
static size_t held, answered;

static void answer_line(const char *id, int step, const char *verb, int result) {
  const char *word = result == 0 ? "done" : result < 0 ? "skipped" : "failed";
  const char *why = result == 0 ? told : result == SKIPPED ? "not in this guest" : strerror(result);
  int n = snprintf(answer + answered, sizeof answer - answered, "step %s %d %s %s %s\n", id, step, verb, word, why);
  if (n > 0 && (size_t)n < sizeof answer - answered) answered += (size_t)n;
}

static int is_id(const char *s) {
  size_t n = strspn(s, "0123456789abcdefghijklmnopqrstuvwxyz-");
  return n > 0 && n <= 64 && s[n] == 0;
}

// Where the host has gone, it waits until one is there: that one passes over an answer to another.
static void send_all(int fd, const char *data, size_t n) {
  while (n > 0) {
    ssize_t w = write(fd, data, n);
    end_lease_where_over();
    if (w < 0 && errno == EINTR) continue;
    if (w <= 0) return;
    data += w, n -= (size_t)w;
  }
}

// Everything is checked before anything is done. lines: the steps, each ended by a zero byte.
static void run_message(int fd, const char *id, char *lines, int count) {
  static struct step step;
  answered = 0;
  char *line = lines;
  for (int i = 0; i < count; i++, line += strlen(line) + 1) {
    if (parse_step(line, &step)) continue;
    answered = (size_t)snprintf(answer, sizeof answer, "refused %s step %d is not valid\n", id, i);
    send_all(fd, answer, answered);
    return;
  }
  renew_lease();
  line = lines;
  int over = 0;
  for (int i = 0; i < count; i++, line += strlen(line) + 1) {
    parse_step(line, &step);
    *told = 0;
    int result = over ? SKIPPED : step.verb->run(&step);
    answer_line(id, i, step.verb->name, result);
    if (!strcmp(step.verb->name, "unless") && result == 0) over = 1;
  }
  int n = snprintf(answer + answered, sizeof answer - answered, "end %s %d\n", id, count);
  if (n > 0 && (size_t)n < sizeof answer - answered) answered += (size_t)n;
  send_all(fd, answer, answered);
}

// A message under way. "begin" always starts afresh, so that a cut-off one is dropped by the next.
static char id[65], *steps;
static size_t used;
static int count, open_message, skip_line;

static void take_line(int fd, char *line) {
  if (!strncmp(line, "begin ", 6)) {
    open_message = is_id(line + 6);
    used = 0, count = 0;
    if (open_message) strcpy(id, line + 6);
    return;
  }
  if (!open_message) return;
  if (!strncmp(line, "go ", 3)) {
    char expected[96];
    snprintf(expected, sizeof expected, "go %s %d", id, count);
    open_message = 0;
    if (!strcmp(line, expected)) run_message(fd, id, steps, count);
    return;
  }
  size_t n = strlen(line) + 1;
  if (n + used > MESSAGE_BYTES || count >= MAX_STEPS) {
    open_message = 0;
    answered = (size_t)snprintf(answer, sizeof answer, "refused %s the message is too large\n", id);
    send_all(fd, answer, answered);
    return;
  }
  memcpy(steps + used, line, n);
  used += n, count++;
}

static void take_bytes(int fd) {
  char *start = message, *end;
  while ((end = memchr(start, '\n', held - (size_t)(start - message)))) {
    int broken = skip_line || memchr(start, 0, (size_t)(end - start)); // no line of ours has a zero byte
    *end = 0;
    if (broken) open_message = 0;
    else take_line(fd, start);
    skip_line = 0;
    start = end + 1;
  }
  held -= (size_t)(start - message);
  memmove(message, start, held);
  if (held == MESSAGE_BYTES) held = 0, skip_line = 1, open_message = 0; // no line is that long
}

// Found by the name that sysfs has, as not every guest has the links that udev makes.
static int open_port(void) {
  static const char directory[] = "/sys/class/virtio-ports";
  DIR *all = opendir(directory);
  if (!all) return -1;
  int fd = -1;
  for (struct dirent *port; fd < 0 && (port = readdir(all));) {
    char path[400], name[64];
    snprintf(path, sizeof path, "%s/%s/name", directory, port->d_name);
    if (get(path, name, sizeof name) <= 0 || strcmp(name, "org.skep.helper.0\n")) continue;
    snprintf(path, sizeof path, "/dev/%s", port->d_name);
    fd = open(path, O_RDWR | O_CLOEXEC);
  }
  closedir(all);
  return fd;
}

static void wait_for_port(int *fd) {
  for (int tries = 0; (*fd = open_port()) < 0; tries++) {
    struct timespec pause = {tries < 100 ? 0 : 5, tries < 100 ? 100 * 1000 * 1000 : 0};
    nanosleep(&pause, NULL);
  }
}

static void settle_in(int fd) {
  slices("0"); // an earlier one may have been killed between freeze and thaw
  mlockall(MCL_CURRENT); // it answers also while the guest swaps
  struct sched_param priority = {.sched_priority = 50};
  sched_setscheduler(0, SCHED_FIFO, &priority);
  fcntl(fd, F_SETOWN, getpid());
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC); // virtio_console tells of the host's coming by SIGIO
}

// skep-helper [--root DIRECTORY]: with a directory, standard input is the port and files are below it.
int main(int argc, char **argv) {
  if (argc == 3 && !strcmp(argv[1], "--root") && argv[2][0] == '/') root_directory = argv[2];
  else if (argc != 1) return 2;
  if (!(steps = malloc(MESSAGE_BYTES))) return 1;
  int standard = *root_directory, fd = 0;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGIO);
  sigprocmask(SIG_BLOCK, &set, NULL);
  signal(SIGPIPE, SIG_IGN);
  if (!standard) wait_for_port(&fd), settle_in(fd);
  for (;;) {
    end_lease_where_over();
    ssize_t n = read(fd, message + held, MESSAGE_BYTES - held);
    if (n < 0 && errno == EINTR) continue;
    if (n > 0) {
      held += (size_t)n;
      take_bytes(standard ? 1 : fd);
      continue;
    }
    if (standard) return 0;
    held = 0, skip_line = 0, open_message = 0;
    struct timespec minute = {60, 0};
    sigtimedwait(&set, NULL, &minute); // the host is not there
  }
}
