import type { Job } from "@skep/api/schemas";
import { addProcessMetrics } from "@skep/daemon";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { MachineEngine } from "./engines.ts";

/** Prometheus metrics; all gauges are read when they are asked for. */
export interface Metrics {
  readonly registry: Registry;
  jobFinished(job: Job, seconds: number): void;
  request(method: string, route: string, status: number, seconds: number): void;
}

export function createMetrics(machines: MachineEngine, version: string): Metrics {
  const registry = new Registry();
  const registers = [registry];
  new Gauge({ name: "skep_info", help: "version of skepd", labelNames: ["version"], registers }).set(
    { version },
    1,
  );
  new Gauge({
    name: "skep_machines",
    help: "machines by state",
    labelNames: ["state"],
    registers,
    collect() {
      this.reset();
      for (const { state } of machines.list()) this.inc({ state });
    },
  });
  addProcessMetrics(registry, "process_");
  const jobs = new Counter({
    name: "skep_jobs_total",
    help: "finished jobs by kind and outcome",
    labelNames: ["kind", "outcome"],
    registers,
  });
  const jobSeconds = new Histogram({
    name: "skep_job_duration_seconds",
    help: "duration of finished jobs",
    labelNames: ["kind"],
    buckets: [0.1, 0.5, 1, 5, 15, 60, 300, 1800],
    registers,
  });
  const requests = new Histogram({
    name: "skep_http_request_duration_seconds",
    help: "duration of HTTP requests until their answer began to leave",
    labelNames: ["method", "route", "status"],
    buckets: [0.005, 0.025, 0.1, 0.5, 2.5, 10],
    registers,
  });
  return {
    registry,
    jobFinished(job, seconds) {
      jobs.inc({ kind: job.kind, outcome: job.state });
      jobSeconds.observe({ kind: job.kind }, seconds);
    },
    request(method, route, status, seconds) {
      requests.observe({ method, route, status }, seconds);
    },
  };
}
