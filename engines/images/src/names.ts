import { checkName } from "@skep/base";

/** An image's name is a machine's name that may also hold dots: `ubuntu-24.04`. It becomes a file's name. */
export function checkImageName(name: string): string {
  checkName(name.replace(/(?<=[a-z0-9])\.(?=[a-z0-9])/g, "-"), "image");
  return name;
}

/** A name for a file that came without one: `Some Disk.qcow2.xz` → `some-disk`. */
export function nameFromFile(file: string): string {
  const stem = file
    .toLowerCase()
    .replace(/\.(?:gz|xz|zst)$/, "")
    .replace(/\.(?:qcow2|raw|img|disk)$/, "");
  const name = stem
    .replace(/[^a-z0-9.]+/g, "-")
    .replace(/[.-]*-[.-]*/g, "-")
    .replace(/\.{2,}/g, ".")
    .slice(0, 48)
    .replace(/^[.-]+|[.-]+$/g, "");
  return checkImageName(name === "" ? "imported" : name);
}
