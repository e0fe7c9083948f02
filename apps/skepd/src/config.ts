import { join } from "node:path";
import type { TemplateSettings } from "@skep/arks";
import { exists, readVersionedJson, writeVersionedJson } from "@skep/base";

/** `$SKEP_HOME/config.json`: what holds for every start. */
export interface HomeConfig {
  version: 1;
  /** `HOST:PORT` of the TLS listener, or null for the Unix socket alone. */
  listen: string | null;
  /** What of templates is not as by default (docs/templates.md). */
  templates?: Partial<TemplateSettings>;
}

const configVersion = 1;

export async function readConfig(home: string): Promise<HomeConfig> {
  const path = join(home, "config.json");
  if (!(await exists(path))) return { version: configVersion, listen: null };
  return readVersionedJson<HomeConfig>(path, configVersion);
}

export async function writeConfig(home: string, config: HomeConfig): Promise<void> {
  await writeVersionedJson(join(home, "config.json"), config);
}
