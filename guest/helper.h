// What the helper's parts share.
#include <stddef.h>
#define MESSAGE_BYTES (256 * 1024)
#define MAX_STEPS 64
#define MAX_ARGUMENTS 3
#define SKIPPED (-1)

struct step;
struct verb {
  const char *name;
  const char *arguments; // one letter each: see argument_is_valid
  int (*run)(const struct step *); // 0 done, SKIPPED, else an errno
};
struct step {
  const struct verb *verb;
  char argument[MAX_ARGUMENTS][4096];
  unsigned char data[192 * 1024]; // the last argument, where it is base64
  size_t data_bytes;
};
extern const char *root_directory; // files are below it and the kernel is left alone; "" in a guest
int parse_step(const char *line, struct step *step); // 1 where it is valid
