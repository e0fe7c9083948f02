import { setTimeout as sleep } from "node:timers/promises";
import type { Check, Pruned, Template, TemplateBuild } from "@skep/api/schemas";
import { formatSize, KeyedMutex, quietWork, SkepError, type Work } from "@skep/base";
import { laterSeed, type Machine, type Machines } from "@skep/machines";
import { removeState } from "./commit.ts";
import type { FrozenMachines } from "./frozen.ts";
import { Later } from "./later.ts";
import type { Reach } from "./standstill.ts";
import { buildTemplate } from "./template-build.ts";
import { type TemplateSettings, TemplatesInMemory } from "./template-cache.ts";
import { failTemplate } from "./template-errors.ts";
import { forgetTemplate, noteUse, readTemplates, type TemplateRecord, usedAt } from "./template-record.ts";
import { bootsAnyway, shapeOf, shapeText, type TemplateShape } from "./template-shape.ts";
import { seedUnfit, startFromTemplate, type WarmOptions } from "./warm.ts";

export interface TemplatesOptions {
  home: string;
  machines: Machines;
  frozen: FrozenMachines;
  settings: TemplateSettings;
  /** The digest that an image's name means now; undefined: none. */
  digestOf(name: string, arch: TemplateRecord["arch"]): string | undefined;
  log: {
    info(fields: object, message: string): void;
    warn(fields: object, message: string): void;
  };
  reach: Reach;
}

/** A template for a machine, and what of its seed is to be done there. */
interface Chosen {
  template: TemplateRecord;
  seed: WarmOptions["seed"];
}

/** What a machine's first boot has taken is left alone for so long, before the next one is begun beside it. */
const restMs = 10_000;

/** The templates of one home. */
export class Templates implements AsyncDisposable {
  readonly #options: TemplatesOptions;
  readonly #memory: TemplatesInMemory;
  readonly #turns = new KeyedMutex();
  readonly #later = new Later();
  /** By key, why no template came of them, or why one does not do: until skepd is started again, or somebody builds one. */
  readonly #given = new Map<string, string>();

  constructor(options: TemplatesOptions) {
    this.#options = options;
    this.#memory = new TemplatesInMemory(options);
  }

  /** Oldest first. */
  async list(): Promise<Template[]> {
    const { templates, damaged } = await readTemplates(this.#options.home);
    const views = await Promise.all(templates.map((template) => this.#view(template)));
    const none = { image: "-", imageDigest: "", arch: null, cpus: 0, memoryMiB: 0, diskBytes: 0, qemu: "" };
    const unread = damaged.map(
      ({ id, why }): Template => ({
        ...{ id, state: "damaged", why, ...none, createdAt: "", usedAt: "", loaded: false },
        ...{ populatedMiB: 0, storedBytes: 0 },
      }),
    );
    return [...views, ...unread];
  }

  async #view(template: TemplateRecord): Promise<Template> {
    const { id, createdAt, image, arch, cpus, memoryMiB, diskBytes, qemu } = template;
    const { populatedMiB, storedBytes } = template;
    const why = await this.#outdated(template);
    return {
      id,
      state: why === undefined ? "ready" : "outdated",
      why: why ?? null,
      image: image.name,
      imageDigest: image.digest,
      ...{ arch, cpus, memoryMiB, diskBytes, qemu, createdAt },
      usedAt: new Date(await usedAt(this.#options.home, id)).toISOString(),
      ...{ populatedMiB, storedBytes },
      loaded: this.#memory.has(id),
    };
  }

  async #outdated({ image, arch, qemu, key }: TemplateRecord): Promise<string | undefined> {
    const { machines, digestOf } = this.#options;
    const digest = digestOf(image.name, arch);
    if (digest === undefined) return `there is no image ${image.name} any more`;
    if (digest !== image.digest) return `image ${image.name} is another one now`;
    const here = await machines.qemuVersion(arch).catch(() => "missing");
    if (here !== qemu) return `it was made with QEMU ${qemu}, and here is ${here}`;
    return this.#given.get(key);
  }

  /** Gives the one that is there where it does. TEMPLATE_REFUSED, TEMPLATE_FAILED, and what a start can fail with. */
  async build(request: TemplateBuild, work: Work): Promise<Template> {
    return await this.#view(await this.#build(request, { work, low: false }));
  }

  async #build(request: TemplateBuild, { work, low }: { work: Work; low: boolean }): Promise<TemplateRecord> {
    const { home, machines, frozen, reach } = this.#options;
    return await this.#turns.run("build", async () => {
      work.signal.throwIfAborted();
      const { templates } = await readTemplates(home);
      const find = ({ key }: TemplateShape) => {
        const isBad = this.#given.delete(key);
        return isBad ? undefined : templates.findLast((one) => one.key === key);
      };
      const built = await buildTemplate(request, { home, machines, frozen, find, low, work, reach });
      if (built.frozen !== undefined) await this.#memory.keep(built.template.id, built.frozen);
      await this.#forgetBeyond(built.template);
      return built.template;
    });
  }

