/** `npm run test:crash -- [--only objects|volumes] [--seeds 10000] [--from 1] [--seed N]`: soaks, one after the other. */
import { spawnSync } from "node:child_process";
import { resolve } from "node:path";

const soaks = {
  objects: "engines/objects/src/testing/crash-soak.ts",
  volumes: "engines/volumes/src/testing/crash-soak.ts",
};

const given = process.argv.slice(2);
const at = given.indexOf("--only");
const [, only] = at < 0 ? [] : given.splice(at, 2);
if (only !== undefined && !(only in soaks)) {
  console.error(`--only ${only}: there are ${Object.keys(soaks).join(" and ")}`);
  process.exit(2);
}
for (const [room, soak] of Object.entries(soaks)) {
  if (only !== undefined && only !== room) continue;
  console.log(`${room}:`);
  const file = resolve(import.meta.dirname, "..", soak);
  const { status } = spawnSync(process.execPath, [...process.execArgv, file, ...given], { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
