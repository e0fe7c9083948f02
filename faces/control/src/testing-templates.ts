/** Templates without a guest: words in memory, each there as soon as it is asked for. */
import type { Pruned, Template, TemplateBuild } from "@skep/api/schemas";
import { SkepError, type Work } from "@skep/base";
import type { TemplateEngine } from "./engines.ts";

const mebibyte = 1024 ** 2;
const gibibyte = 1024 ** 3;

/** Those of an image named `old` are outdated. */
export class WordTemplates implements TemplateEngine {
  #templates: Template[] = [];

  async list(): Promise<Template[]> {
    return this.#templates;
  }

  async build({ image = "debian-12", ...given }: TemplateBuild, work: Work): Promise<Template> {
    work.report({ phase: `booting ${image}` });
    const { cpus = 2, memoryMiB = 2048, diskBytes = 10 * gibibyte, arch = "x86_64" } = given;
    const now = "2026-01-01T00:00:00.000Z";
    const old = image === "old";
    const template: Template = {
      id: `st-${String(this.#templates.length + 1).padStart(17, "0")}`,
      state: old ? "outdated" : "ready",
      why: old ? "image old is another one now" : null,
      ...{ image, imageDigest: "sha256:0", arch, cpus, memoryMiB, diskBytes, qemu: "7.2.22" },
      ...{ createdAt: now, usedAt: now, populatedMiB: 286, storedBytes: 70 * mebibyte, loaded: true },
    };
    this.#templates.push(template);
    return template;
  }

  async remove(ref: string): Promise<string[]> {
    const gone = this.#templates.filter(({ id, image }) => id === ref || image === ref).map(({ id }) => id);
    if (gone.length === 0)
      throw new SkepError("TEMPLATE_NOT_FOUND", `there is no template "${ref}"`, { status: 404 });
    this.#templates = this.#templates.filter(({ id }) => !gone.includes(id));
    return gone;
  }

  async prune(all: boolean): Promise<Pruned> {
    const doomed = this.#templates.filter(({ state }) => all || state !== "ready");
    this.#templates = this.#templates.filter((one) => !doomed.includes(one));
    const freedBytes = doomed.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
    return { removed: doomed.map(({ id }) => id), freedBytes };
  }
}
