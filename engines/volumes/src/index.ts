export { volumeErrors } from "./errors.ts";
export * from "./types.ts";
export { openVolumes, type VolumeResources, type VolumesOptions, volumeResources } from "./volumes.ts";
