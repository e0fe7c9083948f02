import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { Event, Job } from "@skep/api/schemas";
import { eventually, Installation, root } from "./support.ts";

let skep: Installation;
before(async () => {
  skep = await Installation.make();
});
after(() => skep[Symbol.asyncDispose]());

const tiny = ["--image", "tiny", "--memory", "128M", "--cpus", "1"];
const machinesOnDisk = () => readdir(join(skep.home, "machines"));
const errorOf = (stderr: string) => JSON.parse(stderr.trimEnd().split("\n").at(-1) as string).error;

/** Runs skep until `seen` holds for what it has printed, then sends Ctrl-C; resolves with its end. */
async function interrupted(args: readonly string[], seen: (output: string) => boolean | Promise<boolean>) {
  const child = skep.spawn(args);
  let output = "";
  child.stdout.on("data", (text) => {
    output += text;
  });
  child.stderr.on("data", (text) => {
    output += text;
  });
  const exit = once(child, "exit");
  await eventually(
    async () => child.exitCode !== null || (await seen(output)),
    () => `skep ${args.join(" ")} printed only: ${output}`,
  );
  child.kill("SIGINT");
  const [status] = await exit;
  return { status, output };
}

describe("without a machine", () => {
  it("every verb and its own verbs have help with an example", async () => {
    const overview = (await skep.skep([])).stdout;
    const verbs = [...overview.matchAll(/^ {2}([a-z][a-z-]+) {2,}[a-z]/gm)].map(
      (match) => match[1] as string,
    );
    assert.ok(verbs.length >= 28, overview);
    const groups = ["image pull", "image build", "port add", "daemon start", "token create", "jobs cancel"];
    const all = [...verbs, ...groups];
    const worker = async () => {
      for (let words = all.pop(); words !== undefined; words = all.pop()) {
        const { stdout } = await skep.skep([...words.split(" "), "--help"]);
        assert.match(stdout, new RegExp(`^Usage: skep ${words}`));
        if (!words.includes(" ")) assert.match(stdout, /Example/, words);
      }
    };
    await Promise.all([worker(), worker(), worker()]);
  });

  it("a wrong command line ends with 2 and points the way", async () => {
    const wrong: [string[], RegExp][] = [
      [["strat"], /"strat" is not a verb of skep; did you mean "start"\?\n.*skep --help/],
      [["list"], /did you mean "ls"/],
      [["image", "lss"], /did you mean ls/],
      [["ls", "--jsn"], /did you mean --json/],
      [["start"], /needs a machine's name, or --all/],
      [["stop", "--all", "a"], /--all and names do not go together/],
      [["new"], /needs a name/],
      [["console", "--watch", "--take"], /do not go together/],
      [["logs", "-n", "x"], /not a number/],
      [["ls", "--filter", "colour=red"], /filters: /],
      [["cp", "a", "b"], /NAME:PATH/],
      [["completion", "tcsh"], /tcsh/],
    ];
    for (const [args, message] of wrong) {
      const { stderr } = await skep.skep(args, { status: 2 });
      assert.match(stderr, message, args.join(" "));
    }
  });

  it("lists say what to do next; in scripts they are empty", async () => {
    assert.match((await skep.skep(["ls"])).stderr, /no machines yet; make one: skep new/);
    assert.deepEqual(await skep.machines(), []);
    assert.equal((await skep.skep(["ls", "-q"])).stdout, "");
    const { stderr } = await skep.skep(["console"], { status: 2 });
    assert.match(stderr, /there is no machine\n {2}make one: skep new NAME --start/);
    assert.match((await skep.skep(["--json", "--help"])).stdout, /To begin/);
  });

  it("version names command and skepd", async () => {
    const version = JSON.parse((await skep.skep(["version", "--json"])).stdout);
    assert.equal(version.client, version.server.version);
    assert.match((await skep.skep(["--version"])).stdout, /^skep \S+ \(node v24/);
  });

  it("completion completes verbs, names and images in a real bash", async () => {
    await skep.skep(["new", "only", ...tiny]);
    const complete = async (line: string) => {
      const words = line.split(" ");
      const script = `source <(./skep completion bash); skep() { ./skep "$@"; }
        COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}
        COMP_LINE='${line}'; COMP_POINT=\${#COMP_LINE}
        $(complete -p skep | sed 's/.*-F \\([^ ]*\\).*/\\1/'); echo "\${COMPREPLY[@]}"`;
      return (await skep.command("bash", ["-c", script])).stdout.trim();
    };
    assert.match(await complete("skep sta"), /start.*stat/);
    assert.match(await complete("skep start on"), /only/);
    assert.match(await complete("skep new x --image ti"), /tiny/);
    await skep.skep(["rm", "only"]);
  });

  it("doctor tells each check, and fails with the package where a tool is missing", async () => {
    const checks = JSON.parse((await skep.skep(["doctor", "--json"])).stdout);
    for (const name of ["qemu", "accelerator", "tools", "disk", "memory"]) {
      assert.ok(checks.some((check: { name: string }) => check.name === name, name));
    }
    await using bare = await Installation.make([]);
    const bin = join(bare.home, "bin");
    await mkdir(bin);
    for (const name of await readdir("/usr/bin")) {
      if (!/^(qemu-|xorriso$)/.test(name)) await symlink(join("/usr/bin", name), join(bin, name));
    }
    const { stdout } = await bare.skep(["doctor"], { status: 1, env: { PATH: bin } });
    assert.match(stdout, /failed +qemu .*not installed/);
    assert.match(stdout, /fix: .*apt-get install .*qemu-system/);
    assert.match(stdout, /xorriso/);
  });
});

describe("a machine from a file", () => {
  it("has the file's settings, and flags override them", async () => {
    const path = join(skep.home, "machine.yaml");
    await writeFile(
      path,
      "name: filed\nimage: tiny\ncpus: 2\nmemory: 160M\nports: [':80']\nautostart: true\ndata-disks: [10M]\n",
    );
    assert.equal((await skep.skep(["new", "-f", path, "--memory", "192M"])).stdout, "filed\n");
    const machine = await skep.machine("filed");
    assert.deepEqual(
      [machine.cpus, machine.memoryMiB, machine.autostart, machine.dataDisks, machine.ports[0]?.guestPort],
      [2, 192, true, [{ sizeBytes: 10 * 1024 ** 2 }], 80],
    );
    await writeFile(path, "image: tiny\nmemroy: 1G\n");
    const { stderr } = await skep.skep(["new", "x", "-f", path], { status: 2 });
    assert.match(stderr, /line 2: "memroy" .*did you mean "memory"/);
    const everySetting = await readFile(join(root, "docs/machine.yaml"), "utf8");
    await skep.skep(["new", "piped", ...tiny, "-f", "-"], { input: everySetting });
    await skep.skep(["rm", "filed", "piped"]);
    assert.deepEqual(await machinesOnDisk(), []);
  });
});

describe("several machines", () => {
  before(async () => {
    await skep.skep(["new", "a", ...tiny]);
    await skep.skep(["new", "b", ...tiny, "--autostart"]);
    await skep.skep(["new", "c", ...tiny]);
  });
  after(() => skep.skep(["rm", "--all", "--force"]));

  it("are listed, filtered, and counted", async () => {
    assert.equal((await skep.skep(["ls", "-q"])).stdout, "a\nb\nc\n");
    assert.equal((await skep.skep(["ls", "-q", "--filter", "autostart=true"])).stdout, "b\n");
    const two = await skep.skep(["ls", "-q", "--filter", "name=a", "--filter", "name=[c]"], { status: null });
    assert.equal(two.stdout, "a\n");
    assert.equal(
      (await skep.skep(["ls", "-q", "--filter", "image=ti*", "--filter", "name=c"])).stdout,
      "c\n",
    );
    assert.equal((await skep.skep(["status", "a", "b", "-q"])).stdout, "stopped\nstopped\n");
  });

  it("start and stop together; a failure is told and the others still happen", async () => {
    const started = await skep.skep(["start", "a", "nobody", "b"], { status: 1 });
    assert.match(started.stderr, /"nobody" does not exist/);
    assert.match(started.stderr, /1 of 3 machines failed/);
    assert.equal(started.stdout, "a\nb\n");
    assert.equal((await skep.skep(["ls", "-q", "--filter", "state=running"])).stdout, "a\nb\n");
    const { stderr } = await skep.skep(["start", "no1", "no2", "--json"], { status: 1 });
    assert.deepEqual(
      stderr
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line).error.code),
      ["MACHINE_NOT_FOUND", "MACHINE_NOT_FOUND", "MACHINE_FAILED"],
    );
    await skep.skep(["stop", "--all", "--force"]);
    assert.equal((await skep.skep(["ls", "-q", "--filter", "state=running"])).stdout, "");
  });

  it("are removed together, each told once by name", async () => {
    await skep.skep(["start", "a", "b"]);
    const { stdout, stderr } = await skep.skep(["rm", "--all", "--force"]);
    assert.deepEqual(stdout.trim().split("\n").sort(), ["a", "b", "c"]);
    assert.match(stderr, /^ending a$/m);
    assert.deepEqual(await machinesOnDisk(), []);
    assert.deepEqual(await skep.qemuPids(), []);
  });
});

