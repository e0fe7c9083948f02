/**
 * Reads the files in the top directory of an ISO 9660 image with Joliet names, as `writeSeed` makes them (ECMA-119;
 * Joliet Specification, CD-ROM Recording Spec ISO 9660:1988 Extensions). The image has been in a guest's hands:
 * whatever it says is checked against its size.
 */

const sectorBytes = 2048;
const firstDescriptor = 16;
const mostDescriptors = 64;
const supplementary = 2;
const terminator = 255;
/** Escape sequences of UCS-2 level 1 to 3, which mark a Joliet descriptor. */
const jolietEscapes = ["%/@", "%/C", "%/E"];
const mostFiles = 64;
const directoryFlag = 2;

/** By name. Throws an error that says what is wrong with the image. */
export function readIsoFiles(image: Buffer): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  const root = rootOf(image);
  for (let at = 0; at < root.length; ) {
    const length = root[at] as number;
    // Records do not cross sectors: zeros fill what is left of one.
    if (length === 0) {
      at = (Math.floor(at / sectorBytes) + 1) * sectorBytes;
      continue;
    }
    const record = root.subarray(at, at + length);
    if (record.length < length || length < 34) throw new Error(`its directory is cut off at byte ${at}`);
    at += length;
    const nameBytes = record[32] as number;
    // The directory itself and its parent have names of one byte.
    if (((record[25] as number) & directoryFlag) !== 0 || nameBytes < 2) continue;
    if (33 + nameBytes > length) throw new Error("a name in its directory is cut off");
    if (files.size === mostFiles) throw new Error(`it has more than ${mostFiles} files`);
    const name = Buffer.from(record.subarray(33, 33 + nameBytes - (nameBytes % 2)));
    files.set(name.swap16().toString("utf16le").replace(/;1$/, ""), extent(image, record));
  }
  return files;
}

function rootOf(image: Buffer): Buffer {
  for (let index = firstDescriptor; index < firstDescriptor + mostDescriptors; index += 1) {
    const descriptor = image.subarray(index * sectorBytes, (index + 1) * sectorBytes);
    if (descriptor.length < sectorBytes || descriptor.toString("latin1", 1, 6) !== "CD001") break;
    if (descriptor[0] === terminator) break;
    const escapes = descriptor.toString("latin1", 88, 91);
    if (descriptor[0] === supplementary && jolietEscapes.includes(escapes)) {
      return extent(image, descriptor.subarray(156, 190));
    }
  }
  throw new Error("it is no ISO 9660 image with Joliet names");
}

function extent(image: Buffer, record: Buffer): Buffer {
  const start = record.readUInt32LE(2) * sectorBytes;
  const length = record.readUInt32LE(10);
  if (start + length > image.length)
    throw new Error(`a part of it lies outside of its ${image.length} bytes`);
  return image.subarray(start, start + length);
}
