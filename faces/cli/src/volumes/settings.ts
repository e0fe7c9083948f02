import { parseSize } from "@skep/base";
import type { Command } from "commander";
import { usage } from "../errors.ts";

const blockBytes = 4096;

export interface SettingFlags {
  durability?: string;
  compression?: string;
  iops?: string;
  bandwidth?: string;
}

export interface Settings {
  durability?: "local" | "remote";
  compression?: "none" | "zstd";
  iops?: number | null;
  bandwidth?: number | null;
}

export function addSettingOptions(command: Command): Command {
  return command
    .optionsGroup("Settings:")
    .option(
      "--durability <where>",
      "when a flush is answered: local (this host's disk) or remote (the store)",
    )
    .option("--compression <how>", "zstd or none")
    .option("--iops <count>", "at most so many requests a second, each 256 KiB counted once; or none")
    .option("--bandwidth <size>", "at most so many bytes a second, as in 100M; or none");
}

/** A volume's size in bytes; a number without a unit is refused, for it would be bytes. */
export function parseVolumeSize(value: string): number {
  if (/^\s*[\d.]+\s*$/.test(value))
    throw usage(`size "${value}" has no unit`, `write ${value.trim()}G or ${value.trim()}GiB`);
  const bytes = parseSize(value);
  if (bytes % blockBytes !== 0)
    throw usage(`size "${value}" is no multiple of 4 KiB`, "write it with K, M or G");
  return bytes;
}

export function settingsOf(flags: SettingFlags): Settings {
  const { durability, compression, iops, bandwidth } = flags;
  return {
    ...(durability === undefined ? {} : { durability: oneOf("durability", durability, ["local", "remote"]) }),
    ...(compression === undefined
      ? {}
      : { compression: oneOf("compression", compression, ["none", "zstd"]) }),
    ...(iops === undefined ? {} : { iops: limitOf(iops, parseIops) }),
    ...(bandwidth === undefined ? {} : { bandwidth: limitOf(bandwidth, parseBandwidth) }),
  };
}

function oneOf<const T extends string>(what: string, value: string, known: readonly T[]): T {
  const found = known.find((one) => one === value);
  if (found === undefined) throw usage(`${what} "${value}" is not known`, `write ${known.join(" or ")}`);
  return found;
}

const limitOf = (value: string, parse: (value: string) => number) => (value === "none" ? null : parse(value));

function parseIops(value: string): number {
  if (!/^\d{1,9}$/.test(value) || Number(value) < 1)
    throw usage(`iops "${value}" is not a whole number above 0`, "write --iops 500, or --iops none");
  return Number(value);
}

function parseBandwidth(value: string): number {
  const bytes = parseSize(value);
  if (bytes < blockBytes)
    throw usage(`bandwidth "${value}" is below 4 KiB a second`, "write --bandwidth 100M");
  return bytes;
}
