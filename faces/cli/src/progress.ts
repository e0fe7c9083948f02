import { formatSize, type Progress } from "@skep/base";
import { printable, type Style } from "./style.ts";

/** Where progress is shown while a job runs. */
export interface ProgressView {
  update(progress: Progress): void;
  /** A line that stays. */
  note(message: string): void;
  /** Takes the moving line away. */
  close(): void;
}

export const silentView: ProgressView = { update() {}, note() {}, close() {} };

/** Bytes a second and seconds left, smoothed over the last samples. */
export class Rate {
  #samples: { at: number; done: number }[] = [];

  add(done: number, now: number): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && done < last.done) this.#samples = [];
    this.#samples.push({ at: now, done });
    while (this.#samples.length > 2 && now - this.#samples[0]!.at > 5000) this.#samples.shift();
  }

  perSecond(): number | undefined {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.at - first.at < 500) return undefined;
    return ((last.done - first.done) * 1000) / (last.at - first.at);
  }

  secondsLeft(total: number): number | undefined {
    const rate = this.perSecond();
    const last = this.#samples.at(-1);
    return rate === undefined || rate <= 0 || last === undefined ? undefined : (total - last.done) / rate;
  }
}

function clock(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole >= 3600)
    return `${Math.floor(whole / 3600)}h${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")}m`;
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function bar(part: number, width: number): string {
  const full = Math.round(Math.min(1, Math.max(0, part)) * width);
  return "━".repeat(full) + "─".repeat(width - full);
}

/** The moving line: phase, and for what can be counted a bar, amounts, rate and time left. */
export function progressLine(progress: Progress, rate: Rate, spinner: string, columns: number): string {
  const { done, total, unit } = progress;
  const phase = printable(progress.phase);
  const parts: string[] = [];
  if (done !== undefined && unit === "bytes") {
    const amount = total === undefined ? formatSize(done) : `${formatSize(done)} / ${formatSize(total)}`;
    parts.push(amount);
    const speed = rate.perSecond();
    if (speed !== undefined) parts.push(`${formatSize(Math.round(speed))}/s`);
    const left = total === undefined ? undefined : rate.secondsLeft(total);
    if (left !== undefined && left < 360_000) parts.push(clock(left));
  } else if (done !== undefined && total !== undefined) {
    parts.push(`${done}/${total}`);
  }
  const tail = parts.length === 0 ? "" : `  ${parts.join("  ")}`;
  const room = columns - phase.length - tail.length - 6;
  const shown = done !== undefined && total !== undefined && total > 0 && room >= 8;
  const middle = shown ? `  ${bar(done / total, Math.min(30, room))}` : "";
  return `${spinner} ${phase}${middle}${tail}`.slice(0, Math.max(10, columns - 1));
}

const frames = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/** One line on a terminal, redrawn ten times a second. */
export function terminalView(stream: NodeJS.WriteStream, style: Style): ProgressView {
  let current: Progress | undefined;
  let rate = new Rate();
  let frame = 0;
  let drawn = false;
  const draw = () => {
    if (current === undefined) return;
    frame = (frame + 1) % frames.length;
    const line = progressLine(current, rate, frames[frame]!, stream.columns || 80);
    stream.write(`\r${style.dim(line)}\x1b[K`);
    drawn = true;
  };
  const clear = () => {
    if (drawn) stream.write("\r\x1b[K");
    drawn = false;
  };
  const timer = setInterval(draw, 100);
  timer.unref();
  return {
    update(progress) {
      if (progress.phase !== current?.phase) rate = new Rate();
      if (progress.done !== undefined) rate.add(progress.done, performance.now());
      current = progress;
    },
    note(message) {
      clear();
      stream.write(`${printable(message)}\n`);
    },
    close() {
      clearInterval(timer);
      clear();
      current = undefined;
    },
  };
}

/** Plain lines: each phase once, and how far it is at most every `everyMs`. */
export function plainView(
  write: (line: string) => void,
  everyMs = 5000,
  now: () => number = () => performance.now(),
): ProgressView {
  let phase: string | undefined;
  let lastAt = 0;
  return {
    update(progress) {
      const { done, total, unit } = progress;
      if (progress.phase !== phase) {
        phase = progress.phase;
        lastAt = now();
        write(printable(phase));
      } else if (done !== undefined && unit === "bytes" && now() - lastAt >= everyMs) {
        lastAt = now();
        const part =
          total === undefined
            ? ""
            : ` of ${formatSize(total)} (${Math.floor((done / Math.max(1, total)) * 100)}%)`;
        write(`${printable(phase)}: ${formatSize(done)}${part}`);
      }
    },
    note(message) {
      write(printable(message));
    },
    close() {},
  };
}
