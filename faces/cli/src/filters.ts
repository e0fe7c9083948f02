import type { Machine } from "@skep/api";
import { fail } from "./errors.ts";

const fields: Record<string, (machine: Machine) => string> = {
  name: (machine) => machine.name,
  state: (machine) => machine.state,
  image: (machine) => machine.image ?? "",
  arch: (machine) => machine.arch,
  from: (machine) => machine.from ?? "",
  autostart: (machine) => String(machine.autostart),
  ready: (machine) => String(machine.ready),
};

export interface Filter {
  key: string;
  pattern: RegExp;
}

/** `state=running`, `name=web-*`: `*` stands for any text. */
export function parseFilters(values: readonly string[]): Filter[] {
  const known = Object.keys(fields).join(", ");
  return values.map((value) => {
    const split = value.indexOf("=");
    const key = value.slice(0, Math.max(0, split));
    if (split < 1) throw fail("FILTER_INVALID", { value, why: "is not KEY=VALUE", known });
    if (!Object.hasOwn(fields, key))
      throw fail("FILTER_INVALID", { value, why: `has an unknown key`, known });
    const text = value.slice(split + 1).replace(/[.+?^${}()|[\]\\]/g, "\\$&");
    return { key, pattern: new RegExp(`^${text.replace(/\*+/g, ".*")}$`) };
  });
}

/** Different keys must all match; of several values for one key, any. */
export function matchesFilters(machine: Machine, filters: readonly Filter[]): boolean {
  const keys = new Set(filters.map((filter) => filter.key));
  return [...keys].every((key) =>
    filters.some((filter) => filter.key === key && filter.pattern.test(fields[key]!(machine))),
  );
}
