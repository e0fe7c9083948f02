// skep's resident helper: one message of many steps in, one answer out. PROTOCOL.md describes it.
#define _GNU_SOURCE
#include "helper.h"
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
  const char *why = result == 0 ? "" : result == SKIPPED ? "not in this guest" : strerror(result);
  int n = snprintf(answer + answered, sizeof answer - answered, "step %s %d %s %s %s\n", id, step, verb, word, why);
  if (n > 0 && (size_t)n < sizeof answer - answered) answered += (size_t)n;
}

static int is_id(const char *s) {
  size_t n = strspn(s, "0123456789abcdefghijklmnopqrstuvwxyz-");
  return n > 0 && n <= 64 && s[n] == 0;
}

static void send_all(int fd, const char *data, size_t n) {
  while (n > 0) {
    ssize_t w = write(fd, data, n);
    if (w < 0 && errno == EINTR) continue;
    if (w <= 0) return; // the host has gone: it asks again, and every step may be repeated
    data += w, n -= (size_t)w;
  }
}

// Everything is checked before anything is done. lines: the steps, each ended by a zero byte.
static void run_message(int fd, const char *id, char *lines, int count) {
  answered = 0;
  char *line = lines;
  for (int i = 0; i < count; i++, line += strlen(line) + 1) {
    static struct step step;
    if (parse_step(line, &step)) continue;
    answered = (size_t)snprintf(answer, sizeof answer, "refused %s step %d is not valid\n", id, i);
    send_all(fd, answer, answered);
    return;
  }
  line = lines;
  for (int i = 0; i < count; i++) {
    size_t n = strlen(line) + 1;
    static struct step step;
    parse_step(line, &step);
    answer_line(id, i, step.verb->name, step.verb->run(&step));
    line += n;
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
    if (memchr(start, 0, (size_t)(end - start))) open_message = 0; // no line of ours has a zero byte
    *end = 0;
    if (!skip_line) take_line(fd, start);
    skip_line = 0;
    start = end + 1;
  }
  held -= (size_t)(start - message);
  memmove(message, start, held);
  if (held == MESSAGE_BYTES) held = 0, skip_line = 1, open_message = 0; // no line is that long
}

int main(int argc, char **argv) {
  const char *port = "/dev/virtio-ports/org.skep.helper.0";
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--root") && i + 1 < argc) root_directory = argv[++i];
    else port = argv[i];
  }
  if (!(steps = malloc(MESSAGE_BYTES))) return 1;
  int standard = !strcmp(port, "-"), fd;
  struct timespec pause = {0, 100 * 1000 * 1000};
  while ((fd = standard ? 0 : open(port, O_RDWR | O_CLOEXEC)) < 0) nanosleep(&pause, NULL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGIO);
  signal(SIGPIPE, SIG_IGN);
  if (!standard) {
    mlockall(MCL_CURRENT); // it answers also while the guest swaps
    struct sched_param priority = {.sched_priority = 50};
    sched_setscheduler(0, SCHED_FIFO, &priority);
    sigprocmask(SIG_BLOCK, &set, NULL); // virtio_console tells of the host's coming by SIGIO
    fcntl(fd, F_SETOWN, getpid());
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC);
  }
  for (;;) {
    ssize_t n = read(fd, message + held, MESSAGE_BYTES - held);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      if (standard) return 0;
      held = 0, skip_line = 0, open_message = 0;
      struct timespec second = {1, 0};
      sigtimedwait(&set, NULL, &second);
      continue;
    }
    held += (size_t)n;
    take_bytes(fd == 0 && standard ? 1 : fd);
  }
}
