import type { Volume } from "@skep/api/schemas";
import { addProcessMetrics, readGauge } from "@skep/daemon";
import type { BucketStore } from "@skep/objects";
import type { RequestRecord } from "@skep/s3";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { volumeMetrics } from "./volumes/metrics.ts";

export interface Metrics {
  request(record: RequestRecord): void;
  /** Prometheus' text format. */
  text(): Promise<string>;
}

/** All gauges are read when they are asked for, and buckets' usage is kept by the index. */
export function createMetrics(
  store: BucketStore,
  active: () => number,
  volumes: () => Promise<Volume[]>,
): Metrics {
  const registry = new Registry();
  const setVolumes = volumeMetrics(registry);
  const registers = [registry];
  const ofBucket = (name: string, help: string) =>
    new Gauge({ name, help, labelNames: ["bucket"], registers });
  const objects = ofBucket("skep_bucket_objects", "objects of a bucket");
  const bytes = ofBucket("skep_bucket_bytes", "bytes of a bucket, all versions");
  const versions = ofBucket("skep_bucket_versions", "versions in a bucket, delete markers included");
  const uploads = ofBucket("skep_bucket_uploads", "unfinished uploads of a bucket");
  readGauge(registry, "skep_storaged_requests_active", "S3 requests that are being answered", active);
  addProcessMetrics(registry, "skep_storaged_");
  const requests = new Histogram({
    name: "skep_s3_request_duration_seconds",
    help: "duration of S3 requests until their answer was sent",
    labelNames: ["operation", "status"],
    buckets: [0.002, 0.01, 0.05, 0.25, 1, 5, 30, 300],
    registers,
  });
  const received = new Counter({ name: "skep_s3_received_bytes_total", help: "bytes of bodies", registers });
  const sent = new Counter({ name: "skep_s3_sent_bytes_total", help: "bytes of answers", registers });
  return {
    request(record) {
      const { operation, status } = record;
      requests.observe({ operation: operation || "unknown", status }, record.totalMs / 1000);
      received.inc(record.receivedBytes);
      sent.inc(record.sentBytes);
    },
    async text() {
      for (const metric of [objects, bytes, versions, uploads]) metric.reset();
      for (const { name: bucket } of await store.buckets()) {
        const usage = await store.usage(bucket);
        objects.set({ bucket }, usage.objects);
        bytes.set({ bucket }, usage.bytes);
        versions.set({ bucket }, usage.versions);
        uploads.set({ bucket }, usage.uploads);
      }
      setVolumes(await volumes());
      return registry.metrics();
    },
  };
}
