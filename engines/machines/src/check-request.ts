import { access, constants, stat } from "node:fs/promises";
import { totalmem } from "node:os";
import { isAbsolute } from "node:path";
import type { MachineEdit, MachineRequest } from "@skep/api/schemas";
import { formatSize, isErrno } from "@skep/base";
import { fail } from "./errors.ts";
import { checkPublicKey } from "./keys.ts";
import { checkOwnVolumes } from "./own-volumes.ts";
import { checkSeed } from "./seed.ts";

/** Of a new machine, what can be said without looking at others. */
export async function checkRequest(request: MachineRequest): Promise<void> {
  const { name } = request;
  const sources = [request.image, request.from, request.cdrom].filter((source) => source !== undefined);
  if (sources.length > 1) {
    throw fail("MACHINE_INVALID", {
      name,
      why: "--image, --from and --cdrom exclude one another",
      hint: "give one of them",
    });
  }
  checkOwnVolumes(request);
  checkSeed({ userData: request.userData, networkConfig: request.networkConfig, env: request.env ?? {} });
  for (const key of request.sshKeys ?? []) checkPublicKey(key);
  checkSettings(name, request);
  if (request.cdrom !== undefined) {
    const path = request.cdrom;
    if (!isAbsolute(path)) throw fail("CDROM_MISSING", { path, why: "the path is not absolute" });
    try {
      await access(path, constants.R_OK);
      if (!(await stat(path)).isFile()) throw fail("CDROM_MISSING", { path, why: "it is not a file" });
    } catch (error) {
      if (isErrno(error, "ENOENT") || isErrno(error, "EACCES")) {
        throw fail("CDROM_MISSING", {
          path,
          why: isErrno(error, "ENOENT") ? "it does not exist" : "permission denied",
        });
      }
      throw error;
    }
  }
}

/** What may be set at any time, and ends in QEMU's command line or ssh's configuration. */
export function checkSettings(
  name: string,
  {
    user,
    kernelArguments,
    memoryMiB,
    suspendAfterSeconds,
  }: Pick<MachineEdit, "user" | "kernelArguments" | "memoryMiB" | "suspendAfterSeconds">,
): void {
  if (typeof suspendAfterSeconds === "number" && process.platform !== "linux") {
    const why = "it cannot be suspended: its memory is in no file on this system";
    throw fail("MACHINE_INVALID", { name, why, hint: "leave --suspend-after out" });
  }
  if (kernelArguments !== undefined && /[^\x20-\x7e]/.test(kernelArguments)) {
    throw fail("MACHINE_INVALID", {
      name,
      why: "kernel arguments hold a control character",
      hint: "write them in one line",
    });
  }
  if (user !== undefined && !/^[a-z_][a-z0-9_-]{0,31}$/.test(user)) {
    throw fail("MACHINE_INVALID", {
      name,
      why: `"${user.slice(0, 80)}" is no user name`,
      hint: "give a Linux user name",
    });
  }
  const memoryBytes = (memoryMiB ?? 0) * 1024 ** 2;
  if (memoryBytes > totalmem()) {
    const why = `${formatSize(memoryBytes)} of memory are more than this host has (${formatSize(totalmem())})`;
    throw fail("MACHINE_INVALID", { name, why, hint: "give a smaller --memory" });
  }
}
