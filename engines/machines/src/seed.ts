import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { run } from "@skep/base";
import { type Document, parseDocument } from "yaml";
import { fail } from "./errors.ts";

/** What cloud-init's NoCloud data source shall find (docs: cloudinit.readthedocs.io, NoCloud). */
export interface SeedContent {
  instanceId: string;
  hostname: string;
  publicKeys: readonly string[];
  env: Readonly<Record<string, string>>;
  /** For a copy of another machine's disk, which has that one's machine-id(5). */
  machineId?: string | undefined;
  /** Any format that cloud-init knows, passed on unchanged. */
  userData?: string | undefined;
  networkConfig?: string | undefined;
}

// The first line decides what cloud-init takes user-data for; anything else it drops with a warning.
const userDataHeads =
  /^(#cloud-config(?![\w-])|#cloud-config-archive|#!|#include|#cloud-boothook|#part-handler|#cloud-config-jsonp|## template: *jinja|Content-Type:|MIME-Version:|From )/i;

/** What cloud-init finds where nobody gave any. */
export const noUserData = "#cloud-config\n{}\n";

/** The files of the seed by name. Our own settings stay in meta-data and vendor-data, below the user's. */
export function seedFiles(content: SeedContent): Record<string, string> {
  const metaData = {
    "instance-id": content.instanceId,
    "local-hostname": content.hostname,
    "public-keys": content.publicKeys,
  };
  const files: Record<string, string> = {
    "meta-data": `${JSON.stringify(metaData, null, 2)}\n`,
    "user-data": content.userData ?? noUserData,
    "vendor-data": vendorData(content),
  };
  if (content.networkConfig !== undefined) files["network-config"] = content.networkConfig;
  return files;
}

/** Throws SEED_INVALID with line and column for what cloud-init could not use. */
export function checkSeed(content: Pick<SeedContent, "userData" | "networkConfig" | "env">): void {
  const { userData, networkConfig } = content;
  if (userData !== undefined) {
    if (!userDataHeads.test(userData)) {
      throw fail("SEED_INVALID", {
        what: "user-data",
        why: "cloud-init does not know what it is",
        hint: "begin it with #cloud-config or #! (a script)",
      });
    }
    if (/^#cloud-config(?![\w-])/i.test(userData)) parseMapping("user-data", userData);
  }
  if (networkConfig !== undefined) parseMapping("network-config", networkConfig);
  for (const [name, value] of Object.entries(content.env)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
      const why = "a name has letters, digits and underscores";
      throw fail("ENV_INVALID", { name, why, hint: "give it as NAME=VALUE" });
    }
    // pam_env, which reads /etc/environment, knows no escapes: a line ends the value, and so does a "#",
    // also between quotes. All else between the first and the last quote is taken as it is.
    const hint = "let write_files of --user-data put it into a file of the guest";
    if (/[\0\r\n]/.test(value)) {
      throw fail("ENV_INVALID", { name, why: "its value has more than one line", hint });
    }
    if (value.includes("#")) {
      const why = 'its value has a "#", with which a comment begins in /etc/environment of the guest';
      throw fail("ENV_INVALID", { name, why, hint });
    }
  }
}

function parseMapping(what: string, text: string): Document {
  const document = parseDocument(text, { prettyErrors: true });
  const error = document.errors[0];
  if (error !== undefined) {
    throw fail("SEED_INVALID", {
      what,
      why: `it is not YAML: ${error.message.trim()}`,
      hint: "mend that line",
    });
  }
  const value: unknown = document.toJS({ maxAliasCount: 100 });
  if (value !== null && (typeof value !== "object" || Array.isArray(value))) {
    throw fail("SEED_INVALID", {
      what,
      why: "it is not a mapping (key: value)",
      hint: "see the cloud-init documentation",
    });
  }
  return document;
}

const marker = "# skep --env";

/** Vendor-data of two parts; a boothook, since a `write_files` of the user's would replace ours. */
function vendorData({ env, machineId }: SeedContent): string {
  const config = {
    growpart: { mode: "auto", devices: ["/"] },
    resize_rootfs: true,
    preserve_hostname: false,
  };
  const parts = [
    part("text/cloud-config", "cloud-config.yaml", `#cloud-config\n${JSON.stringify(config)}\n`),
  ];
  if (Object.keys(env).length > 0) {
    const lines = Object.entries(env).map(([name, value]) => `${name}="${value}"`);
    const block = Buffer.from(`${[`${marker} begin`, ...lines, `${marker} end`].join("\n")}\n`).toString(
      "base64",
    );
    const script = [
      "#cloud-boothook",
      "#!/bin/sh",
      "touch /etc/environment",
      `sed -i '/^${marker} begin$/,/^${marker} end$/d' /etc/environment`,
      `echo '${block}' | base64 -d >> /etc/environment`,
    ];
    parts.push(part("text/cloud-boothook", "environment.sh", `${script.join("\n")}\n`));
  }
  if (machineId !== undefined) {
    // A kernel of ours has it on its command line already; elsewhere it counts from the next boot on.
    const script = [
      "#cloud-boothook",
      "#!/bin/sh",
      "[ -s /etc/machine-id ] || exit 0",
      `grep -qx ${machineId} /etc/machine-id || echo ${machineId} > /etc/machine-id`,
    ];
    parts.push(part("text/cloud-boothook", "machine-id.sh", `${script.join("\n")}\n`));
  }
  const boundary = "skep-vendor-data";
  return [
    `Content-Type: multipart/mixed; boundary="${boundary}"`,
    "MIME-Version: 1.0",
    "",
    ...parts.map((text) => `--${boundary}\n${text}`),
    `--${boundary}--`,
    "",
  ].join("\n");
}

function part(type: string, filename: string, body: string): string {
  return [
    `Content-Type: ${type}; charset="utf-8"`,
    "MIME-Version: 1.0",
    `Content-Disposition: attachment; filename="${filename}"`,
    "",
    body,
  ].join("\n");
}

/** Writes the seed as an ISO 9660 image labelled `cidata`. */
export async function writeSeed(path: string, content: SeedContent, signal?: AbortSignal): Promise<void> {
  await writeIso(path, seedFiles(content), signal);
}

/** Begins the name of a directory beside a seed that is being made. */
export const seedDraft = ".seed-";

export async function writeIso(
  path: string,
  files: Readonly<Record<string, string | Uint8Array>>,
  signal?: AbortSignal,
): Promise<void> {
  const directory = await mkdtemp(join(dirname(path), seedDraft));
  try {
    await Promise.all(Object.entries(files).map(([name, text]) => writeFile(join(directory, name), text)));
    await run(
      "xorriso",
      ["-as", "mkisofs", "-quiet", "-volid", "cidata", "-joliet", "-rational-rock", "-o", path, directory],
      { signal, install: "apt-get install xorriso" },
    );
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
