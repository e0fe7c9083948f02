import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { GuestHelper } from "./helper-client.ts";
import { AnswerDecoder, encodeMessage, type HelperStep, maxSteps } from "./helper-codec.ts";

let directory: string;
before(async () => {
  directory = await mkdtemp("/tmp/skep-helper-");
});
after(() => rm(directory, { recursive: true, force: true }));

const ping: HelperStep = { verb: "ping-1" };
const two: HelperStep[] = [{ verb: "hostname", name: "web" }, { verb: "thaw" }];
const answerTo = (id: string) =>
  `step ${id} 0 hostname done \nstep ${id} 1 thaw skipped not in this guest\nend ${id} 2\n`;
const results = [
  { verb: "hostname", outcome: "done", why: "" },
  { verb: "thaw", outcome: "skipped", why: "not in this guest" },
];

describe("the helper's messages", () => {
  it("are said as PROTOCOL.md has them", () => {
    const steps: HelperStep[] = [
      ping,
      { verb: "seed", bytes: Buffer.from("abc") },
      { verb: "clock", unixMs: 1.5e12 },
      { verb: "mac", address: "52:54:00:AB:CD:EF" },
      { verb: "machine-id", id: "0".repeat(32) },
      { verb: "has", path: "/etc/x" },
      { verb: "own-file", path: "/etc/x", mode: 0o600, content: Buffer.from("x") },
      { verb: "instance", id: "a-b" },
      { verb: "freeze", seconds: 30 },
      { verb: "reload-sshd" },
    ];
    assert.equal(
      encodeMessage("x", steps).toString(),
      [
        ...["", "begin x", "ping-1", "seed YWJj", "clock 1500000000000", "mac 52:54:00:ab:cd:ef"],
        ...[`machine-id ${"0".repeat(32)}`, "has /etc/x", "own-file /etc/x 600 eA=="],
        ...["instance a-b", "freeze 30"],
        ...["reload-sshd", "go x 10", ""],
      ].join("\n"),
    );
  });

  it("are not sent where the helper would take them for something else", () => {
    for (const name of ["", "a b", "a\nthaw", "ä"]) {
      assert.match(JSON.stringify(encodeMessage("x", [{ verb: "hostname", name }])), /step 0 \(hostname\)/);
    }
    assert.ok("wrong" in encodeMessage("x", []));
    assert.ok("wrong" in encodeMessage("x", Array<HelperStep>(maxSteps + 1).fill(ping)));
    const content = Buffer.alloc(200_000);
    assert.ok("wrong" in encodeMessage("x", [{ verb: "own-file", path: "/x", mode: 0o644, content }]));
  });

  it("are answered, in pieces and behind the answers to others", () => {
    const text = Buffer.from(`ne skipped\nend old 1\n%%\n\nstep old 0 hostname done\n${answerTo("x")}`);
    for (let size = 1; size < text.length; size += 7) {
      const decoder = new AnswerDecoder("x", two);
      const answers = [];
      for (let at = 0; at < text.length; at += size) answers.push(decoder.push(text.subarray(at, at + size)));
      assert.deepEqual(answers.at(-1), { results });
    }
    assert.deepEqual(new AnswerDecoder("x", two).push(Buffer.from("refused x step 0 is\x1b[1m bad\n")), {
      refused: "step 0 is?[1m bad",
    });
  });

  it("are not taken for answered by what no helper says", () => {
    const wrong = [
      "end x 0\n",
      "end x 2\n",
      "step x 1 thaw done \n",
      "step x 0 thaw done \n",
      "step x 0 hostname perhaps \n",
      "what x 0\n",
      answerTo("x").replace("end x 2", "end x 3"),
      "y".repeat(5000),
    ];
    for (const text of wrong) {
      assert.throws(() => new AnswerDecoder("x", two).push(Buffer.from(text)), { name: "LineError" }, text);
    }
  });
});

interface FakeHelper extends AsyncDisposable {
  path: string;
  connections(): number;
}

