/** What runs in a tiny guest, whose busybox has no `pgrep`. */

/**
 * Command lines of all programs, then their names, a line each: what a shell of busybox does by itself has the shell's
 * command line, and only a name of its own.
 */
export const programs =
  "{ cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo; cat /proc/[0-9]*/comm; } 2>/dev/null";

/** Waits until no program is there that the pattern fits; it must not fit itself. */
export function gone(pattern: string): string {
  return `i=0; while ${programs} | grep -Eq '${pattern}'; do i=$((i + 1)); [ $i -lt 50 ] || exit 1; sleep 1; done`;
}
