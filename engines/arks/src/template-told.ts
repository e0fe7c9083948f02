import { type LiveMachine, type MachineFile, readInGuest } from "@skep/machines";
import type { HelperStep } from "@skep/qmp";

/** A file in which a template's guest tells who it is; a machine that begins there tells who that is instead. */
export interface ToldFile {
  path: string;
  mode: number;
  text: string;
}

/** What cloud-init tells of the running system (its docs: instance metadata); each boot makes it anew. */
const tellers = [
  { path: "/run/cloud-init/.instance-id", mode: 0o644 },
  { path: "/run/cloud-init/instance-data.json", mode: 0o644 },
  { path: "/run/cloud-init/instance-data-sensitive.json", mode: 0o600 },
];
/** Of all of them: they are written within one message to the helper. */
const mostBytes = 96 * 1024;

/** Those that are there; without the ones that are too large, which the next boot makes right. */
export async function readTold({ agent }: LiveMachine, signal: AbortSignal): Promise<ToldFile[]> {
  const found: ToldFile[] = [];
  let bytes = 0;
  for (const { path, mode } of tellers) {
    const text = await readInGuest(agent, path, signal).catch(() => undefined);
    signal.throwIfAborted();
    const size = Buffer.byteLength(text ?? "");
    if (text === undefined || bytes + size > mostBytes) continue;
    found.push({ path, mode, text });
    bytes += size;
  }
  return found;
}

type Who = Pick<MachineFile, "id" | "name">;

/** The same files, of another machine. Nothing else has an id, or the name of a template. */
export function retell(files: readonly ToldFile[], template: Who, machine: Who): HelperStep[] {
  return files.map(({ path, mode, text }) => {
    const own = text.replaceAll(template.id, machine.id).replaceAll(template.name, machine.name);
    return { verb: "file", path, mode, content: Buffer.from(own) };
  });
}
