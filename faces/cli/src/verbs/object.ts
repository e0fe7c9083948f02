import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import type { StoredObject } from "@skep/api";
import { formatSize } from "@skep/base";
import type { Command } from "commander";
import { action, type Context, interruptible } from "../context.ts";
import { fail, usage } from "../errors.ts";
import { downloadFile, downloadStream } from "../objects/download.ts";
import { type ObjectPath, parseObjectPath, parseOneObject, relativeFile } from "../objects/object-path.ts";
import { StoreClient } from "../objects/store-client.ts";
import {
  counted,
  filesBelow,
  isDirectory,
  makeDirectories,
  objectsBelow,
  runTransfers,
  type Transfer,
  targetFile,
} from "../objects/transfers.ts";
import { upload } from "../objects/upload.ts";
import { styleFor, widthOf } from "../style.ts";
import { type Column, formatTable } from "../table.ts";
import { listBuckets } from "./bucket.ts";

interface Row {
  name: string;
  size: string;
  modified: string;
}

const columns: Column<Row>[] = [
  { title: "SIZE", text: (row) => row.size, align: "right" },
  { title: "MODIFIED", text: (row) => row.modified, dropOrder: 1 },
  { title: "KEY", text: (row) => row.name },
];

const rowOf = ({ key, sizeBytes, modifiedAt }: StoredObject): Row => {
  return { name: key, size: formatSize(sizeBytes), modified: modifiedAt.slice(0, 19).replace("T", " ") };
};

async function list(context: Context, path: ObjectPath, recursive: boolean): Promise<void> {
  const client = await context.client();
  const { json, quiet } = context.options;
  const all: (StoredObject | { prefix: string })[] = [];
  let continuation: string | undefined;
  let count = 0;
  for (;;) {
    const page = await client.call("listObjects", {
      path: { bucket: path.bucket },
      query: {
        prefix: path.key,
        ...(recursive ? {} : { delimiter: "/" }),
        ...(continuation === undefined ? {} : { continuation }),
      },
    });
    count += page.objects.length + page.prefixes.length;
    if (json) all.push(...page.prefixes.map((prefix) => ({ prefix })), ...page.objects);
    else if (quiet) context.print([...page.prefixes, ...page.objects.map(({ key }) => key)].join("\n"));
    else {
      const prefixes = page.prefixes.map((prefix) => ({ name: prefix, size: "-", modified: "" }));
      const rows = [...prefixes, ...page.objects.map(rowOf)];
      const options = { width: widthOf(process.stdout), bold: styleFor(process.stdout).bold };
      if (rows.length > 0) context.print(formatTable(rows, columns, options));
    }
    if (page.next === null) break;
    continuation = page.next;
  }
  if (json) context.printJson(all);
  else if (count === 0)
    context.note(`nothing in ${path.bucket}${path.key === "" ? "" : ` begins with ${path.key}`}`);
}

function tell(context: Context, names: readonly string[], verb: string): void {
  if (context.options.json) context.printJson({ [verb]: names });
  else if (context.options.quiet) context.print(names.join("\n"));
  else context.print(counted(names, verb));
}

interface PutFlags {
  recursive?: boolean;
  contentType?: string;
}

async function put(context: Context, words: string[], flags: PutFlags): Promise<void> {
  const target = parseObjectPath(words.at(-1)!);
  const sources = words.slice(0, -1);
  const store = await StoreClient.open(context);
  const { contentType } = flags;
  const intoFolder = target.key === "" || target.key.endsWith("/");
  if (sources.length > 1 && !intoFolder) {
    throw usage("several files need a prefix that ends with /", `write ${target.bucket}/${target.key}/`);
  }
  const transferOf = (path: string, key: string, sizeBytes?: number): Transfer => ({
    name: `${target.bucket}/${key}`,
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
    async run({ signal, onBytes }) {
      const source = path === "-" ? process.stdin : createReadStream(path, { highWaterMark: 1024 * 1024 });
      try {
        await upload(store, { bucket: target.bucket, key }, source, { contentType, signal, onBytes });
      } finally {
        source.destroy();
      }
    },
  });
  async function* transfers(): AsyncGenerator<Transfer> {
    for (const source of sources) {
      if (source === "-") {
        if (intoFolder) throw fail("OBJECT_PATH", { path: words.at(-1), why: "names no object" });
        yield transferOf("-", target.key);
        continue;
      }
      const found = await stat(source).catch((error: Error) => {
        throw fail("INPUT_UNREADABLE", { path: source, why: error.message }, { cause: error });
      });
      if (!found.isDirectory()) {
        const key = intoFolder ? `${target.key}${basename(source)}` : target.key;
        yield transferOf(source, key, found.isFile() ? found.size : undefined);
        continue;
      }
      if (flags.recursive !== true) {
        throw fail("INPUT_UNREADABLE", { path: source, why: "it is a directory; -r stores what is in it" });
      }
      const prefix = intoFolder ? target.key : `${target.key}/`;
      const passedOver = (path: string, why: string) => context.note(`left out ${path}: ${why}`);
      for await (const { path, relative, sizeBytes } of filesBelow(source, passedOver)) {
        yield transferOf(path, `${prefix}${relative}`, sizeBytes);
      }
    }
  }
  tell(context, await runTransfers(context, "storing", transfers()), "stored");
}

