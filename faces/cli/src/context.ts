import { ApiClient, type JobId, type Machine } from "@skep/api";
import { controlSocket, skepHome, toSkepError } from "@skep/base";
import type { Command } from "commander";
import { type CancelParameters, cancelText } from "./cancel-text.ts";
import { formatError } from "./error-text.ts";
import { fail, usage } from "./errors.ts";
import type { GlobalOptions } from "./globals.ts";
import { type ProgressView, plainView, silentView, terminalView } from "./progress.ts";
import { styleFor } from "./style.ts";

type JobArguments = Parameters<ApiClient["job"]>[1];

/** What a verb works with: the options, the connection, and how to say things. */
export class Context {
  readonly options: GlobalOptions;
  readonly verb: string;
  #client: Promise<ApiClient> | undefined;

  constructor(options: GlobalOptions, verb: string) {
    this.options = options;
    this.verb = verb;
  }

  get home(): string {
    return skepHome(
      this.options.home === undefined ? process.env : { ...process.env, SKEP_HOME: this.options.home },
    );
  }

  /** The remote skepd to drive, where one is named. */
  get host(): string | undefined {
    return this.options.host ?? (process.env.SKEP_HOST || undefined);
  }

  /** Connects on first use, and starts skepd where that is wanted. */
  client(): Promise<ApiClient> {
    this.#client ??= this.#connect();
    return this.#client;
  }

