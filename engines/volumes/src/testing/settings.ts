import type { Random } from "@skep/objects/simulation";
import type { Compression, Durability } from "../types.ts";
import { noFaults, type StoreFaults } from "./simulated-store.ts";

/** What is the same in all of one run: small sizes, so that everything happens often. */
export interface RunSettings {
  sizeBytes: number;
  objBlockBytes: number;
  durability: Durability;
  compression: Compression;
  encrypted: boolean;
  segmentBytes: number;
  walLimitBytes: number;
  drainBytes: number;
  inlineBytes: number;
  earlySyncBytes: number;
  cacheBytes: number;
  faults: StoreFaults;
  /** How often a write to the local disk finds it full, and a flush of it fails. */
  diskFull: number;
  syncFailure: number;
  /** How often the store goes away for a while. */
  absence: number;
  slowness: number;
}

const kibibyte = 1024;

export function randomSettings(random: Random): RunSettings {
  const isFaulty = random.chance(0.6);
  const fault = (probability: number) => (isFaulty && random.chance(0.5) ? probability : 0);
  const segmentBytes = random.pick([16, 40, 130]) * kibibyte;
  return {
    sizeBytes: (64 + random.below(random.pick([40, 120, 449]))) * 4096,
    objBlockBytes: random.pick([16, 32, 64, 128]) * kibibyte,
    durability: random.pick(["local", "remote"]),
    compression: random.pick(["none", "zstd"]),
    encrypted: random.chance(0.4),
    segmentBytes,
    walLimitBytes: segmentBytes * (3 + random.below(8)),
    drainBytes: segmentBytes * (1 + random.below(2)),
    inlineBytes: random.pick([0, 1, 4, 64]) * kibibyte,
    earlySyncBytes: random.pick([6, 50, 1000]) * kibibyte,
    cacheBytes: random.pick([0, 64, 1024]) * kibibyte,
    faults: {
      ...noFaults,
      lostRequest: fault(0.1),
      lostAnswer: fault(0.1),
      twice: fault(0.1),
      late: fault(0.1),
      shortRead: fault(0.05),
      full: fault(0.03),
    },
    diskFull: random.chance(0.25) ? 0.02 : 0,
    syncFailure: random.chance(0.15) ? 0.05 : 0,
    absence: fault(0.02),
    slowness: random.pick([1, 3, 10]),
  };
}
