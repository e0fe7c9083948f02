import { defaultSettings, type TemplateSettings } from "@skep/arks";
import { readConfig } from "./config.ts";
import { fail } from "./errors.ts";

const modes: Record<string, Pick<TemplateSettings, "use" | "build">> = {
  off: { use: false, build: false },
  asked: { use: true, build: false },
  auto: { use: true, build: true },
};

/**
 * What `config.json` says of templates, and before it `SKEP_TEMPLATES` in skepd's environment. CONFIG_INVALID,
 * TEMPLATES_MODE.
 */
export async function templateSettings(
  home: string,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<TemplateSettings> {
  const { templates = {} } = await readConfig(home);
  const invalid = (what: string) => fail("CONFIG_INVALID", { home, what });
  if (typeof templates !== "object" || templates === null || Array.isArray(templates))
    throw invalid("templates");
  for (const [key, value] of Object.entries(templates)) {
    if (!fits(key, value)) throw invalid(`templates.${key}`);
  }
  const mode = environment.SKEP_TEMPLATES ?? "";
  if (mode !== "" && !Object.hasOwn(modes, mode)) {
    throw fail("TEMPLATES_MODE", { mode, modes: Object.keys(modes).join(", ") });
  }
  return { ...defaultSettings, ...templates, ...modes[mode] };
}

function fits(key: string, value: unknown): boolean {
  if (!Object.hasOwn(defaultSettings, key)) return false;
  const known = defaultSettings[key as keyof TemplateSettings];
  return typeof value === typeof known && (typeof value !== "number" || value >= 0);
}
