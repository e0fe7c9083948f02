import type { Volume } from "@skep/api/schemas";
import { Gauge, type Registry } from "prom-client";

/** Gauges of each volume, read when they are asked for. */
export function volumeMetrics(registry: Registry): (volumes: readonly Volume[]) => void {
  const registers = [registry];
  const gauge = (name: string, help: string) =>
    new Gauge({ name, help, labelNames: ["volume", "name"], registers });
  const gauges: [Gauge, (volume: Volume) => number | null | undefined][] = [
    [gauge("skep_volume_size_bytes", "size of a volume"), (volume) => volume.sizeBytes],
    [
      gauge("skep_volume_stored_bytes", "what a volume's own objects take in its store"),
      (volume) => volume.storedBytes,
    ],
    [
      gauge("skep_volume_wal_bytes", "what waits on this host's disk for the volume's store"),
      (volume) => volume.walBytes,
    ],
    [gauge("skep_volume_problem", "1 where something is wrong with it"), (volume) => problemOf(volume)],
    [
      gauge("skep_volume_written_bytes", "bytes written since it was opened"),
      (volume) => volume.statistics?.bytesWritten,
    ],
    [
      gauge("skep_volume_read_bytes", "bytes read since it was opened"),
      (volume) => volume.statistics?.bytesRead,
    ],
    [gauge("skep_volume_flushes", "flushes since it was opened"), (volume) => volume.statistics?.flushes],
    [
      gauge("skep_volume_store_written_bytes", "bytes sent to its store since it was opened"),
      (volume) => volume.statistics?.bytesToStore,
    ],
    [
      gauge("skep_volume_store_read_bytes", "bytes fetched from its store since it was opened"),
      (volume) => volume.statistics?.bytesFromStore,
    ],
  ];
  return (volumes) => {
    for (const [metric, read] of gauges) {
      metric.reset();
      for (const volume of volumes) {
        const value = read(volume);
        if (value === null || value === undefined) continue;
        metric.set({ volume: volume.id, name: volume.name ?? "" }, value);
      }
    }
  };
}

const problemOf = ({ problem }: Volume) => (problem === null ? 0 : 1);
