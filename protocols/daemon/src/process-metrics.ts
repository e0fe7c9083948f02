import { readdirSync } from "node:fs";
import { Counter, Gauge, type Registry } from "prom-client";

/** A gauge whose value is read when it is asked for. */
export function readGauge(registry: Registry, name: string, help: string, read: () => number): Gauge {
  return new Gauge({
    name,
    help,
    registers: [registry],
    collect() {
      this.set(read());
    },
  });
}

/**
 * Memory, start, open files and CPU time of this process, under `prefix`. prom-client's own default
 * metrics keep an event-loop timer that would cost an idle daemon its rest.
 */
export function addProcessMetrics(registry: Registry, prefix: string): void {
  readGauge(registry, `${prefix}resident_memory_bytes`, "resident memory", () => process.memoryUsage.rss());
  readGauge(registry, `${prefix}start_time_seconds`, "start time since the epoch", () =>
    Math.round(Date.now() / 1000 - process.uptime()),
  );
  readGauge(registry, `${prefix}open_fds`, "open file descriptors", () => {
    try {
      return readdirSync("/proc/self/fd").length;
    } catch {
      return 0; // not on this system
    }
  });
  new Counter({
    name: `${prefix}cpu_seconds_total`,
    help: "CPU time, user and system",
    registers: [registry],
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
}
