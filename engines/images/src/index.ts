export type { StoredImage } from "./types.ts";
