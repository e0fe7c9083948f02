/** Apart from the room's other face, for the SDK is large, and who keeps objects here does not need it. */
export type { ConditionalWrite } from "./conditions.ts";
export type { ForeignOptions } from "./connection.ts";
export { ForeignStore } from "./store.ts";
