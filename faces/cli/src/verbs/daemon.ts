import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { ApiClient } from "@skep/api";
import { answers, baseErrors, controlSocket, errorsOf, processStartTime } from "@skep/base";
import type { Command } from "commander";
import { action, type Context } from "../context.ts";
import { daemonCommand, daemonLog, ensureDaemon } from "../daemon.ts";
import { fail, usage } from "../errors.ts";
import { ageText } from "../machine-text.ts";
import { shellWord } from "./inspect.ts";

function localClient(context: Context, verb: string): ApiClient {
  if (context.host !== undefined) throw fail("DAEMON_LOCAL", { verb, host: context.host });
  return new ApiClient({ socket: controlSocket(context.home) });
}

/** Ends skepd and waits for it; false where none ran. */
async function stopDaemon(
  context: Context,
  verb: string,
): Promise<{ pid: number; running: number } | undefined> {
  await using client = localClient(context, verb);
  if (!(await answers(controlSocket(context.home)))) return undefined;
  const { pid } = await client.call("version");
  const machines = await client.call("listMachines");
  const startTime = processStartTime(pid);
  await client.call("shutdown");
  for (let waited = 0; waited < 30_000; waited += 50) {
    const gone =
      startTime === undefined
        ? !(await answers(controlSocket(context.home)))
        : processStartTime(pid) !== startTime;
    if (gone) return { pid, running: machines.filter((machine) => machine.state === "running").length };
    await sleep(50);
  }
  const silent = {
    program: "skepd",
    pid,
    socket: controlSocket(context.home),
    logPath: daemonLog(context.home),
  };
  throw errorsOf(baseErrors)("DAEMON_SILENT", silent);
}

async function startDaemon(context: Context, listen: string | undefined): Promise<void> {
  const client = localClient(context, "start");
  await using _ = client;
  const { started } = await ensureDaemon(context.home, {
    onStart: (command) => {
      if (context.options.verbose) context.note(`starting: ${command.join(" ")}`);
    },
  });
  if (listen !== undefined)
    await client.call("setListen", { body: { address: listen === "none" ? null : listen } });
  const server = await client.call("version");
  if (context.options.json) context.printJson({ ...server, started });
  else
    context.print(
      `skepd ${server.version} ${started ? "started" : "runs already"} (pid ${server.pid}${server.listen === null ? "" : `, listens on ${server.listen}`})`,
    );
}

function leftRunning(count: number): string {
  return count === 0 ? "" : `; ${count} machine${count === 1 ? " runs" : "s run"} on without it`;
}

/** A systemd unit's text. It is not tried here: this house is built on hosts without systemd. */
function unitText(command: readonly string[], home: string, forUser: boolean): string {
  return [
    "[Unit]",
    "Description=skep: virtual machines",
    "After=network.target",
    "",
    "[Service]",
    `ExecStart=${command.map(shellWord).join(" ")}`,
    `Environment="SKEP_HOME=${home}"`,
    "# machines outlive skepd: end only the daemon itself",
    "KillMode=process",
    "Restart=on-failure",
    "",
    "[Install]",
    `WantedBy=${forUser ? "default.target" : "multi-user.target"}`,
  ].join("\n");
}

export function define(command: Command): void {
  command
    .summary("control skepd")
    .description(
      "Controls skepd, the daemon that steers machines. Any verb starts it; machines do not depend on it.",
    )
    .addHelpText(
      "after",
      "\nExamples:\n  skep daemon status\n  skep daemon start --listen 0.0.0.0:8440\n  skep daemon logs -f",
    );
  command
    .command("status")
    .description("Show whether skepd runs. Status 1 if not; it is not started.")
    .action(
      action(async (context) => {
        if (context.host === undefined && !(await answers(controlSocket(context.home)))) {
          if (context.options.json) context.printJson({ running: false, home: context.home });
          else context.print(`skepd does not run (${context.home})`);
          return 1;
        }
        const server = await (await context.client()).call("version");
        if (context.options.json) {
          context.printJson({ running: true, ...server });
          return 0;
        }
        const rows = [
          ["version", server.version],
          ["pid", `${server.pid}`],
          ["up", ageText(server.startedAt)],
          ["home", server.home],
          context.host === undefined ? ["socket", controlSocket(context.home)] : ["host", context.host],
          ["listens", server.listen ?? "on the socket only"],
        ];
        context.print(
          ["skepd runs", ...rows.map(([key, value]) => `  ${key!.padEnd(8)} ${value}`)].join("\n"),
        );
        return 0;
      }),
    );
  command
    .command("start")
    .description("Start skepd, unless it runs already.")
    .option("--listen <address:port>", "also on TCP, with TLS and tokens, now and later; none ends that")
    .action(action((context, flags: { listen?: string }) => startDaemon(context, flags.listen)));
  command
    .command("stop")
    .description("End skepd. Machines run on; the next verb starts it again.")
    .action(
      action(async (context) => {
        const ended = await stopDaemon(context, "stop");
        if (context.options.json) context.printJson({ stopped: ended !== undefined, ...ended });
        else
          context.print(
            ended === undefined
              ? "skepd does not run"
              : `skepd stopped (pid ${ended.pid})${leftRunning(ended.running)}`,
          );
      }),
    );
  command
    .command("restart")
    .description("End skepd and start it again. Machines run on.")
    .action(
      action(async (context) => {
        await stopDaemon(context, "restart");
        await startDaemon(context, undefined);
      }),
    );
  command
    .command("logs")
    .description("Show skepd's log.")
    .option("-f, --follow", "go on with what comes")
    .option("-n, --lines <count>", "how many of the last lines", "100")
    .action(
      action(async (context, flags: { follow?: boolean; lines: string }) => {
        if (!/^\d{1,7}$/.test(flags.lines)) throw usage(`--lines "${flags.lines}" is not a number`);
        localClient(context, "logs");
        const path = daemonLog(context.home);
        if (!existsSync(path)) throw fail("INPUT_UNREADABLE", { path, why: "skepd has not run yet" });
        const args = ["-n", flags.lines, ...(flags.follow === true ? ["-F"] : []), "--", path];
        const child = spawn("tail", args, { stdio: ["ignore", "inherit", "inherit"] });
        return new Promise<number>((resolve, reject) => {
          process.once("SIGINT", () => child.kill());
          child.once("error", reject).once("close", (code) => resolve(code ?? 0));
        });
      }),
    );
  command
    .command("unit")
    .description("Print a systemd unit for skepd (see systemd.service(5)); try it before you rely on it.")
    .option("--user", "for `systemctl --user`")
    .addHelpText(
      "after",
      "\nExamples:\n  skep daemon unit > /etc/systemd/system/skepd.service\n  skep daemon unit --user > ~/.config/systemd/user/skepd.service",
    )
    .action(
      action(async (context, flags: { user?: boolean }) => {
        context.print(unitText(daemonCommand(), context.home, flags.user === true));
      }),
    );
}
