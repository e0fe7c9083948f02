import type { Readable, Writable } from "node:stream";

const newline = 0x0a;
/** A line that is longer is printed in pieces, each as a line of its own: a command may never end its line. */
const longestLine = 64 * 1024;

/** Prints a stream line by line, each behind its label, as fast as the target takes it. Ends with the stream. */
export async function printLabelled(from: Readable, label: string, to: Writable): Promise<void> {
  const print = (line: Uint8Array) => write(to, Buffer.concat([Buffer.from(label), line, Buffer.from("\n")]));
  let rest: Buffer = Buffer.alloc(0);
  for await (const piece of from as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    for (;;) {
      const end = rest.indexOf(newline);
      const length = end < 0 ? rest.length : end;
      if (end < 0 && length < longestLine) break;
      const cut = Math.min(length, longestLine);
      await print(rest.subarray(0, cut));
      rest = rest.subarray(cut === end ? cut + 1 : cut);
    }
  }
  if (rest.length > 0) await print(rest);
}

/** Resolves when there is room for more; what nobody reads any more is dropped. */
function write(to: Writable, bytes: Uint8Array): Promise<void> {
  if (to.destroyed || to.write(bytes)) return Promise.resolve();
  return new Promise((resolve) => {
    const settle = () => {
      to.removeListener("drain", settle).removeListener("close", settle);
      resolve();
    };
    to.once("drain", settle).once("close", settle);
  });
}
