import assert from "node:assert/strict";
import { text } from "node:stream/consumers";
import type { Machines } from "@skep/machines";

/** Runs a shell script in a machine's guest and gives its output; fails with its errors where the script fails. */
export async function guestSh(machines: Machines, name: string, script: string): Promise<string> {
  const session = await machines.exec(name, { command: ["sh", "-c", script] });
  session.stdin.end();
  const [output, errors, status] = await Promise.all([
    text(session.stdout),
    text(session.stderr),
    session.exit,
  ]);
  assert.equal(status, 0, `${script}: ${errors}`);
  return output.trim();
}
