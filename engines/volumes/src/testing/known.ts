import type { Interval, VolumeModel } from "./model.ts";

/** A snapshot that someone has asked for. */
export interface KnownSnapshot {
  /** Undefined while nobody was told. */
  id: string | undefined;
  name: string;
  of: KnownVolume;
  /** It is the volume at an instant between these. */
  taken: Interval;
  /** Its bytes, once they were read. */
  seen: Buffer | undefined;
  /** Its removal was tried. */
  mayBeGone: boolean;
}

/** A volume that someone has asked for, and what its bytes may be. */
export interface KnownVolume {
  id: string;
  model: VolumeModel;
  snapshots: KnownSnapshot[];
  /** Of a clone whose bytes nobody has read yet: what they are. */
  source: KnownSnapshot | undefined;
  /** Sizes that it may have besides the model's, where a resize was not answered. */
  sizes: Set<number>;
  /** Whether its making was acknowledged. */
  isCertain: boolean;
}
