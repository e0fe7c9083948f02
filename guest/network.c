// The network card's address: in the kernel, and in the files by which a network's configuration finds it.
#define _GNU_SOURCE
#include "helper.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const directories[] = {
  "/etc/systemd/network", "/run/systemd/network", "/etc/netplan", "/run/netplan", "/etc/udev/rules.d",
  "/etc/NetworkManager/system-connections", "/run/NetworkManager/system-connections",
  "/etc/sysconfig/network-scripts", "/etc/network/interfaces.d", NULL,
};

static int attribute(const char *card, const char *name, char *out, size_t size) {
  char path[600];
  snprintf(path, sizeof path, "/sys/class/net/%s/%s", card, name);
  ssize_t n = get(path, out, size);
  if (n <= 0) return 0;
  out[strcspn(out, "\n")] = 0;
  return 1;
}

// The first Ethernet card with hardware behind it, which bridges and tunnels have not.
static int find_card(char *name, size_t size, char address[32]) {
  char path[4400], text[32];
  if (below(path, "/sys/class/net")) return 0;
  DIR *all = opendir(path);
  if (!all) return 0;
  int lowest = 0;
  for (struct dirent *card; (card = readdir(all));) {
    if (*card->d_name == '.' || strlen(card->d_name) >= size) continue;
    char device[4700];
    snprintf(device, sizeof device, "%s/%s/device", path, card->d_name);
    if (access(device, F_OK) || !attribute(card->d_name, "type", text, sizeof text)) continue;
    if (atoi(text) != ARPHRD_ETHER || !attribute(card->d_name, "ifindex", text, sizeof text)) continue;
    int index = atoi(text);
    if (index < 1 || (lowest && index > lowest)) continue;
    if (!attribute(card->d_name, "address", address, 32) || strlen(address) != 17) continue;
    lowest = index;
    strcpy(name, card->d_name);
  }
  closedir(all);
  return lowest > 0;
}

static int is_part(int c) { return c == ':' || isxdigit(c); }

// In text of n bytes, all of the same length: returns how many were replaced.
static int replace(char *text, size_t n, const char *old, const char *new) {
  int found = 0;
  for (size_t at = 0; at + 17 <= n; at++) {
    if (strncasecmp(text + at, old, 17)) continue;
    if (at > 0 && is_part((unsigned char)text[at - 1])) continue; // the middle of something longer
    if (at + 17 < n && is_part((unsigned char)text[at + 17])) continue;
    memcpy(text + at, new, 17);
    found++;
  }
  return found;
}

// Without a new address the files are only read.
static int rewrite_files(const char *old, const char *new) {
  static char text[256 * 1024];
  int error = 0;
  for (const char *const *directory = directories; *directory; directory++) {
    char path[4400], full[4700], name[4300];
    if (below(path, *directory)) continue;
    DIR *files = opendir(path);
    if (!files) continue;
    for (struct dirent *file; (file = readdir(files));) {
      struct stat about;
      snprintf(full, sizeof full, "%s/%s", path, file->d_name);
      if (lstat(full, &about) || !S_ISREG(about.st_mode) || about.st_size >= (off_t)sizeof text - 1) continue;
      snprintf(name, sizeof name, "%s/%s", *directory, file->d_name);
      ssize_t n = get(name, text, sizeof text);
      if (n != about.st_size || !new || !replace(text, (size_t)n, old, new)) continue;
      int failed = put(name, text, (size_t)n, about.st_mode & 0777, about.st_uid, about.st_gid);
      if (failed) error = failed;
    }
    closedir(files);
  }
  return error;
}

static char card[IFNAMSIZ], old[32]; // as they were found last

static int is_as_found(void) {
  char address[32];
  return *card && attribute(card, "address", address, sizeof address) && !strcmp(address, old);
}

// A copy of this guest then finds in memory what it would have to read from a disk that is new to it.
void prepare_mac(void) {
  if (find_card(card, sizeof card, old)) rewrite_files(old, NULL);
}

// The files first: they are found by the address that the card still has, should this be done again.
int set_mac(const struct step *s) {
  const char *new = s->argument[0];
  if (!is_as_found() && !find_card(card, sizeof card, old)) return SKIPPED;
  int error = rewrite_files(old, new);
  if (error) return error;
  IN_KERNEL;
  unsigned b[6];
  sscanf(new, "%x:%x:%x:%x:%x:%x", b, b + 1, b + 2, b + 3, b + 4, b + 5);
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  struct ifreq r = {0};
  strcpy(r.ifr_name, card);
  r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  for (int i = 0; i < 6; i++) r.ifr_hwaddr.sa_data[i] = (char)b[i];
  error = ioctl(fd, SIOCSIFHWADDR, &r) ? errno : 0;
  close(fd);
  return error;
}