  /** What the new one replaces, and those that were not used for longest, where there are too many. */
  async #forgetBeyond({ id, key }: TemplateRecord): Promise<void> {
    const { home, settings } = this.#options;
    const { templates } = await readTemplates(home);
    const times = await Promise.all(
      templates.map(async (one) => ({ ...one, at: await usedAt(home, one.id) })),
    );
    const kept = times.filter((one) => one.id === id || one.key !== key).sort((a, b) => b.at - a.at);
    const most = new Set(kept.slice(0, settings.most).map((one) => one.id)).add(id);
    for (const one of times) if (!most.has(one.id)) await this.#remove(one.id);
  }

  /** By id, or all of an image's. TEMPLATE_NOT_FOUND. Machines that began from it stay as they are. */
  async remove(ref: string): Promise<string[]> {
    const all = await this.list();
    const chosen = all.filter(({ id, image }) => id === ref || (ref !== "-" && image === ref));
    if (chosen.length === 0) throw failTemplate("TEMPLATE_NOT_FOUND", { template: ref.slice(0, 80) });
    for (const { id } of chosen) await this.#remove(id);
    return chosen.map(({ id }) => id);
  }

  /** Those that no machine can begin from any more; with `all` the others, too. */
  async prune(all: boolean): Promise<Pruned> {
    const doomed = (await this.list()).filter(({ state }) => all || state !== "ready");
    for (const { id } of doomed) await this.#remove(id);
    const freedBytes = doomed.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
    return { removed: doomed.map(({ id }) => id), freedBytes };
  }

  async #remove(id: string): Promise<void> {
    const { home, machines, reach } = this.#options;
    await forgetTemplate(home, id);
    await reach("template-forgotten");
    await this.#memory.drop(id);
    await removeState(home, id);
    await machines.sweepLayers();
  }

  /** Begins a machine's first start where a template is; false where it has to boot, which a note explains. */
  async startWarm(machine: Machine, work: Work): Promise<boolean> {
    try {
      const why = await this.#startWarm(machine, work);
      if (why === undefined) return true;
      if (why !== null) {
        work.note(`${machine.name} boots from its disk, as no template can help: ${why}`);
      }
    } catch (error) {
      machine.setState(machine.restState);
      // What cannot be taken back must not boot either: its disk is still the template's.
      if (work.signal.aborted || machine.file.warming !== undefined) throw error;
      const { log } = this.#options;
      log.warn({ machine: machine.name, err: error }, "cannot tell whether a template would do");
    }
    machine.setState("starting");
    return false;
  }

  /** Why it has to boot; null: for a reason that nobody needs to be told; undefined: it need not, and runs. */
  async #startWarm(machine: Machine, work: Work): Promise<string | null | undefined> {
    const { home, settings } = this.#options;
    if (!settings.use) return null;
    const { templates } = await readTemplates(home);
    const ofImage = templates.filter(({ image }) => image.digest === machine.file.image?.digest);
    const found = await this.#choose(machine, ofImage, work);
    if ("template" in found) return await this.#begin(machine, found, work);
    // Where there is none at all, nobody expects one.
    return ofImage.length > 0 ? found.why : null;
  }

  async #choose(
    machine: Machine,
    ofImage: readonly TemplateRecord[],
    work: Work,
  ): Promise<Chosen | { why: string }> {
    const anyway = await bootsAnyway(machine);
    if (anyway !== undefined) return { why: anyway };
    const seed = await laterSeed(machine);
    if ("why" in seed) return seed;
    const shape = await shapeOf(machine, work.signal);
    const template = ofImage.findLast(({ key }) => key === shape.key);
    const given = this.#given.get(shape.key);
    if (template === undefined || given !== undefined) {
      this.#buildLater(machine, shape);
      return { why: given ?? `there is none yet of ${shapeText(shape)}` };
    }
    const why = seedUnfit(template, seed);
    return why === undefined ? { template, seed } : { why };
  }

  async #begin(machine: Machine, { template, seed }: Chosen, work: Work): Promise<string | undefined> {
    const { home, frozen, log, reach } = this.#options;
    try {
      await startFromTemplate(machine, template, { frozen, seed, work, reach });
    } catch (error) {
      if (work.signal.aborted || machine.file.warming !== undefined) throw error;
      const { name } = machine;
      log.warn({ machine: name, template: template.id, err: error }, "cannot begin from the template");
      const why = (error as Error).message;
      // For lack of memory it may do the next time.
      const isShort = error instanceof SkepError && error.code.startsWith("MEMORY_");
      if (!isShort) this.#given.set(template.key, why);
      return why;
    }
    this.#run("a template's memory is not kept for the next machine", async () => {
      await noteUse(home, template.id);
      await this.#memory.load(template);
    });
    return undefined;
  }

  /** Once the machine has booted; one at a time, and not where memory is short. */
  #buildLater(machine: Machine, shape: TemplateShape): void {
    const { machines, settings, log } = this.#options;
    const { image, arch, cpus, memoryMiB, diskBytes, key } = shape;
    if (!settings.build || this.#given.has(key)) return;
    const { name } = machine;
    this.#run("no template was made", async (signal) => {
      await machines.withMachine(name, async () => {}, signal);
      await machines.waitReady(name, {}, quietWork(signal));
      await sleep(restMs, undefined, { signal });
      // Twice: for its guest, and for what else may come.
      await machines.admitFrozen(name, 2 * memoryMiB * 1024 ** 2);
      const disk = diskBytes === 0 ? {} : { diskBytes };
      const request = { image: image.digest, arch, cpus, memoryMiB, ...disk };
      try {
        const { id } = await this.#build(request, { work: quietWork(signal), low: true });
        log.info({ template: id, image: image.name }, "template is there");
      } catch (error) {
        if (!signal.aborted) this.#given.set(key, (error as Error).message);
        throw error;
      }
    });
  }

  /** `failed` is what the log says where it fails. */
  #run(failed: string, work: (signal: AbortSignal) => Promise<void>): void {
    this.#later.run(work, (error) => this.#options.log.warn({ err: error }, failed));
  }

  /** Gives back memory that is kept for machines to come; what running ones borrow stays. */
  async reclaim(): Promise<void> {
    await this.#memory.dropAll();
  }

  /** Keeps the memory of those that are still in /dev/shm. Gives the states that templates name. */
  async recover(): Promise<string[]> {
    const { templates, damaged } = await readTemplates(this.#options.home);
    await this.#memory.adopt(templates);
    return [...templates, ...damaged].map(({ id }) => id);
  }

  /** One that was asked for is there, or nothing of it is. */
  async recoverBuild(askedAt: string): Promise<"finished" | "undone"> {
    const { templates } = await readTemplates(this.#options.home);
    return templates.some(({ createdAt }) => createdAt > askedAt) ? "finished" : "undone";
  }

  async doctor(): Promise<Check[]> {
    const all = await this.list();
    if (all.length === 0) return [];
    const bad = all.filter(({ state }) => state !== "ready");
    const stored = formatSize(all.reduce((sum, { storedBytes }) => sum + storedBytes, 0));
    const [first] = bad;
    const detail = `${all.length - bad.length} ready, with ${stored} stored`;
    if (first === undefined) return [{ name: "templates", status: "ok", detail, fix: null }];
    const rest = `${detail}; ${bad.length} of no use: ${first.why}`;
    return [{ name: "templates", status: "warning", detail: rest, fix: "skep template prune" }];
  }

  /** Cancels what is being built, and waits until nothing of it is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#later[Symbol.asyncDispose]();
    await this.#memory[Symbol.asyncDispose]();
  }
}
