import { ApiClient } from "@skep/api";
import { controlSocket, skepHome } from "@skep/base";

/**
 * `skep __complete machines`, `images`, `volumes` or `buckets`: names for the shell's completion, one a line.
 * It starts no skepd, and says nothing when something is wrong: a shell's prompt is no place for errors.
 */
export async function complete(words: readonly string[]): Promise<number> {
  const host = process.env.SKEP_HOST || undefined;
  const signal = AbortSignal.timeout(1500);
  try {
    const connection =
      host === undefined
        ? { socket: controlSocket(skepHome()) }
        : { url: host, token: await (await import("./hosts.ts")).tokenFor(host) };
    await using client = new ApiClient(connection);
    const kind = words[0] ?? "machines";
    const listed =
      kind === "images"
        ? client.call("listImages", {}, { signal })
        : kind === "volumes"
          ? listVolumes(client, signal)
          : kind === "buckets"
            ? (await client.call("getStorage", {}, { signal })).running
              ? client.call("listBuckets", {}, { signal })
              : []
            : client.call("listMachines", {}, { signal });
    const names = ((await listed) as { name: string }[]).map(({ name }) => name);
    process.stdout.write(names.map((name) => `${name}\n`).join(""));
    return 0;
  } catch {
    return 1;
  }
}

/** By name where they have one. */
async function listVolumes(client: ApiClient, signal: AbortSignal): Promise<{ name: string }[]> {
  if (!(await client.call("getStorage", {}, { signal })).running) return [];
  const volumes = await client.call("listVolumes", {}, { signal });
  return volumes.map(({ id, name }) => ({ name: name ?? id }));
}
