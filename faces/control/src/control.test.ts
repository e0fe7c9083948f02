import assert from "node:assert/strict";
import { request } from "node:http";
import { connect } from "node:net";
import { test } from "node:test";
import type { ApiClient } from "@skep/api";
import { globMatches } from "./glob.ts";
import { testControl } from "./test-control.ts";

interface Answer {
  status: number;
  body: { error?: { code: string; message: string } };
}

/** A request as any program may send it, past the typed client. */
function raw(
  socketPath: string,
  method: string,
  path: string,
  options: { body?: string; headers?: Record<string, string> } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { socketPath, method, path, headers: { "content-type": "application/json", ...options.headers } },
      (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (piece: string) => {
          text += piece;
        });
        answer.on("end", () =>
          resolve({ status: answer.statusCode ?? 0, body: JSON.parse(text) as Answer["body"] }),
        );
      },
    );
    outgoing.once("error", reject);
    outgoing.end(options.body);
  });
}

async function newMachine(client: ApiClient, name: string): Promise<void> {
  await client.job("createMachine", { body: { name } });
}

test("a machine is made, listed, started, filtered and removed through the typed client", async () => {
  await using t = await testControl();
  const notes: string[] = [];
  const made = await t.client.job(
    "createMachine",
    { body: { name: "web" } },
    { onNote: (note) => notes.push(note) },
  );
  assert.equal((made as { name: string }).name, "web");
  assert.deepEqual(notes, ["made web"]);
  await newMachine(t.client, "db");
  await t.client.job("startMachine", { path: { name: "web" }, body: {} });
  const names = async (query: Parameters<typeof list>[0]) => (await list(query)).map(({ name }) => name);
  const list = (query: { state?: "running"; name?: string; image?: string }) =>
    t.client.call("listMachines", { query });
  assert.deepEqual(await names({}), ["db", "web"]);
  assert.deepEqual(await names({ state: "running" }), ["web"]);
  assert.deepEqual(await names({ name: "d*" }), ["db"]);
  assert.deepEqual(await names({ image: "other" }), []);
  await t.client.job("removeMachine", { path: { name: "db" }, query: { force: true } });
  await assert.rejects(t.client.call("getMachine", { path: { name: "db" } }), {
    code: "MACHINE_NOT_FOUND",
    status: 404,
  });
});

test("ports, stats, command line, logs, screenshot, ssh config, version and doctor answer", async () => {
  await using t = await testControl();
  await newMachine(t.client, "web");
  const path = { name: "web" };
  assert.equal((await t.client.call("addPort", { path, body: { hostPort: 8080, guestPort: 80 } })).length, 1);
  assert.deepEqual(await t.client.call("removePort", { path: { ...path, hostPort: 8080 } }), []);
  await t.client.job("startMachine", { path, body: {} });
  assert.equal((await t.client.call("allStats")).length, 1);
  assert.equal((await t.client.call("machineQemu", { path })).command.at(-1), "web");
  assert.match(String(await readAll(await t.client.stream("machineLogs", { path }))), /log of web/);
  assert.equal((await readAll(await t.client.stream("machineScreenshot", { path })))[1], 0x50);
  assert.match(String(await readAll(await t.client.stream("sshConfig"))), /Host web\.skep/);
  assert.equal((await t.client.call("version")).version, "1.2.3");
  assert.equal((await t.client.call("doctor"))[0]?.status, "ok");
  assert.match(String(await readAll(await t.client.stream("metrics"))), /skep_machines\{state="running"\} 1/);
});

async function readAll(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
}

test("a log that is followed ends when its reader leaves", async () => {
  await using t = await testControl();
  await newMachine(t.client, "web");
  const stream = await t.client.stream("machineLogs", { path: { name: "web" }, query: { follow: true } });
  for await (const piece of stream) {
    assert.match(String(piece), /log of web/);
    break;
  }
  // Closing waits for nothing that is still read.
});

test("images are listed with their users, shown with their manifest, pulled and verified", async () => {
  await using t = await testControl();
  await newMachine(t.client, "web");
  const [image] = await t.client.call("listImages");
  assert.deepEqual([image?.name, image?.format, image?.usedBy], ["tiny", "none", ["web"]]);
  const details = await t.client.call("getImage", { path: { ref: "sha256:0" } });
  assert.deepEqual(details.manifest, { version: 1 });
  const pulled = await t.client.job("pullImage", { body: { name: "tiny" } });
  assert.equal((pulled as { digest: string }).digest, "sha256:0");
  assert.deepEqual(await t.client.job("verifyImage", { path: { ref: "tiny" } }), { ok: true });
  assert.equal(await t.client.call("removeImage", { path: { ref: "tiny" } }), undefined);
});

