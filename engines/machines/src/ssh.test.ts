import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { describe, it } from "node:test";
import { run } from "@skep/base";
import { freePort } from "@skep/base/testing";
import { SshConnections } from "./ssh.ts";
import { noSshd, testSshd } from "./ssh-fixture.ts";

describe("SshConnections", { skip: noSshd }, () => {
  it("keeps one connection a user, opens another when it is full, and reconnects when it is lost", async () => {
    await using sshd = await testSshd();
    await using connections = new SshConnections();
    const [first, same] = await Promise.all([
      connections.connect(sshd.guest),
      connections.connect(sshd.guest),
    ]);
    assert.equal(first, same);
    const sessions = [];
    for (let i = 0; i < 8; i += 1) sessions.push(await first.session("exec cat", undefined));
    const second = await connections.connect(sshd.guest);
    assert.notEqual(second, first);
    for (const session of sessions) session.close();
    connections.drop("web");
    assert.notEqual(await connections.connect(sshd.guest), second);
  });

  it("closes an idle connection", async () => {
    await using sshd = await testSshd();
    await using connections = new SshConnections({ idleMs: 50 });
    const connection = await connections.connect(sshd.guest);
    await new Promise<void>((resolve) => connection.onClose(resolve));
    assert.notEqual(await connections.connect(sshd.guest), connection);
  });

  it("records the host key as ssh itself reads it, and refuses another one", async () => {
    await using sshd = await testSshd();
    {
      await using connections = new SshConnections();
      await connections.connect(sshd.guest);
      await connections.connect(sshd.guest);
    }
    const port = sshd.guest.sshPort()?.port;
    assert.match(await readFile(sshd.guest.paths.knownHosts, "utf8"), /^web\.skep ssh-ed25519 \S+\n$/);
    const { path } = await sshd.guest.context.ownKeys();
    const { stdout } = await run("ssh", [
      ...["-F", "none", "-i", path, "-p", String(port), "-o", "HostKeyAlias=web.skep", "-o", "BatchMode=yes"],
      ...["-o", `UserKnownHostsFile=${sshd.guest.paths.knownHosts}`, "-o", "StrictHostKeyChecking=yes"],
      ...["127.0.0.1", "echo trusted"],
    ]);
    assert.equal(stdout, "trusted\n");
    await sshd.stop();
    await sshd.start(true);
    await using connections = new SshConnections();
    await assert.rejects(connections.connect(sshd.guest), { code: "SSH_HOST_KEY", hint: /known_hosts/ });
    await assert.rejects(connections.waitForHandshake(sshd.guest, AbortSignal.timeout(20_000)), {
      code: "SSH_HOST_KEY",
    });
  });

  it("says that the login was refused", async () => {
    await using sshd = await testSshd();
    await writeFile(`${sshd.directory}/authorized_keys`, "");
    await using connections = new SshConnections();
    await assert.rejects(connections.connect(sshd.guest), { code: "SSH_AUTH", message: /refuses.*user/ });
    assert.equal(await connections.waitForHandshake(sshd.guest, AbortSignal.timeout(20_000)), "denied");
  });

  it("says that nobody listens", async () => {
    await using connections = new SshConnections();
    await using sshd = await testSshd({ start: false });
    await assert.rejects(connections.connect(sshd.guest), {
      code: "SSH_UNREACHABLE",
      message: /nobody listens/,
    });
  });

  it("does not take a port that accepts for an answer, nor one that speaks something else", async () => {
    await using sshd = await testSshd({ start: false });
    await using connections = new SshConnections();
    const port = await freePort();
    const guest = { ...sshd.guest, sshPort: () => ({ host: "127.0.0.1", port }) };
    for (const answer of ["", "HTTP/1.1 400 Bad Request\r\n\r\n", "close"]) {
      const server = createServer((socket) => {
        socket.on("error", () => {});
        if (answer === "close") socket.destroy();
        else socket.write(answer);
      }).listen(port, "127.0.0.1");
      await once(server, "listening");
      try {
        await assert.rejects(connections.waitForHandshake(guest, AbortSignal.timeout(400)), {
          code: "CANCELLED",
        });
      } finally {
        server.close();
      }
    }
  });

  it("waits until the server is there, and keeps the connection it made", async () => {
    await using sshd = await testSshd({ start: false });
    await using connections = new SshConnections();
    const answered = connections.waitForHandshake(sshd.guest, AbortSignal.timeout(60_000));
    await sshd.start();
    assert.equal(await answered, "accepted");
    await sshd.stop(); // the listener; the login goes on without it
    await connections.connect(sshd.guest);
  });

  it("forwards a port of the guest", async () => {
    await using sshd = await testSshd();
    await using connections = new SshConnections();
    const server = createServer((socket) => socket.on("error", () => {}).pipe(socket)).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    const stream = await connections.forward(sshd.guest, port);
    stream.end("through the guest");
    const bytes: Buffer[] = [];
    for await (const piece of stream) bytes.push(piece);
    assert.equal(Buffer.concat(bytes).toString(), "through the guest");
    server.close();
    await assert.rejects(connections.forward(sshd.guest, await freePort()), { code: "SSH_REFUSED" });
  });
});