/** Stands where QEMU's socket would be; `answer` gets each message's id. */
async function fakeHelper(
  answer: (id: string, socket: Socket, connection: number) => void,
): Promise<FakeHelper> {
  const path = join(directory, `${Math.random().toString(36).slice(2)}.sock`);
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    const connection = sockets.size;
    let held = "";
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      held += bytes;
      for (let go = /go (\S+) \d+\n/.exec(held); go !== null; go = /go (\S+) \d+\n/.exec(held)) {
        held = held.slice(go.index + go[0].length);
        answer(go[1] as string, socket, connection);
      }
    });
  });
  server.listen(path);
  await once(server, "listening");
  return {
    path,
    connections: () => sockets.size,
    async [Symbol.asyncDispose]() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

describe("GuestHelper", () => {
  it("tells what became of each step, one exchange at a time over one connection", async () => {
    let open = 0;
    await using server = await fakeHelper((id, socket) => {
      open += 1;
      assert.equal(open, 1);
      socket.write("step an-earlier-one 0 thaw done \nend an-earlier-one 1\n");
      setImmediate(() => {
        open -= 1;
        socket.write(answerTo(id));
      });
    });
    await using helper = new GuestHelper(server.path);
    await helper.connect();
    const all = await Promise.all(Array.from({ length: 20 }, () => helper.exchange(two)));
    for (const one of all) assert.deepEqual(one, results);
    assert.equal(server.connections(), 1);
  });

  it("lists the verbs that the guest's helper knows", async () => {
    await using server = await fakeHelper((id, socket) =>
      socket.write(`step ${id} 0 ping-1 done ping-1 thaw\nend ${id} 1\n`),
    );
    await using helper = new GuestHelper(server.path);
    assert.deepEqual(await helper.ping(), new Set(["ping-1", "thaw"]));
  });

  it("says that nothing was done where it is refused, and goes on", async () => {
    let refuse = true;
    await using server = await fakeHelper((id, socket) => {
      socket.write(refuse ? `refused ${id} step 1 is not valid\n` : answerTo(id));
      refuse = false;
    });
    await using helper = new GuestHelper(server.path);
    await assert.rejects(helper.exchange(two), { code: "HELPER_REFUSED", message: /step 1 is not valid/ });
    await assert.rejects(helper.exchange([]), { code: "HELPER_REFUSED" });
    assert.deepEqual(await helper.exchange(two), results);
    assert.equal(server.connections(), 1);
  });

  it("gives up in time or when told to, drops what was not read, and the next exchange goes on", async () => {
    await using server = await fakeHelper((id, socket, connection) => {
      if (connection > 2) socket.write(answerTo(id));
    });
    await using helper = new GuestHelper(server.path);
    await assert.rejects(helper.exchange(two, { timeoutMs: 50 }), {
      code: "HELPER_SILENT",
      message: /50 ms/,
    });
    const abort = new AbortController();
    const running = helper.exchange(two, { signal: abort.signal });
    const waiting = helper.exchange(two, { timeoutMs: 50 });
    await assert.rejects(waiting, { code: "HELPER_SILENT" });
    const behind = helper.exchange(two);
    abort.abort();
    await assert.rejects(running, { code: "CANCELLED" });
    assert.deepEqual(await behind, results);
    assert.equal(server.connections(), 3);
  });

  it("says so at once when QEMU hangs up, nobody listens, or something else answers", async () => {
    await using server = await fakeHelper((id, socket, connection) => {
      if (connection === 1) socket.destroy();
      else if (connection === 2) socket.write(`step ${id} 7 thaw done\n`);
      else socket.write(answerTo(id));
    });
    await using helper = new GuestHelper(server.path);
    await assert.rejects(helper.exchange(two), { code: "HELPER_SILENT", message: /QEMU has closed/ });
    await assert.rejects(helper.exchange(two), { code: "HELPER_SILENT", message: /not the protocol/ });
    assert.deepEqual(await helper.exchange(two), results);
    await using nobody = new GuestHelper(join(directory, "none.sock"));
    await assert.rejects(nobody.connect(), { code: "HELPER_SILENT", message: /no such socket/ });
  });
});