describe("one machine", () => {
  before(() => skep.skep(["new", "web", ...tiny]));
  after(() => skep.skep(["rm", "--force", "web"]));

  it("boots from the command that inspect --qemu prints, and skep takes it over", async () => {
    const { stdout } = await skep.skep(["inspect", "web", "--qemu"]);
    const shell = spawn("sh", ["-c", stdout.replace("/usr/bin/qemu", "exec /usr/bin/qemu")], {
      stdio: "ignore",
    });
    const ended = once(shell, "exit");
    try {
      await skep.skep(["start", "web", "--wait"]);
      assert.equal((await skep.skep(["exec", "web", "--", "hostname"])).stdout, "web\n");
      assert.equal((await skep.machine("web")).pid, shell.pid);
      await skep.skep(["stop", "web", "--force"]);
      await ended;
    } finally {
      if (shell.exitCode === null) shell.kill("SIGKILL");
    }
  });

  it("is edited while stopped, and has it at the next start", async () => {
    await skep.skep(["edit", "web", "-c", "2", "-m", "160M", "--autostart", "--telnet"]);
    const edited = await skep.machine("web");
    assert.deepEqual([edited.cpus, edited.memoryMiB, edited.autostart], [2, 160, true]);
    assert.ok(edited.telnetPort !== null);
    await skep.skep(["edit", "web", "--no-autostart", "--no-telnet"]);
    assert.equal((await skep.machine("web")).telnetPort, null);
    await skep.skep(["start", "web", "--wait"]);
    assert.equal((await skep.skep(["exec", "web", "--", "nproc"])).stdout, "2\n");
    for (const [flag, value, what] of [
      ["-c", "1", "cpus"],
      ["-m", "128M", "memory"],
    ] as const) {
      const { stderr } = await skep.skep(["edit", "web", flag, value, "--json"], { status: 1 });
      const { code, message, hint } = errorOf(stderr);
      assert.equal(code, "MACHINE_RUNNING");
      assert.match(`${message} ${hint}`, new RegExp(`${what}.*skep stop web`));
    }
    const { stderr } = await skep.skep(["edit", "web"], { status: 2 });
    assert.match(stderr, /nothing to change/);
  });

  it("forwards ports, and refuses double and taken ones by name", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const address = other.address();
    assert.ok(address !== null && typeof address === "object");
    try {
      await skep.skep(["port", "add", "web", ":80", ":53/udp"]);
      const [http, dns] = (await skep.machine("web")).ports;
      assert.deepEqual([http?.guestPort, dns?.guestPort, dns?.protocol], [80, 53, "udp"]);
      const twice = await skep.skep(["port", "add", "web", `${http?.hostPort}:81`], { status: 1 });
      assert.match(twice.stderr, /in use by this machine already/);
      const taken = await skep.skep(["port", "add", "web", `${address.port}:81`], { status: 1 });
      assert.match(taken.stderr, /in use by another program/);
      await skep.skep(["new", "peer", ...tiny]);
      const double = await skep.skep(["port", "add", "peer", `${http?.hostPort}:80`], { status: 1 });
      assert.match(double.stderr, /published already by machine "web"/);
      await skep.skep(["rm", "peer"]);
      assert.equal(
        (await skep.skep(["port", "ls", "web", "-q"])).stdout,
        `${http?.hostPort}\n${dns?.hostPort}\n`,
      );
      await skep.skep(["port", "rm", "web", String(http?.hostPort)]);
      await skep.skep(["port", "rm", "web", `${dns?.hostPort}/udp`]);
      assert.match(
        (await skep.skep(["port", "rm", "web", "9"], { status: 1 })).stderr,
        /publishes no port 9/,
      );
      assert.match((await skep.skep(["port", "add", "web", "x:y"], { status: 2 })).stderr, /HOST:GUEST/);
    } finally {
      other.close();
    }
  });

  it("tells its logs: all, the last lines, what is newer, what follows, QEMU's own", async () => {
    const serial = "/dev/ttyS0";
    await skep.skep(["exec", "web", "--", "sh", "-c", `echo one > ${serial}; echo two > ${serial}`]);
    await eventually(
      async () => /one\r?\ntwo/.test((await skep.skep(["logs", "web"])).stdout),
      () => "the console's log lacks what was printed",
    );
    assert.match((await skep.skep(["logs", "-n", "1", "web"])).stdout, /^two\r?\n$/);
    assert.match((await skep.skep(["logs", "--since", "10m"])).stdout, /two/);
    await skep.skep(["logs", "--qemu", "web"]);
    const child = skep.spawn(["logs", "-f", "-n", "1", "web"]);
    let followed = "";
    child.stdout.on("data", (text) => {
      followed += text;
    });
    await eventually(
      () => followed.includes("two"),
      () => "logs -f printed nothing",
    );
    await skep.skep(["exec", "web", "--", "sh", "-c", `echo three > ${serial}`]);
    await eventually(
      () => followed.includes("three"),
      () => "logs -f did not follow",
    );
    child.kill("SIGINT");
    assert.deepEqual((await once(child, "exit"))[0], 0);
  });

  it("is restarted: another process, the same machine", async () => {
    const before_ = await skep.machine("web");
    await skep.skep(["restart", "web", "--force"]);
    const after_ = await skep.machine("web");
    assert.equal(after_.id, before_.id);
    assert.notEqual(after_.pid, before_.pid);
    assert.equal(after_.state, "running");
  });

  it("is told of by events while it changes, one JSON object a line", async () => {
    const child = skep.spawn(["events", "--json"]);
    let text = "";
    child.stdout.on("data", (piece) => {
      text += piece;
    });
    const events = () =>
      text
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line) as Event);
    await eventually(
      async () => {
        await skep.skep(["edit", "web", "--autostart"]); // until one is seen, it may not have subscribed
        return events().length > 0;
      },
      () => "no event came",
    );
    await skep.skep(["stop", "--force", "web"]);
    await eventually(
      () =>
        events().some(
          (event) => event.type === "machine.state" && JSON.stringify(event.data).includes("stopped"),
        ),
      () => text,
    );
    assert.ok(events().some((event) => event.type === "job.succeeded" && event.subject === "web"));
    child.kill("SIGINT");
    assert.equal((await once(child, "exit"))[0], 0);
  });

  it("shows its work as jobs, which can be cancelled from elsewhere", async () => {
    await skep.skep(["new", "frozen", "--image", "tiny", "--memory", "128M", "--start"]);
    process.kill((await skep.machine("frozen")).pid as number, "SIGSTOP");
    const stopping = skep.skep(["stop", "frozen"], { status: 130 });
    const running = async (): Promise<Job[]> => JSON.parse((await skep.skep(["jobs", "--json"])).stdout);
    await eventually(
      async () => (await running()).some((job) => job.kind === "machine.stop"),
      () => "no job is running",
    );
    const [job] = await running();
    assert.match((await skep.skep(["jobs", "ls"])).stdout, /machine\.stop +frozen +running/);
    await skep.skep(["jobs", "cancel", job?.id as string]);
    await stopping;
    process.kill((await skep.machine("frozen")).pid as number, "SIGCONT");
    assert.match((await skep.skep(["jobs", "ls", "--all"])).stdout, /machine\.stop +frozen +cancelled/);
    const { stderr } = await skep.skep(["jobs", "cancel", job?.id as string], { status: 1 });
    assert.match(stderr, /cancelled/);
    assert.equal((await skep.machine("frozen")).state, "running");
    await skep.skep(["rm", "frozen", "--force"]);
  });
});