  async #connect(): Promise<ApiClient> {
    if (this.host !== undefined) {
      const { tokenFor } = await import("./hosts.ts");
      return new ApiClient({ url: this.host, token: await tokenFor(this.host) });
    }
    const [{ ensureDaemon, readDaemonRecord }, { version }] = await Promise.all([
      import("./daemon.ts"),
      import("./version.ts"),
    ]);
    const revive = () =>
      ensureDaemon(this.home, {
        onStart: (command) => {
          if (this.options.verbose) this.note(`starting skepd: ${command.join(" ")}`);
        },
      });
    const { started } = await revive();
    if (!started) {
      const running = (await readDaemonRecord(this.home))?.version;
      if (running !== undefined && running !== version) {
        this.note(`skepd is ${running}, this command is ${version}; restart it: skep daemon restart`);
      }
    }
    return new ApiClient({ socket: controlSocket(this.home), revive });
  }

  /** A result, on standard output. */
  print(text: string): void {
    process.stdout.write(text.endsWith("\n") || text === "" ? text : `${text}\n`);
  }

  printJson(value: unknown): void {
    this.print(JSON.stringify(value, null, process.stdout.isTTY ? 2 : undefined));
  }

  /** Something worth knowing, on standard error. */
  note(text: string): void {
    if (!this.options.quiet) process.stderr.write(`${text}\n`);
  }

  progressView(): ProgressView {
    if (this.options.quiet || this.options.json) return silentView;
    if (process.stderr.isTTY) return terminalView(process.stderr, styleFor(process.stderr));
    return plainView((line) => process.stderr.write(`${line}\n`));
  }

  /** Starts a job and shows its progress. Ctrl-C cancels it and waits for its end; twice leaves it. */
  async job(id: JobId, params: JobArguments, view?: ProgressView): Promise<unknown> {
    const client = await this.client();
    const shown = view ?? this.progressView();
    try {
      return await interruptible(
        (signal) =>
          client.job(id, params as never, {
            signal,
            onProgress: (progress) => {
              if (!signal.aborted) shown.update(progress);
            },
            onNote: (message) => shown.note(message),
          }),
        () => shown.note(cancelText(id, params as CancelParameters)),
      );
    } finally {
      if (view === undefined) shown.close();
    }
  }

  /** The named machine, or the only one there is. */
  async onlyMachine(name: string | undefined): Promise<string> {
    if (name !== undefined) return name;
    const machines = await (await this.client()).call("listMachines");
    if (machines.length === 1) return machines[0]!.name;
    const why = machines.length === 0 ? "there is no machine" : `there are ${machines.length} machines`;
    const names = machines.map((machine) => machine.name);
    if (names.length === 0) throw fail("MACHINE_UNNAMED", { why, hint: "make one: skep new NAME --start" });
    const choice = ` (${names.slice(0, 8).join(", ")}${names.length > 8 ? ", …" : ""})`;
    throw fail("MACHINE_UNNAMED", { why, hint: `name one: skep ${this.verb} NAME${choice}` });
  }

  /** The machines that a verb of many works on. */
  async chosenMachines(
    names: readonly string[],
    all: boolean | undefined,
    matches: (machine: Machine) => boolean = () => true,
  ): Promise<string[]> {
    if (all !== true) {
      if (names.length === 0)
        throw usage(`skep ${this.verb} needs a machine's name, or --all`, "see: skep ls");
      return [...new Set(names)];
    }
    if (names.length > 0) throw usage("--all and names do not go together", `see: skep help ${this.verb}`);
    const machines = await (await this.client()).call("listMachines");
    return machines.filter(matches).map((machine) => machine.name);
  }

  /**
   * Does the same to several machines at once. Those that went well are handed to `tell`; then each
   * failure is told, and the first one is thrown if it is alone.
   */
  async forEach(
    names: readonly string[],
    work: (name: string, view: ProgressView) => Promise<unknown>,
    tell: (done: string[]) => Promise<void>,
  ): Promise<void> {
    const view = this.progressView();
    const done = new Set<string>();
    const failures: { name: string; error: unknown }[] = [];
    const waiting = [...names];
    const worker = async () => {
      for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
        try {
          await work(name, view);
          done.add(name);
        } catch (error) {
          failures.push({ name, error });
          if (toSkepError(error).code === "CANCELLED") waiting.length = 0;
        }
      }
    };
    try {
      await Promise.all(Array.from({ length: Math.min(8, names.length) }, worker));
    } finally {
      view.close();
    }
    const inOrder = names.filter((name) => done.has(name));
    if (inOrder.length > 0 || failures.length === 0) await tell(inOrder);
    if (failures.length === 0) return;
    if (names.length === 1 || failures.some(({ error }) => toSkepError(error).code === "CANCELLED")) {
      throw failures[0]!.error;
    }
    const { json = false, verbose = false } = this.options;
    for (const { error } of failures) {
      process.stderr.write(formatError(toSkepError(error), { json, verbose }));
    }
    throw fail(
      "MACHINE_FAILED",
      { count: failures.length, total: names.length },
      { cause: failures[0]!.error },
    );
  }

  async close(): Promise<void> {
    const client = await this.#client?.catch(() => undefined);
    await client?.[Symbol.asyncDispose]();
  }
}

/** Runs work that the first Ctrl-C cancels and the second one leaves. */
export async function interruptible<T>(
  work: (signal: AbortSignal) => Promise<T>,
  onCancel: () => void,
): Promise<T> {
  const controller = new AbortController();
  const onInterrupt = () => {
    if (controller.signal.aborted) process.exit(130);
    onCancel();
    controller.abort();
  };
  process.on("SIGINT", onInterrupt);
  try {
    return await work(controller.signal);
  } finally {
    process.off("SIGINT", onInterrupt);
  }
}

/** A verb's action: given the context, its arguments and its options; the result is the exit status. */
export function action<A extends unknown[]>(
  work: (context: Context, ...args: A) => Promise<unknown>,
): (...args: unknown[]) => Promise<void> {
  return async (...args) => {
    const command = args.at(-1) as Command;
    const context = new Context(command.optsWithGlobals(), command.name());
    try {
      const status = await work(context, ...(args.slice(0, -1) as A));
      if (typeof status === "number") process.exitCode = status;
    } finally {
      await context.close();
    }
  };
}
