/** Makes states one after another, and says each step, until it is killed: `commit-fixture.ts HOME RAM`. */
import { beginState, commitState } from "./commit.ts";
import { writeManifest } from "./manifest.ts";
import { fillState } from "./testing.ts";

const [home, ramPath] = process.argv.slice(2) as [string, string];
const say = (step: string) => process.stdout.write(`${step}\n`);
for (;;) {
  const { id, directory } = await beginState(home);
  say("begun");
  const manifest = await fillState(id, directory, ramPath);
  say("filled");
  await writeManifest(directory, manifest);
  say("written");
  await commitState(home, id);
  say("committed");
}