describe("Ctrl-C ends with 130 and", () => {
  after(() => skep.skep(["rm", "--all", "--force"]));

  it("leaves nothing of a machine that new waits for", async () => {
    const { status, output } = await interrupted(["new", "gone", ...tiny, "--wait"], (text) =>
      text.includes("waiting for gone"),
    );
    assert.equal(status, 130);
    assert.match(output, /cancelling and undoing/);
    assert.deepEqual(await machinesOnDisk(), []);
    assert.deepEqual(await skep.qemuPids(), []);
  });

  it("keeps a new machine that does not answer in its time, to be looked at", async () => {
    const { stderr } = await skep.skep(["new", "late", ...tiny, "--wait", "--timeout", "1s"], { status: 1 });
    assert.match(stderr, /"late" runs but did not answer within 1 s/);
    assert.equal((await skep.machine("late")).state, "running");
    await skep.skep(["rm", "--force", "late"]);
  });

  it("leaves a started machine booting, and says so", async () => {
    await skep.skep(["new", "boot", ...tiny]);
    const { status, output } = await interrupted(["start", "boot", "--wait"], (text) =>
      text.includes("waiting for boot"),
    );
    assert.equal(status, 130);
    assert.match(output, /boot goes on booting/);
    assert.equal((await skep.machine("boot")).state, "running");
  });

  it("leaves a machine running that has not reacted to stop yet", async () => {
    const { pid } = await skep.machine("boot");
    process.kill(pid as number, "SIGSTOP");
    const { status } = await interrupted(["stop", "boot"], (text) => text.includes("shutting boot down"));
    process.kill(pid as number, "SIGCONT");
    assert.equal(status, 130);
    const machine = await skep.machine("boot");
    assert.deepEqual([machine.state, machine.pid], ["running", pid]);
  });
});
