import type { Command } from "commander";

export interface VerbModule {
  /** Adds arguments, options, examples and the action to the verb's command; `args` is the command line. */
  define(command: Command, args: readonly string[]): void;
}

export interface Verb {
  name: string;
  group: "machines" | "images" | "volumes" | "storage" | "access" | "host";
  summary: string;
  load(): Promise<VerbModule>;
}

const verb = (name: string, group: Verb["group"], summary: string, load: Verb["load"]): Verb => ({
  name,
  group,
  summary,
  load,
});

/** Every verb that exists; each is a file that is read only when it is used. */
export const verbs: readonly Verb[] = [
  verb("new", "machines", "make a machine", () => import("./verbs/new.ts")),
  verb("start", "machines", "start machines", () => import("./verbs/start.ts")),
  verb("stop", "machines", "stop machines", () => import("./verbs/stop.ts")),
  verb("restart", "machines", "stop and start machines", () => import("./verbs/restart.ts")),
  verb("suspend", "machines", "put machines to sleep with their memory", () => import("./verbs/suspend.ts")),
  verb("resume", "machines", "wake suspended machines", () => import("./verbs/resume.ts")),
  verb("fork", "machines", "copy a machine as it runs", () => import("./verbs/fork.ts")),
  verb(
    "snapshot",
    "machines",
    "keep machines as they are, and set them back",
    () => import("./verbs/snapshot.ts"),
  ),
  verb("status", "machines", "show what machines are doing", () => import("./verbs/status.ts")),
  verb("ls", "machines", "list machines", () => import("./verbs/ls.ts")),
  verb("console", "machines", "attach to the serial console", () => import("./verbs/console.ts")),
  verb("shell", "machines", "open a shell in a machine", () => import("./verbs/shell.ts")),
  verb("exec", "machines", "run a command in a machine", () => import("./verbs/exec.ts")),
  verb("cp", "machines", "copy files in and out", () => import("./verbs/cp.ts")),
  verb("logs", "machines", "show what a machine has printed", () => import("./verbs/logs.ts")),
  verb("edit", "machines", "change cpus, memory, disk size", () => import("./verbs/edit.ts")),
  verb("rm", "machines", "remove machines", () => import("./verbs/rm.ts")),
  verb("inspect", "machines", "show everything about a machine", () => import("./verbs/inspect.ts")),
  verb("port", "machines", "forward ports of a machine", () => import("./verbs/port.ts")),
  verb("stats", "machines", "show live use of cpu, memory, disk, network", () => import("./verbs/stats.ts")),
  verb("screenshot", "machines", "save a picture of the screen", () => import("./verbs/screenshot.ts")),
  verb("image", "images", "list, pull, build, import and remove images", () => import("./verbs/image.ts")),
  verb(
    "template",
    "images",
    "keep images booted, for machines that are there at once",
    () => import("./verbs/template.ts"),
  ),
  verb("vol", "volumes", "make, attach, snapshot and move disks", () => import("./verbs/vol.ts")),
  verb("up", "storage", "serve object storage (S3)", () => import("./verbs/up.ts")),
  verb("down", "storage", "stop serving object storage", () => import("./verbs/down.ts")),
  verb("object", "storage", "list, store, fetch and remove objects", () => import("./verbs/object.ts")),
  verb("bucket", "storage", "make, list and remove buckets", () => import("./verbs/bucket.ts")),
  verb("auth", "storage", "give AWS tools a key for object storage", () => import("./verbs/auth.ts")),
  verb("configure", "storage", "tell AWS tools where it is", () => import("./verbs/configure.ts")),
  verb("key", "storage", "make and revoke S3 access keys", () => import("./verbs/key.ts")),
  verb("account", "storage", "make and remove owners of buckets", () => import("./verbs/account.ts")),
  verb("ssh-config", "access", "let ssh NAME.skep find machines", () => import("./verbs/ssh-config.ts")),
  verb("proxy", "access", "connect stdin and stdout to a machine's port", () => import("./verbs/proxy.ts")),
  verb("login", "access", "remember a remote skepd", () => import("./verbs/login.ts")),
  verb("token", "access", "make and revoke access tokens", () => import("./verbs/token.ts")),
  verb("doctor", "host", "check what this host needs", () => import("./verbs/doctor.ts")),
  verb("daemon", "host", "control skepd", () => import("./verbs/daemon.ts")),
  verb("events", "host", "follow what happens", () => import("./verbs/events.ts")),
  verb("jobs", "host", "list and cancel running work", () => import("./verbs/jobs.ts")),
  verb(
    "completion",
    "host",
    "print a completion script for bash, zsh or fish",
    () => import("./verbs/completion.ts"),
  ),
  verb("version", "host", "show versions", () => import("./verbs/version.ts")),
];
