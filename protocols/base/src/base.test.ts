import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import {
  checkName,
  formatSize,
  KeyedMutex,
  parseDuration,
  parseSize,
  processStartTime,
  readVersionedJson,
  run,
  runtimeDirectory,
  SkepError,
  skepHome,
  toSkepError,
  Undo,
  writeFileAtomic,
} from "./index.ts";

describe("sizes", () => {
  it("reads binary and decimal units apart", () => {
    assert.equal(parseSize("2G"), 2 * 1024 ** 3);
    assert.equal(parseSize("512MiB"), 512 * 1024 ** 2);
    assert.equal(parseSize("512MB"), 512_000_000);
    assert.equal(parseSize("1.5g"), 1.5 * 1024 ** 3);
    assert.equal(parseSize("4096"), 4096);
    assert.equal(parseSize("2048", "MiB"), 2 * 1024 ** 3);
    assert.equal(parseSize("100b", "MiB"), 100);
  });

  for (const text of ["", "0", "0G", "-1G", "G", "1X", "1 G G", "99999999P", "1e9", "NaN", "１G"]) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseSize(text), { code: "SIZE_INVALID" });
    });
  }

  it("writes sizes for people", () => {
    assert.equal(formatSize(1536 * 1024 ** 2), "1.5 GiB");
    assert.equal(formatSize(512), "512 B");
  });

  it("reads durations", () => {
    assert.equal(parseDuration("10m"), 600_000);
    assert.equal(parseDuration("1.5h"), 5_400_000);
    assert.throws(() => parseDuration("soon"), { code: "DURATION_INVALID" });
  });
});

describe("names", () => {
  it("takes hostnames", () => {
    assert.equal(checkName("web-1"), "web-1");
  });

  for (const name of [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "a\\b",
    "-a",
    "a-",
    "A",
    "wéb",
    "a\0b",
    "a b",
    "x".repeat(49),
    "a\n",
  ]) {
    it(`refuses ${JSON.stringify(name)}`, () => {
      assert.throws(() => checkName(name), { code: "NAME_INVALID" });
    });
  }
});

describe("paths", () => {
  it("give one home one name, before and after it is there", async () => {
    const directory = await realpath(await mkdtemp(join(tmpdir(), "skep-base-")));
    try {
      await mkdir(join(directory, "real"));
      await symlink("real", join(directory, "link"));
      const home = skepHome({ SKEP_HOME: join(directory, "link/new/home") });
      assert.equal(home, join(directory, "real/new/home"));
      await mkdir(home, { recursive: true });
      assert.equal(skepHome({ SKEP_HOME: join(directory, "link/new/home") }), home);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it("keep a plain user's sockets where no session's end takes them away", {
    skip: userInfo().uid === 0,
  }, () => {
    const session = { XDG_RUNTIME_DIR: "/run/user/1000" };
    assert.equal(runtimeDirectory("/home/me/skep", session), "/home/me/skep/run");
    assert.match(runtimeDirectory(`/${"x".repeat(80)}`, session), /^\/tmp\/skep-\d+\/[0-9a-f]{8}$/);
  });
});

describe("files", () => {
  it("replaces a file as a whole, and leaves nothing when it cannot", async () => {
    const directory = await mkdtemp(join(tmpdir(), "skep-base-"));
    try {
      const path = join(directory, "a.json");
      await writeFileAtomic(path, "one");
      await writeFileAtomic(path, "two");
      assert.equal(await readFile(path, "utf8"), "two");
      await assert.rejects(writeFileAtomic(join(directory, "a.json", "below"), "three"));
      assert.deepEqual(await readdir(directory), ["a.json"]);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it("refuses another version by its name, and what is cut off", async () => {
    const directory = await mkdtemp(join(tmpdir(), "skep-base-"));
    try {
      const path = join(directory, "a.json");
      await writeFile(path, '{"version": 7}');
      await assert.rejects(readVersionedJson(path, 1), { code: "FILE_VERSION", message: /version 7/ });
      await writeFile(path, '{"version": 1');
      await assert.rejects(readVersionedJson(path, 1), { code: "FILE_DAMAGED" });
      await writeFile(path, "null");
      await assert.rejects(readVersionedJson(path, 1), { code: "FILE_DAMAGED" });
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});

describe("errors", () => {
  it("say that a disk is full in words", () => {
    const cause = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
    const error = toSkepError(cause);
    assert.deepEqual([error.code, error.status, error.cause], ["DISK_FULL", 507, cause]);
  });
});

describe("undo", () => {
  it("runs the steps in reverse, all of them, unless kept", async () => {
    const steps: string[] = [];
    await assert.rejects(async () => {
      await using undo = new Undo();
      undo.push(() => steps.push("first"));
      undo.push(() => {
        throw new Error("step failed");
      });
      undo.push(() => steps.push("last"));
    }, AggregateError);
    assert.deepEqual(steps, ["last", "first"]);
    await (async () => {
      await using undo = new Undo();
      undo.push(() => steps.push("never"));
      undo.keep();
    })();
    assert.equal(steps.length, 2);
  });
});

describe("mutex", () => {
  it("keeps one key in order, and goes on after a failure", async () => {
    const mutex = new KeyedMutex();
    const order: number[] = [];
    const first = mutex.run("a", async () => {
      await new Promise((resolve) => setImmediate(resolve));
      order.push(1);
      throw new Error("first failed");
    });
    const second = mutex.run("a", async () => order.push(2));
    await assert.rejects(first);
    await second;
    assert.deepEqual(order, [1, 2]);
  });

  it("is done under several keys at once, and those who want the same ones never wait for each other", async () => {
    const mutex = new KeyedMutex();
    const under: string[] = [];
    const work = async (name: string) => {
      under.push(name);
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal(under.pop(), name);
    };
    const wanted = [["a", "b"], ["b", "a"], ["b"], ["c", "b", "a", "c"]];
    await Promise.all(wanted.map((keys) => mutex.runAll(keys, () => work(keys.join()))));
    assert.deepEqual(under, []);
  });
});

describe("run", () => {
  it("names a missing command and how to install it", async () => {
    await assert.rejects(run("skep-no-such-command", [], { install: "apt-get install it" }), {
      code: "COMMAND_MISSING",
      hint: /apt-get install it/,
    });
  });

  it("ends a command and its children when it is cancelled", async () => {
    const abort = new AbortController();
    let child = 0;
    const running = run("sh", ["-c", "sleep 1000 & echo $! >&2; wait"], {
      signal: abort.signal,
      onStderrLine: (line) => {
        child = Number(line);
        abort.abort();
      },
    });
    await assert.rejects(
      running,
      (error: unknown) => error instanceof SkepError && error.code === "CANCELLED",
    );
    for (let i = 0; i < 500 && processStartTime(child) !== undefined; i += 1) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.equal(processStartTime(child), undefined);
  });

  it("fails, and no more than that, when no file descriptor is free", async () => {
    const script = `import { openSync } from "node:fs";
      import { run } from ${JSON.stringify(new URL("./index.ts", import.meta.url).href)};
      try { for (;;) openSync("/dev/null", "r"); } catch {}
      run("true", []).then(() => {}, (error) => process.stdout.write(error.code));`;
    const limited = 'ulimit -n 64; exec "$0" --input-type=module -e "$1"';
    const { stdout } = await run("sh", ["-c", limited, process.execPath, script]);
    assert.equal(stdout, "EMFILE");
  });

  it("shows the end of standard error", async () => {
    await assert.rejects(run("sh", ["-c", "echo broken >&2; exit 3"]), {
      code: "COMMAND_FAILED",
      message: /status 3.*broken/,
    });
  });
});
