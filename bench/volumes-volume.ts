/** Volumes in a process of their own, and how they are made cold. */
import { join } from "node:path";
import type { CreateVolume } from "@skep/volumes";
import { timed } from "./measure.ts";
import type { Place } from "./volumes-host.ts";
import { Host, uriOf } from "./volumes-sides.ts";

export interface Volume {
  id: string;
  uri: string;
}

/** A new one, open and served. */
export async function startVolume(host: Host, directory: string, request: CreateVolume): Promise<Volume> {
  const id = await host.call("create", request);
  await host.call("open", id);
  return { id, uri: await serveVolume(host, directory, id) };
}

/** The URI by which clients reach an open volume. */
export async function serveVolume(host: Host, directory: string, id: string): Promise<string> {
  const socket = join(directory, `${id}.sock`);
  await host.call("serve", id, socket);
  return uriOf(socket, id);
}

/** A new process with the volumes of a place. */
export async function startHost(place: Place, local: string, profile?: string): Promise<Host> {
  const host = new Host({ profile });
  try {
    await host.call("openStore", place, local);
    return host;
  } catch (error) {
    await host.kill();
    throw error;
  }
}

/**
 * Has the kernel forget what it holds of the files below a directory, as far as they are written. Nothing
 * of other directories is touched, and nobody needs to be root.
 */
export async function dropPageCache(directory: string): Promise<void> {
  const drop = 'for file; do dd if="$file" iflag=nocache count=0 status=none; done';
  await timed(["sync", "-f", directory], process.env);
  await timed(["find", directory, "-type", "f", "-exec", "sh", "-c", drop, "sh", "{}", "+"], process.env);
}
