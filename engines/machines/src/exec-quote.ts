import { Transform } from "node:stream";
import { fail } from "./exec-errors.ts";

/** One word for a POSIX shell, whatever is in it. */
export function quote(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** Refuses what a shell or the kernel cannot carry. */
export function checkCommand(
  name: string,
  command: readonly string[],
  env: Readonly<Record<string, string>> = {},
): void {
  const bad = (why: string) =>
    fail("EXEC_NOT_STARTED", { name, command: quote(command[0] ?? "a shell"), why });
  if (command[0] === "") throw bad("its name is empty");
  if ([...command, ...Object.values(env)].some((word) => word.includes("\0"))) {
    throw bad("a word has a NUL character in it");
  }
  for (const variable of Object.keys(env)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(variable)) {
      throw bad(`${JSON.stringify(variable)} is no name of a variable`);
    }
  }
}

/** `export A='1' B='2'; `, or nothing. */
export function exports(env: Readonly<Record<string, string>> = {}): string {
  const assignments = Object.entries(env).map(([variable, value]) => `${variable}=${quote(value)}`);
  return assignments.length === 0 ? "" : `export ${assignments.join(" ")}; `;
}

const mark = 0x1e;
const prefix = Buffer.from([mark, ...Buffer.from("skep ")]);
const maxBeforeMarkBytes = 256 * 1024;

/** Becomes the user's login shell. */
export const loginShell = `exec "\${SHELL:-/bin/sh}" -l`;

/**
 * A line for a remote login shell of any kind that says which process group it becomes (found by
 * `PidFilter`) and then is the command. An empty command is the user's login shell. With `as` it is
 * another user's, by sudo; then nothing is announced where sudo refuses.
 */
export function announcingCommand(
  command: readonly string[],
  env: Readonly<Record<string, string>> | undefined,
  as?: string,
): string {
  const run = command.length === 0 ? loginShell : 'exec "$@"';
  // Sudo puts a process between the group's first and the command; stat's fifth field is the group.
  const group = as === undefined ? "$$" : '"$(read -r p n s q g r </proc/$$/stat; echo "$g")"';
  const home = as !== undefined && command.length === 0 ? "cd; " : "";
  const script = `printf "\\036skep %s\\036" ${group}; ${home}${exports(env)}${run}`;
  return ["exec", ...sudo(as), "sh", "-c", quote(script), "skep", ...command.map(quote)].join(" ");
}

/** What puts a line in another user's hands, without ever asking for a password. */
export function sudo(user: string | undefined): string[] {
  return user === undefined ? [] : ["sudo", "-n", "-H", "-u", quote(user), "--"];
}

/** Takes the announcement out of a command's output. What a shell's start-up files print stays. */
export class PidFilter extends Transform {
  readonly #onPid: (pid: number) => void;
  #held: Buffer | undefined = Buffer.alloc(0);

  constructor(onPid: (pid: number) => void) {
    super();
    this.#onPid = onPid;
  }

  override _transform(
    bytes: Buffer,
    _encoding: BufferEncoding,
    done: (error: null, out?: Buffer) => void,
  ): void {
    done(null, this.#held === undefined ? bytes : this.#search(Buffer.concat([this.#held, bytes])));
  }

  override _flush(done: (error: null, out?: Buffer) => void): void {
    done(null, this.#held);
  }

  #search(held: Buffer): Buffer | undefined {
    const start = held.indexOf(prefix);
    const end = start < 0 ? -1 : held.indexOf(mark, start + prefix.length);
    if (end < 0 && held.length < maxBeforeMarkBytes) {
      this.#held = held;
      return undefined;
    }
    this.#held = undefined;
    if (end < 0) return held;
    const pid = Number(held.subarray(start + prefix.length, end).toString("latin1"));
    if (Number.isSafeInteger(pid) && pid > 1) this.#onPid(pid);
    const rest = Buffer.concat([held.subarray(0, start), held.subarray(end + 1)]);
    return rest.length > 0 ? rest : undefined;
  }
}

/** Ends a process group for good: asks, waits up to `seconds`, then kills. */
export function endGroupScript(pid: number, seconds: number): string {
  const group = `-${pid}`; // without `--`, which dash and busybox refuse
  return (
    `kill -HUP ${group} 2>/dev/null; kill -TERM ${group} 2>/dev/null; i=0; ` +
    `while kill -0 ${group} 2>/dev/null; do ` +
    `[ $i -ge ${seconds} ] && { kill -KILL ${group} 2>/dev/null; break; }; i=$((i+1)); sleep 1; done`
  );
}

const signals = /^(?:SIG)?(HUP|INT|QUIT|TERM|KILL|USR1|USR2|STOP|CONT|TSTP|WINCH|ABRT|ALRM|PIPE)$/;

/** The bare name of a signal, or undefined where it is none that may be sent. */
export function signalName(name: string): string | undefined {
  return signals.exec(name.toUpperCase())?.[1];
}
