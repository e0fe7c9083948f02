import type { Request } from "./codec.ts";
import type { BlockDevice } from "./device.ts";
import { Command, CommandFlag, type ErrnoName } from "./protocol.ts";

export interface Rules {
  device: BlockDevice;
  readOnly: boolean;
  structured: boolean;
  /** base:allocation was chosen. */
  allocation: boolean;
  maxPayloadBytes: number;
}

/** The errno for what the protocol does not allow, as its section on errors has it. */
export function refusal(
  { command, flags, offset, length, data }: Request,
  { device, readOnly, structured, allocation, maxPayloadBytes }: Rules,
): ErrnoName | undefined {
  const { minimum } = device.blockSizes;
  const outside = offset + length > device.sizeBytes;
  const unaligned = minimum > 1 && (offset % minimum !== 0 || length % minimum !== 0);
  const unknownFlags = (known: number) => (flags & ~(known | CommandFlag.fua)) !== 0;
  switch (command) {
    case Command.read: {
      if (unknownFlags(structured ? CommandFlag.df : 0)) return "EINVAL";
      if (length > maxPayloadBytes) {
        return (flags & CommandFlag.df) !== 0 ? "EOVERFLOW" : "EINVAL";
      }
      return outside || unaligned ? "EINVAL" : undefined;
    }
    case Command.write:
      if (readOnly) return "EPERM";
      if (unknownFlags(0) || data === undefined || unaligned) return "EINVAL";
      return outside ? "ENOSPC" : undefined;
    case Command.writeZeroes:
      if (device.writeZeroes === undefined) return "EINVAL";
      if (readOnly) return "EPERM";
      if (unknownFlags(CommandFlag.noHole | CommandFlag.fastZero) || unaligned) return "EINVAL";
      return outside ? "ENOSPC" : undefined;
    case Command.trim:
      if (device.trim === undefined) return "EINVAL";
      if (readOnly) return "EPERM";
      return unknownFlags(0) || unaligned || outside ? "EINVAL" : undefined;
    case Command.flush:
      return unknownFlags(0) || offset !== 0 || length !== 0 ? "EINVAL" : undefined;
    case Command.cache:
      if (device.cache === undefined) return "EINVAL";
      return unknownFlags(0) || unaligned || outside ? "EINVAL" : undefined;
    case Command.blockStatus:
      if (!allocation || device.blockStatus === undefined) return "EINVAL";
      return unknownFlags(CommandFlag.reqOne) || unaligned || outside || length === 0 ? "EINVAL" : undefined;
    default:
      return "EINVAL";
  }
}
