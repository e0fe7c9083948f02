import { fail } from "./errors.ts";

/** One side of a copy: a path here, a path in a machine, or the tar stream of a pipe. */
export type CopySide =
  | { kind: "local"; path: string }
  | { kind: "machine"; name: string; path: string }
  | { kind: "pipe" };

/** `NAME:PATH`, or a path here. A path with a colon is written as `./a:b`, as for scp. */
export function parseSide(text: string): CopySide {
  if (text === "-") return { kind: "pipe" };
  const colon = text.indexOf(":");
  const slash = text.indexOf("/");
  if (colon > 0 && (slash < 0 || colon < slash)) {
    return { kind: "machine", name: text.slice(0, colon), path: text.slice(colon + 1) };
  }
  if (colon === 0) throw fail("COPY_SIDES", { why: `"${text}" names no machine before the colon` });
  if (text === "") throw fail("COPY_SIDES", { why: "a path is empty" });
  return { kind: "local", path: text };
}

/** The last part of a path, without what follows it; "" for `/`, `.`, and what ends in `/.`. */
export function lastPart(path: string): string {
  const part = path.replace(/\/+$/, "").split("/").at(-1) ?? "";
  return part === "." ? "" : part;
}

export type TargetKind = "directory" | "file" | "none";

/**
 * Where one source goes, by docker cp's rules: below a directory that exists, as the new name where
 * nothing exists, over a file. `directory` is extracted into, `name` is the source's name there, and ""
 * means the content itself.
 */
export function placeSource(
  source: { path: string; isDirectory: boolean },
  target: { path: string; kind: TargetKind },
  several: boolean,
): { intoParent: boolean; name: string } {
  const { path, kind } = target;
  const contentOnly = source.isDirectory && (/(^|\/)\.\/?$/.test(source.path) || /^\/+$/.test(source.path));
  if (kind === "directory") return { intoParent: false, name: contentOnly ? "" : lastPart(source.path) };
  if (several)
    throw fail("COPY_TARGET", {
      path,
      why: "is no directory",
      hint: "several files go into a directory that exists",
    });
  if (kind === "file") {
    if (source.isDirectory)
      throw fail("COPY_TARGET", {
        path,
        why: "is a file; a directory cannot replace it",
        hint: "name another target",
      });
    if (path.endsWith("/"))
      throw fail("COPY_TARGET", { path, why: "is a file, not a directory", hint: "leave the slash out" });
    return { intoParent: true, name: lastPart(path) };
  }
  if (!source.isDirectory && path.endsWith("/")) {
    throw fail("COPY_TARGET", {
      path,
      why: "is no directory that exists",
      hint: "make it first, or leave the slash out",
    });
  }
  return { intoParent: true, name: lastPart(path) };
}
