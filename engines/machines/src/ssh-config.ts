import { dirname } from "node:path";
import { ensureDirectory, writeFileAtomic } from "@skep/base";
import type { Context } from "./context.ts";
import { homePaths } from "./paths.ts";

/** ssh_config(5), quoting and tokens as there: every machine as `<name>.skep`, for `ssh`, `scp`, `rsync` and editors. */
export function sshConfig(context: Context): string {
  const key = homePaths(context.home).sshKey;
  const quote = (path: string) => `"${path.replace(/["\\]/g, "\\$&").replaceAll("%", "%%")}"`;
  const hosts = [...context.machines.values()]
    .filter((machine) => machine.file.ssh)
    .sort((a, b) => a.name.localeCompare(b.name))
    .flatMap((machine) => {
      const port = machine.sshPort();
      if (port === undefined) return [];
      return [
        `Host ${machine.name}.skep`,
        `  HostName ${port.host}`,
        `  Port ${port.port}`,
        `  User ${machine.file.user}`,
        `  IdentityFile ${quote(key)}`,
        "  IdentitiesOnly yes",
        `  HostKeyAlias ${machine.name}.skep`,
        `  UserKnownHostsFile ${quote(machine.paths.knownHosts)}`,
        "  StrictHostKeyChecking accept-new",
        "",
      ];
    });
  return ["# Written by skepd; changes are overwritten.", "", ...hosts].join("\n");
}

export async function writeSshConfig(context: Context): Promise<void> {
  const { sshConfig: path } = homePaths(context.home);
  await ensureDirectory(dirname(path));
  await writeFileAtomic(path, sshConfig(context));
}
