import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { run } from "@skep/base";
import { bashScript, completionNodes, fishScript, zshScript } from "./completion.ts";
import { fullProgram } from "./program.ts";
import { verbs } from "./verbs.ts";

/** What bash offers for the words so far; machine names come from a stand-in for skep. */
async function offered(...words: string[]): Promise<string[]> {
  const directory = await mkdtemp("/tmp/skep-complete-");
  try {
    const script = join(directory, "skep.bash");
    await writeFile(script, bashScript(completionNodes(await fullProgram())));
    const quoted = words.map((word) => `'${word}'`).join(" ");
    const test = `skep() { [ "$1" = __complete ] && printf '%s\\n' "a-$2" "b-$2"; }
      source ${script}; COMP_WORDS=(skep ${quoted}); COMP_CWORD=${words.length}; _skep; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout } = await run("bash", ["--norc", "-c", test]);
    return stdout.split("\n").filter((line) => line !== "");
  } finally {
    await rm(directory, { recursive: true });
  }
}

test("bash completes verbs, verbs of verbs, options, and names of machines and images", async () => {
  assert.deepEqual(await offered("sta"), ["start", "status", "stats"]);
  assert.deepEqual(await offered("image", "pr"), ["prune"]);
  assert.deepEqual(await offered("new", "--mem"), ["--memory"]);
  assert.deepEqual(await offered("stop", "a"), ["a-machines"]);
  assert.ok((await offered("image", "rm", "")).includes("b-images"));
  assert.deepEqual(await offered("new", "web", "--from", "b"), ["b-machines"]);
  assert.deepEqual(await offered("port", "add", "b"), ["b-machines"]);
  assert.deepEqual(await offered("vol", "snapshot", "b"), ["b-volumes"]);
  assert.deepEqual(await offered("vol", "snapshot", "rm", "b"), ["b-volumes"]);
  assert.deepEqual(await offered("exec", "web", "--", "l"), []);
});

test("each verb has a description, and examples in its help", async () => {
  const program = await fullProgram();
  assert.equal(program.commands.length, verbs.length);
  for (const command of program.commands) {
    let help = "";
    command.configureOutput({ writeOut: (text) => (help += text) });
    command.outputHelp();
    assert.match(help, /Examples:\n {2}\S/, command.name());
    assert.match(command.description(), /\.$/, command.name());
    assert.ok(command.summary() !== "" && !command.summary().endsWith("."), command.name());
  }
});

test("the scripts of the other shells name every verb", async () => {
  const nodes = completionNodes(await fullProgram());
  for (const { name } of verbs) {
    assert.match(fishScript(nodes), new RegExp(`-a ${name} `));
    assert.match(zshScript(nodes), new RegExp(`\\b${name}\\b`));
  }
});
