// A line of a message into a step: nothing is done before all lines are valid.
#include "helper.h"
#include <stdlib.h>
#include <string.h>

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

#define DIGITS "0123456789"
#define HEX DIGITS "abcdef"
static int argument_is_valid(char kind, const char *s) {
  if (kind == 'n') return only(s, DIGITS, 1, 15);
  if (kind == 's') return only(s, DIGITS, 1, 3) && atoi(s) >= 1 && atoi(s) <= 600;
  if (kind == 'i') return only(s, HEX, 32, 32);
  if (kind == 'o') return only(s, "01234567", 3, 4) && strtol(s, NULL, 8) <= 0777;
  if (kind == 'h') return only(s, DIGITS "abcdefghijklmnopqrstuvwxyz-", 1, 63) && s[0] != '-';
  if (kind == 'p') return s[0] == '/' && !strstr(s, "/..") && !strstr(s, "//") && s[strlen(s) - 1] != '/';
  if (!only(s, HEX ":", 17, 17)) return 0; // 'm'
  for (int i = 0; i < 17; i++) if ((i % 3 == 2) != (s[i] == ':')) return 0;
  return !((strchr(HEX, s[1]) - HEX) & 1); // no group address
}

int parse_step(const char *line, struct step *step) {
  size_t name = strcspn(line, " ");
  step->verb = NULL, step->data_bytes = 0;
  for (const struct verb *verb = verbs; verb->name; verb++)
    if (strlen(verb->name) == name && !strncmp(line, verb->name, name)) step->verb = verb;
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