test("what is wrong with a request is said by field", async () => {
  await using t = await testControl();
  const cases: [string, RegExp][] = [
    ['{"name":"a","bogus":1}', /unknown field "bogus"/],
    ['{"name":"a","ports":[{"hostPort":99999,"guestPort":1}]}', /"ports\[0\]\.hostPort" must be <= 65535/],
    ['{"name":"a","ports":[{"hostPort":1,"guestPort":1,"x":2}]}', /unknown field "x" in "ports\[0\]"/],
    ['{"name":"a","arch":"mips"}', /"arch" must be "x86_64" or "aarch64"/],
    ["{}", /"name" is missing/],
    ["[]", /must be object/],
    ['{"name":7}', /"name" must be string/],
    ['{"name":"a","cpus":"2"}', /"cpus" must be integer/],
    ['{"name":', /not valid JSON/],
    ['{"name":"a","__proto__":{"x":1}}', /not valid/],
  ];
  for (const [body, expected] of cases) {
    const answer = await raw(t.socket, "POST", "/v1/machines", { body });
    assert.equal(answer.status, 400, body);
    assert.equal(answer.body.error?.code, "REQUEST_INVALID");
    assert.match(answer.body.error?.message ?? "", expected);
  }
  const bad = await raw(t.socket, "GET", "/v1/machines?state=odd&x=1");
  assert.equal(bad.status, 400);
  assert.equal(
    (await raw(t.socket, "POST", "/v1/machines", { body: '{"name":"../x"}' })).body.error?.code,
    "NAME_INVALID",
  );
  assert.equal(
    (await raw(t.socket, "GET", "/v1/machines/..%2f..%2fetc")).body.error?.code,
    "MACHINE_NOT_FOUND",
  );
});

test("a body that is too large, an unknown route and a plain request to a socket are refused", async () => {
  await using t = await testControl();
  const tokens = await raw(t.socket, "POST", "/v1/tokens", {
    body: JSON.stringify({ name: "x".repeat(9_000_000) }),
  });
  assert.deepEqual([tokens.status, tokens.body.error?.code], [413, "BODY_TOO_LARGE"]);
  const nowhere = await raw(t.socket, "GET", "/v1/nowhere");
  assert.deepEqual([nowhere.status, nowhere.body.error?.code], [404, "ROUTE_NOT_FOUND"]);
  assert.equal((await raw(t.socket, "GET", "/%zz")).status, 400);
  const plain = await raw(t.socket, "GET", "/v1/machines/web/console");
  assert.deepEqual([plain.status, plain.body.error?.code], [426, "UPGRADE_REQUIRED"]);
});

test("a web page's request is refused, whatever it asks for", async () => {
  await using t = await testControl();
  const answer = await raw(t.socket, "GET", "/v1/version", { headers: { origin: "https://example.org" } });
  assert.deepEqual([answer.status, answer.body.error?.code], [403, "ORIGIN_REFUSED"]);
});

test("bytes that are no HTTP get an answer and an end", async () => {
  await using t = await testControl();
  const socket = connect(t.socket);
  socket.write("\x00\x01nonsense\r\n\r\n");
  const text = String(await readAll(socket));
  assert.match(text, /^HTTP\/1\.1 400 /);
  assert.match(text, /REQUEST_INVALID/);
});

test("the socket belongs to its user alone from the first moment", async () => {
  await using t = await testControl();
  const { stat } = await import("node:fs/promises");
  assert.equal((await stat(t.socket)).mode & 0o777, 0o600);
  assert.equal((await stat(`${t.home}/skep.db`)).mode & 0o777, 0o600);
});

test("a glob fits whole names, and no pattern takes long", () => {
  assert.ok(globMatches("web-*", "web-1") && globMatches("*", "") && globMatches("w?b", "web"));
  assert.ok(!globMatches("web", "web1") && !globMatches("?", "") && !globMatches("a.c", "abc"));
  assert.ok(!globMatches(`${"*a".repeat(31)}b`, "a".repeat(48)));
});

test("connections that cannot be accepted end nothing", async () => {
  await using t = await testControl();
  for (const _ of [1, 2]) t.control.app.server.emit("error", new Error("accept EMFILE"));
  assert.equal((await t.client.call("version")).version, "1.2.3");
});