async function get(
  context: Context,
  from: string,
  to: string,
  flags: { recursive?: boolean },
): Promise<void> {
  if (flags.recursive === true) return getAll(context, parseObjectPath(from), to);
  const path = parseOneObject(from);
  const store = await StoreClient.open(context);
  if (to === "-") {
    await interruptible(
      (signal) => downloadStream(store, path, process.stdout, { signal, onSize() {}, onBytes() {} }),
      () => {},
    );
    return;
  }
  const file = await targetFile(to, path.key);
  const transfer: Transfer = {
    name: file,
    async run(meter) {
      await downloadFile(store, path, file, meter);
    },
  };
  tell(context, await runTransfers(context, "fetching", [transfer]), "fetched");
}

async function getAll(context: Context, { bucket, key: prefix }: ObjectPath, to: string): Promise<void> {
  const directory = resolve(to);
  if (!(await isDirectory(directory)))
    throw fail("COPY_TARGET", { path: to, why: "is not a directory", hint: `make it: mkdir ${to}` });
  const client = await context.client();
  const store = await StoreClient.open(context);
  async function* transfers(): AsyncGenerator<Transfer> {
    for await (const { key, sizeBytes } of objectsBelow(client, bucket, prefix)) {
      const relative = relativeFile(key, prefix.slice(0, prefix.lastIndexOf("/") + 1));
      if (relative === undefined) {
        context.note(`left out ${bucket}/${key}: its key is no name for a file`);
        continue;
      }
      const file = join(directory, relative);
      yield {
        name: file,
        sizeBytes,
        async run(meter) {
          await makeDirectories(directory, relative.endsWith("/") ? `${file}/.` : file);
          // What ends with a slash is how some tools mark a folder.
          if (!relative.endsWith("/")) await downloadFile(store, { bucket, key }, file, meter);
        },
      };
    }
  }
  tell(context, await runTransfers(context, "fetching", transfers()), "fetched");
}

async function remove(context: Context, words: string[], flags: { recursive?: boolean }): Promise<void> {
  const client = await context.client();
  const removed: string[] = [];
  const paths = words.map(flags.recursive === true ? parseObjectPath : parseOneObject);
  for (const { bucket, key } of paths) {
    if (flags.recursive !== true) {
      const { objects } = await client.call("listObjects", {
        path: { bucket },
        query: { prefix: key, limit: 1 },
      });
      if (objects[0]?.key !== key) throw fail("OBJECT_ABSENT", { path: `${bucket}/${key}`, bucket });
      await client.call("removeObjects", { path: { bucket }, body: { keys: [key] } });
      removed.push(`${bucket}/${key}`);
      continue;
    }
    let keys: string[] = [];
    const flush = async () => {
      if (keys.length > 0) await client.call("removeObjects", { path: { bucket }, body: { keys } });
      removed.push(...keys.map((one) => `${bucket}/${one}`));
      keys = [];
    };
    for await (const object of objectsBelow(client, bucket, key)) {
      keys.push(object.key);
      if (keys.length === 1000) await flush();
    }
    await flush();
  }
  tell(context, removed, "removed");
}

export function define(command: Command): void {
  command
    .summary("list, store, fetch and remove objects")
    .description(
      "Works on objects as the owner of their buckets, on this host without any key. Each transfer is compared with its checksums.",
    )
    .addHelpText(
      "after",
      "\nExamples:\n  skep object ls\n  skep object put -r ./photos album/2026/\n  tar c . | skep object put - backups/today.tar\n  skep object get backups/today.tar - | tar t",
    );
  command
    .command("ls")
    .description("List buckets, or what begins with a prefix in one of them; up to the next / without -r.")
    .argument("[path]", "BUCKET, or BUCKET/PREFIX")
    .option("-r, --recursive", "all of it")
    .action(
      action(async (context, path: string | undefined, flags: { recursive?: boolean }) => {
        if (path === undefined) await listBuckets(context);
        else await list(context, parseObjectPath(path), flags.recursive === true);
      }),
    );
  command
    .command("put")
    .description(
      "Store files, directories (-r) or standard input (-). Large ones go in parts; one that fails leaves nothing.",
    )
    .argument("<words...>", "FILE… BUCKET/KEY, or FILE… BUCKET/PREFIX/")
    .option("-r, --recursive", "directories with all that is in them")
    .option("--content-type <type>", "what GET shall say that it is")
    .action(
      action(async (context, words: string[], flags: PutFlags) => {
        if (words.length < 2)
          throw usage("skep object put needs a file and BUCKET/KEY", "see: skep help object");
        await put(context, words, flags);
      }),
    );
  command
    .command("get")
    .description(
      "Fetch an object into a file, a directory or standard output (-); a file is replaced only when all is there.",
    )
    .argument("<path>", "BUCKET/KEY, or with -r BUCKET/PREFIX")
    .argument("[target]", "a file, a directory, or -", ".")
    .option("-r, --recursive", "all that begins with it, into a directory")
    .action(action(get));
  command
    .command("rm")
    .description("Remove objects; where the bucket keeps versions, hide them behind delete markers.")
    .argument("<paths...>", "BUCKET/KEY, or with -r BUCKET/PREFIX")
    .option("-r, --recursive", "all that begins with it")
    .action(action(remove));
}
