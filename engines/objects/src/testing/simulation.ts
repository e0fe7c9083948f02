export { Random } from "./random.ts";
export { Crash, Schedule } from "./schedule.ts";
export { SimulatedFiles } from "./simulated-files.ts";
