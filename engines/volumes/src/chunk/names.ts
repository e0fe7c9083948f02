/** Which chunk of which volume; epoch and number are u32. */
export interface ChunkName {
  volume: string;
  epoch: number;
  number: number;
}

const hex = (value: number) => value.toString(16).padStart(8, "0");

/** `<epoch>-<number>`, as chunks and map objects are named. */
export function serialName(epoch: number, number: number): string {
  return `${hex(epoch)}-${hex(number)}`;
}

/** Undefined where it is no such name. */
export function parseSerialName(name: string): { epoch: number; number: number } | undefined {
  const match = /^([0-9a-f]{8})-([0-9a-f]{8})$/.exec(name);
  if (match === null) return undefined;
  return { epoch: Number.parseInt(match[1] as string, 16), number: Number.parseInt(match[2] as string, 16) };
}

function chunkPrefix(volume: string): string {
  return `${volume}/chunks/`;
}

export function chunkObjectKey({ volume, epoch, number }: ChunkName): string {
  return `${chunkPrefix(volume)}${serialName(epoch, number)}`;
}
