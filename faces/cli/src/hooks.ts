import { parseDuration } from "@skep/base";

/** Of suspend and resume. */
export interface HookFlags {
  hooks: boolean;
  hookTimeout?: string;
}

export function hookRequest({ hooks, hookTimeout }: HookFlags): { hooks?: false; hookSeconds?: number } {
  return {
    ...(hooks ? {} : { hooks: false }),
    ...(hookTimeout === undefined ? {} : { hookSeconds: parseDuration(hookTimeout) / 1000 }),
  };
}
