import { rm, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { exists, isErrno, toSkepError } from "@skep/base";
import { type Context, interruptible } from "./context.ts";
import { placeSource, type TargetKind } from "./copy-path.ts";
import { fail } from "./errors.ts";
import { type ExecChannel, openExec } from "./exec-channel.ts";
import type { ProgressView } from "./progress.ts";
import { printable } from "./style.ts";
import { extractTar } from "./tar/extract.ts";
import { packTar, sizeOf } from "./tar/pack.ts";

/** The common beginning of both scripts: `~`, an empty path and a leading dash made harmless. */
const preparePath = `d=$1
case $d in '') d=. ;; '~') d=$HOME ;; '~/'*) d=$HOME/\${d#'~/'} ;; -*) d=./$d ;; esac
`;

/** Says what the target is, then unpacks standard input there. What it made new, it removes on failure. */
const receiveScript = `${preparePath}
if [ -d "$d" ]; then echo directory; cd "$d" || exit 1; new=
else
  p=$(dirname "$d"); new=./$(basename "$d")
  if [ -e "$d" ] || [ -L "$d" ]; then echo file; new=; elif [ -d "$p" ]; then echo none; else echo orphan; exit 1; fi
  cd "$p" || exit 1
fi
[ -z "$new" ] || trap 'rm -rf "$new"; exit 1' HUP INT TERM
tar -xpof - || { status=$?; [ -z "$new" ] || rm -rf "$new"; exit $status; }
`;

/** Says what the source is, then packs it: a directory as its content, or under its name for a pipe. */
const sendScript = `${preparePath}
if [ -d "$d" ]; then
  echo directory
  if [ "$2" = named ] && [ "$(basename "$d")" != . ] && [ "$d" != / ]; then
    cd "$d/.." && exec tar -cf - "./$(basename "$d")"
  fi
  cd "$d" && exec tar -cf - .
elif [ -e "$d" ]; then echo file; cd "$(dirname "$d")" && exec tar -chf - "./$(basename "$d")"
else echo none; exit 1; fi
`;

interface RemoteSession {
  channel: ExecChannel;
  /** The script's first line. */
  kind: string;
  output: AsyncIterable<Uint8Array>;
  errorText(): string;
}

async function openScript(
  context: Context,
  name: string,
  script: string,
  args: readonly string[],
  user: string | undefined,
): Promise<RemoteSession> {
  const channel = await openExec(await context.client(), name, {
    command: ["sh", "-c", script, "skep-cp", ...args],
    ...(user === undefined ? {} : { user }),
  });
  let errorText = "";
  channel.stderr.on("data", (piece: Buffer) => {
    errorText = (errorText + piece.toString("utf8")).slice(-4096);
  });
  const pieces = channel.stdout[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let head = Buffer.alloc(0);
  while (!head.includes(0x0a) && head.length < 256) {
    const next = await pieces.next();
    if (next.done === true) break;
    head = Buffer.concat([head, next.value]);
  }
  const end = head.indexOf(0x0a);
  async function* rest() {
    if (end >= 0 && head.length > end + 1) yield head.subarray(end + 1);
    for (let next = await pieces.next(); next.done !== true; next = await pieces.next()) yield next.value;
  }
  const kind = head.toString("latin1", 0, Math.max(0, end));
  if (kind === "") {
    const status = await channel.exit;
    const missing = status === 127 ? "the machine has no shell" : `status ${status}`;
    throw fail("COPY_FAILED", { name, why: printable(errorText.trim()) || missing });
  }
  return {
    channel,
    kind,
    output: rest(),
    errorText: () => printable(errorText.trim().split("\n").slice(-4).join("; ")),
  };
}

function failed(name: string, session: RemoteSession, status: number) {
  const missing = status === 127 ? "the machine has no tar" : `tar ended with status ${status}`;
  return fail("COPY_FAILED", { name, why: session.errorText() || missing });
}

export interface CopyOptions {
  user?: string | undefined;
  view: ProgressView;
}

/** Files or directories from here into a machine. */
export async function copyIn(
  context: Context,
  sources: readonly string[],
  target: { name: string; path: string },
  options: CopyOptions,
): Promise<void> {
  const found = await Promise.all(
    sources.map(async (path) => ({ path, isDirectory: (await statHere(path)).isDirectory() })),
  );
  const total = (await Promise.all(sources.map(sizeOf))).reduce((sum, size) => sum + size, 0);
  const session = await openScript(context, target.name, receiveScript, [target.path], options.user);
  const { channel } = session;
  const phase = `copying to ${target.name}:${target.path}`;
  let done = 0;
  await interruptible(
    async (signal) => {
      try {
        if (session.kind === "orphan") {
          throw fail("COPY_TARGET", {
            path: `${target.name}:${target.path}`,
            why: "is in a directory that does not exist",
            hint: "make it first: skep exec NAME -- mkdir -p DIRECTORY",
          });
        }
        const kind = (
          session.kind === "directory" || session.kind === "file" ? session.kind : "none"
        ) as TargetKind;
        const packed = packTar(
          found.map((source) => {
            // The name that `.` and `..` stand for counts, as where a real path was given.
            const named = /(^|\/)\.\.\/?$/.test(source.path)
              ? { ...source, path: resolve(source.path) }
              : source;
            return {
              path: source.path,
              name: placeSource(named, { path: target.path, kind }, found.length > 1).name,
            };
          }),
          {
            signal,
            onBytes(count) {
              done += count;
              options.view.update({ phase, done, total, unit: "bytes" });
            },
            onLeftOut: (path, why) => options.view.note(`left out ${path}: ${why}`),
          },
        );
        channel.exit.finally(() => packed.destroy()).catch(() => {});
        const sent = pipeline(packed, channel.stdin);
        sent.catch(() => {}); // the machine's own words come first
        signal.addEventListener("abort", () => channel.signal("INT"), { once: true });
        const local = sent.then(
          () => undefined,
          (error: unknown) => error,
        );
        const early = await Promise.race([local, channel.exit.then(() => undefined)]);
        if (early !== undefined && !isErrno(early, "ERR_STREAM_PREMATURE_CLOSE")) throw early;
        const status = await channel.exit;
        if (status !== 0) throw failed(target.name, session, status);
      } finally {
        channel.close();
      }
    },
    () => options.view.note("cancelling the copy"),
  );
}

async function statHere(path: string) {
  try {
    return await stat(path);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw toSkepError(error);
    throw fail("INPUT_UNREADABLE", { path, why: "no such file" }, { cause: error });
  }
}

/** A tar stream from standard input, unpacked in a directory of a machine. */
export async function copyStreamIn(
  context: Context,
  target: { name: string; path: string },
  options: CopyOptions,
): Promise<void> {
  const session = await openScript(context, target.name, receiveScript, [target.path], options.user);
  try {
    if (session.kind !== "directory") {
      throw fail("COPY_TARGET", {
        path: `${target.name}:${target.path}`,
        why: "is no directory that exists",
        hint: "a tar stream is unpacked into a directory; make it first",
      });
    }
    process.stdin.pipe(session.channel.stdin);
    const status = await session.channel.exit;
    if (status !== 0) throw failed(target.name, session, status);
  } finally {
    process.stdin.pause();
    session.channel.close();
  }
}

/** A path of a machine as a tar stream on standard output. */
export async function copyStreamOut(
  context: Context,
  source: { name: string; path: string },
  options: CopyOptions,
): Promise<void> {
  const session = await openScript(context, source.name, sendScript, [source.path, "named"], options.user);
  try {
    if (session.kind === "none") throw missingThere(source);
    await pipeline(session.output, process.stdout, { end: false });
    const status = await session.channel.exit;
    if (status !== 0) throw failed(source.name, session, status);
  } finally {
    session.channel.close();
  }
}

function missingThere(source: { name: string; path: string }) {
  return fail("COPY_TARGET", {
    path: `${source.name}:${source.path}`,
    why: "does not exist, or lies where that user may not look",
    hint: `look: skep exec ${source.name} -- ls; or copy as root: --user root`,
  });
}

/**
 * One path of a machine to here. What the machine sends is not trusted. Resolves with how many entries
 * were left out or could not be read there.
 */
export async function copyOut(
  context: Context,
  source: { name: string; path: string },
  target: { path: string; kind: TargetKind; several: boolean },
  options: CopyOptions,
): Promise<number> {
  const session = await openScript(context, source.name, sendScript, [source.path], options.user);
  const { channel } = session;
  const phase = `copying ${source.name}:${source.path}`;
  let done = 0;
  let leftOut = 0;
  let created: string | undefined;
  return interruptible(
    async (signal) => {
      signal.addEventListener("abort", () => channel.close(), { once: true });
      try {
        if (session.kind === "none") throw missingThere(source);
        const isDirectory = session.kind === "directory";
        const named = /(^|\/)(\.\.|~)?\/?$/.test(source.path)
          ? { path: ".", isDirectory }
          : { path: source.path, isDirectory };
        const { intoParent, name } = placeSource(named, target, target.several);
        const directory = intoParent ? dirname(resolve(target.path)) : resolve(target.path);
        if (!(await exists(directory)))
          throw fail("COPY_TARGET", {
            path: directory,
            why: "does not exist",
            hint: `make it first: mkdir -p ${directory}`,
          });
        const final = join(directory, name);
        if (name !== "" && !(await exists(final))) created = final;
        const { entries } = await extractTar(session.output, {
          target: directory,
          place: (parts, kind) => {
            if (!isDirectory) return parts.length === 1 && kind === "file" ? [name] : undefined;
            return name === "" ? parts : [name, ...parts];
          },
          onBytes(count) {
            done += count;
            options.view.update({ phase, done, unit: "bytes" });
          },
          onLeftOut(entry, why) {
            leftOut += 1;
            if (leftOut <= 10) options.view.note(`left out ${printable(entry)}: ${why}`);
          },
        });
        const status = await channel.exit;
        // 1 is tar's word for files that it could not read, or that changed: the rest is whole.
        if (status > 1 || entries === 0) throw failed(source.name, session, status);
        if (status === 1) options.view.note(session.errorText());
        return leftOut + status;
      } catch (error) {
        if (created !== undefined) await rm(created, { recursive: true, force: true });
        signal.throwIfAborted();
        throw error;
      } finally {
        channel.close();
      }
    },
    () => options.view.note("cancelling the copy"),
  );
}

/** What is at a path here, links followed: it is the user's own. */
export async function kindHere(path: string): Promise<TargetKind> {
  try {
    return (await stat(path)).isDirectory() ? "directory" : "file";
  } catch (error) {
    if (isErrno(error, "ENOENT")) return "none";
    throw toSkepError(error);
  }
}
