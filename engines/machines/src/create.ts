import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import type { MachineRequest } from "@skep/api/schemas";
import { checkName, exists, syncDirectory, syncFile, Undo, type Work } from "@skep/base";
import { checkFree, resolveVolumes } from "./attach.ts";
import { checkRequest } from "./check-request.ts";
import { composeFile, resolveBase } from "./compose.ts";
import type { Context } from "./context.ts";
import { createDisk } from "./disk.ts";
import { fail } from "./errors.ts";
import { giveTo, isRoot, letThrough } from "./host-user.ts";
import { checkPublicKey } from "./keys.ts";
import { Machine } from "./machine.ts";
import { type MachineFile, machineIdOf, writeMachineFile } from "./machine-file.ts";
import { discardUnfinished, makeOwnVolumes, type RootDisk } from "./own-volumes.ts";
import { homePaths, machinePaths, ownVolumesFile } from "./paths.ts";
import { writeSeed } from "./seed.ts";
import { enlarge } from "./warm-disk.ts";

/** A machine that nobody sees: it has no ports, and goes with this process, by `abandonFork`. */
export interface Hidden {
  hidden: boolean;
  /** Least size of its seed's device, so that those who go on from it can have a larger seed. */
  seedBytes: number;
}

/** Leaves nothing behind when it fails: the directory appears under its name only when it is whole. */
export async function createMachine(
  context: Context,
  request: MachineRequest,
  work: Work,
  how: Hidden = { hidden: false, seedBytes: 0 },
): Promise<Machine> {
  const name = checkName(request.name);
  const paths = machinePaths(context.home, name);
  if (context.machines.has(name) || (await exists(paths.directory))) throw fail("MACHINE_EXISTS", { name });
  await checkRequest(request);
  const volumes = await resolveVolumes(context, request, work);
  const base = await resolveBase(context, request, work);
  const { file, root } = await context.locks.run("new", async () => {
    for (const { id } of volumes) checkFree(context, id);
    const composed = await composeFile(context, request, base, volumes);
    if (how.hidden) composed.file.ports = [];
    context.pending.add(composed.file);
    return composed;
  });
  try {
    return await writeMachine(context, file, root, request, { work, how });
  } finally {
    context.pending.delete(file);
  }
}

async function writeMachine(
  context: Context,
  file: MachineFile,
  root: RootDisk | null,
  request: MachineRequest,
  { work, how }: { work: Work; how: Hidden },
): Promise<Machine> {
  const { name } = file;
  const paths = machinePaths(context.home, name);
  work.signal.throwIfAborted();
  work.report({ phase: `creating ${name}` });
  const keys = await context.ownKeys();
  const sshKeys = (request.sshKeys ?? []).map(checkPublicKey);

  await using undo = new Undo();
  const directory = join(homePaths(context.home).machines, `.new-${file.id}`);
  await mkdir(directory, { mode: 0o700 });
  undo.push(() =>
    // What cannot be removed now is at the next start of skepd.
    discardUnfinished(context, directory).catch((error: unknown) =>
      context.log.warn({ machine: name, err: error }, "cannot remove what was made"),
    ),
  );
  const inside = (path: string) => join(directory, relative(paths.directory, path));
  if (isRoot) await letThrough(file.uid, directory);
  const { uid } = file;
  const { signal } = work;
  const writing: Promise<unknown>[] = file.dataDisks.map(({ sizeBytes }, index) =>
    createDisk(inside(paths.dataDisk(index)), { home: context.home, sizeBytes, base: null, uid, signal }),
  );
  if (file.disk !== null) {
    writing.push(createDisk(inside(paths.disk), { home: context.home, ...file.disk, uid, signal }));
  }
  if (file.seeded) {
    const content = {
      instanceId: file.id,
      hostname: name,
      publicKeys: [...new Set([keys.publicKey, ...sshKeys])],
      env: request.env ?? {},
      machineId: file.from === null ? undefined : machineIdOf(file.id),
      userData: request.userData,
      networkConfig: request.networkConfig,
    };
    writing.push(
      writeSeed(inside(paths.seed), content, signal).then(() => giveTo(uid, inside(paths.seed), 0o400)),
    );
  }
  const results = await Promise.allSettled(writing);
  for (const result of results) if (result.status === "rejected") throw result.reason;
  await makeOwnVolumes(context, file, { directory, root, request, work });
  if (how.hidden) {
    await writeFile(inside(paths.forking), "");
    if (file.seeded) await enlarge(inside(paths.seed), how.seedBytes);
  }
  await writeMachineFile(inside(paths.file), file);
  signal.throwIfAborted();
  if (context.machines.has(name) || (await exists(paths.directory))) throw fail("MACHINE_EXISTS", { name });
  if (file.seeded) await syncFile(inside(paths.seed));
  await syncDirectory(directory);
  await rename(directory, paths.directory);
  await syncDirectory(homePaths(context.home).machines);
  undo.keep();
  await rm(ownVolumesFile(paths.directory), { force: true });
  const machine = new Machine(context, file);
  if (how.hidden) {
    context.hidden.add(machine);
    return machine;
  }
  context.machines.set(name, machine);
  context.emit({ type: "machine.created", subject: name, data: { id: file.id } });
  return machine;
}
