import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { describe, it } from "node:test";
import { announcingCommand, endGroupScript, PidFilter, quote, signalName } from "./exec-quote.ts";

const shells = [["/bin/sh"], ["/bin/bash"], ["/bin/busybox", "sh"]].filter(([path]) =>
  existsSync(path ?? ""),
);

function filtered(pieces: Buffer[]): { out: string; pid: number | undefined } {
  let pid: number | undefined;
  const filter = new PidFilter((found) => {
    pid = found;
  });
  for (const piece of pieces) filter.write(piece);
  filter.end();
  return { out: filter.read()?.toString("latin1") ?? "", pid };
}

describe("quote", () => {
  it("gives every shell one word back", () => {
    const words = [
      "",
      "a b",
      "it's",
      "$HOME",
      "`id`",
      '"',
      "\\",
      "*",
      "~",
      "a\nb",
      "-n",
      "{a,b}",
      "ü€",
      "!!",
      "#x",
    ];
    for (const [path, ...args] of shells) {
      const out = execFileSync(path as string, [
        ...args,
        "-c",
        `printf '[%s]' ${words.map(quote).join(" ")}`,
      ]);
      assert.equal(out.toString(), words.map((word) => `[${word}]`).join(""), path);
    }
  });
});

describe("announcingCommand", () => {
  it("says its process id, then is the command, in any shell", () => {
    for (const [path, ...args] of shells) {
      const line = announcingCommand(["sh", "-c", 'echo "$$ $A"'], { A: "it's $x" });
      const { out, pid } = filtered([execFileSync(path as string, [...args, "-c", line])]);
      assert.equal(out, `${pid} it's $x\n`, path);
    }
  });
});

describe("PidFilter", () => {
  it("finds the announcement wherever it is split, and keeps what comes before and after", () => {
    const stream = Buffer.from("motd\r\n\x1e\x1eskep 1234\x1eout\x1eskep 9\x1eput", "latin1");
    for (let at = 0; at <= stream.length; at += 1) {
      assert.deepEqual(filtered([stream.subarray(0, at), stream.subarray(at)]), {
        out: "motd\r\n\x1eout\x1eskep 9\x1eput",
        pid: 1234,
      });
    }
  });

  it("lets output without an announcement through", () => {
    assert.deepEqual(filtered([Buffer.from("This account is not available.\n")]), {
      out: "This account is not available.\n",
      pid: undefined,
    });
    assert.equal(filtered([Buffer.alloc(300_000, "x")]).out.length, 300_000);
  });
});

describe("endGroupScript", () => {
  it("ends a group in every shell, when nothing is left to end, too", () => {
    for (const [path, ...args] of shells) {
      const pid = Number(execFileSync("setsid", ["sh", "-c", "sleep 1000 >&- 2>&- & echo $$"]).toString());
      execFileSync(path as string, [...args, "-c", endGroupScript(pid, 2)]);
      assert.throws(() => process.kill(-pid, 0), { code: "ESRCH" });
      execFileSync(path as string, [...args, "-c", endGroupScript(pid, 2)]);
    }
  });
});

describe("signalName", () => {
  it("knows signals with and without prefix, and nothing else", () => {
    assert.deepEqual(["INT", "SIGTERM", "hup", "9", "TERM; reboot", ""].map(signalName), [
      "INT",
      "TERM",
      "HUP",
      undefined,
      undefined,
      undefined,
    ]);
  });
});
