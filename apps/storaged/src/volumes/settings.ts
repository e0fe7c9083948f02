import type { VolumeSettings } from "@skep/volumes";

/** As requests give them. */
interface Settings {
  durability?: VolumeSettings["durability"];
  compression?: VolumeSettings["compression"];
  iops?: number | null;
  bandwidth?: number | null;
}

/** Of a volume, as far as they are given. */
export function settingsOf({ durability, compression, iops, bandwidth }: Settings): Partial<VolumeSettings> {
  const none = { iops: null, bytesPerSecond: null };
  return {
    ...(durability === undefined ? {} : { durability }),
    ...(compression === undefined ? {} : { compression }),
    ...(iops === undefined && bandwidth === undefined ? {} : { limits: limitsOf({ iops, bandwidth }, none) }),
  };
}

/** What is not given stays. */
export function limitsOf(
  { iops, bandwidth }: Settings,
  before: VolumeSettings["limits"],
): VolumeSettings["limits"] {
  return {
    iops: iops === undefined ? before.iops : iops,
    bytesPerSecond: bandwidth === undefined ? before.bytesPerSecond : bandwidth,
  };
}
