/**
 * Flags of Node.js for a process through which many bytes pass. What is received comes in buffers that are
 * garbage at once, and that V8 collects with its young objects: in a small space it does so often, which
 * is cheap, and needs some 40 MB less.
 */
export const passingBytesFlags: readonly string[] = ["--max-semi-space-size=1"];
