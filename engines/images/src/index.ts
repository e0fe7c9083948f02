export { ImageStore } from "./image-store.ts";
export type { StoredImage } from "./types.ts";
