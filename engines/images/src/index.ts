export { ImageStore } from "./image-store.ts";
export { type DiskFacts, inspectDisk } from "./inspect.ts";
export type { ImageManifest } from "./manifest.ts";
export type { StoredImage } from "./types.ts";
