/**
 * Flags of Node.js for a process through which many bytes pass. What is received comes in buffers that are
 * garbage at once, and that V8 collects with its young objects: in a small space it does so often, which
 * is cheap, and needs some 40 MB less.
 */
export const passingBytesFlags: readonly string[] = ["--max-semi-space-size=1"];

/** And of its C library: memory that one thread has given back is there for the others. */
export const passingBytesEnvironment: Readonly<Record<string, string>> = { MALLOC_ARENA_MAX: "2" };
