// What the helper's parts share.
#include <stddef.h>
#include <sys/types.h>
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
extern const struct verb verbs[]; // ended by one without a name
extern char told[512]; // what a step has to tell besides its outcome
extern const char *root_directory; // files are below it and the kernel is left alone; "" in a guest
#define IN_KERNEL if (*root_directory) return SKIPPED

int parse_step(const char *line, struct step *step); // 1 where it is valid

// Paths are those of the guest, up to 4300 bytes.
int below(char out[4400], const char *path);
int put(const char *path, const void *data, size_t n, mode_t mode, uid_t owner, gid_t group);
int put_text(const char *path, const char *text, size_t n, mode_t mode); // root's
ssize_t get(const char *path, char *out, size_t size);

int instance(const struct step *step);
int set_mac(const struct step *step);
void prepare_mac(void);
int freeze(const struct step *step);
int thaw(const struct step *step);

int slices(const char *value); // "1" freezes, "0" thaws; an outcome as of a step
void renew_lease(void); // somebody has spoken to us
void end_lease_where_over(void);
