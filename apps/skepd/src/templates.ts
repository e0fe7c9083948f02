import { defaultSettings, type TemplateSettings } from "@skep/arks";
import { readConfig } from "./config.ts";
import { fail } from "./errors.ts";

const modes: Record<string, Pick<TemplateSettings, "use" | "build">> = {
  off: { use: false, build: false },
  asked: { use: true, build: false },
  auto: { use: true, build: true },
};

/** What `config.json` says of templates, and before it `SKEP_TEMPLATES` in skepd's environment. CONFIG_INVALID. */
export async function templateSettings(home: string): Promise<TemplateSettings> {
  const { templates = {} } = await readConfig(home);
  for (const [key, value] of Object.entries(templates)) {
    const known = defaultSettings[key as keyof TemplateSettings];
    const fits = typeof value === typeof known && (typeof value !== "number" || value >= 0);
    if (!fits) throw fail("CONFIG_INVALID", { home, what: `templates.${key}` });
  }
  const mode = process.env.SKEP_TEMPLATES ?? "";
  return { ...defaultSettings, ...templates, ...modes[mode] };
}
