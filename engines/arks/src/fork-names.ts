import type { ForkRequest } from "@skep/api/schemas";
import { checkName, SkepError } from "@skep/base";
import { failFork } from "./fork-errors.ts";

/**
 * What the copies of a machine shall be called: `name` for one alone, else `<prefix>-1` and on, where the
 * prefix is the machine's own name unless another is asked for. No free names are searched for: the same
 * command gives the same names. FORK_INVALID, NAME_INVALID.
 */
export function namesOfCopies(machine: string, { name, count = 1, prefix }: ForkRequest): string[] {
  const refuse = (why: string, hint: string) => failFork("FORK_INVALID", { machine, why, hint });
  if (!Number.isSafeInteger(count) || count < 1) {
    throw refuse(`${count} copies were asked for`, `ask for one or more: skep fork ${machine} -n 2`);
  }
  if (name !== undefined && (count > 1 || prefix !== undefined)) {
    const what = count > 1 ? `${count} copies cannot have` : "a prefix does not go with";
    throw refuse(
      `${what} one name`,
      `name them by a prefix: skep fork ${machine} -n ${count} --prefix ${name}`,
    );
  }
  if (name !== undefined) return [checkName(name)];
  const stem = prefix ?? machine;
  // The last one has the most digits: where its name will do, all do.
  try {
    checkName(`${stem}-${count}`);
  } catch (error) {
    if (!(error instanceof SkepError) || prefix !== undefined) throw error;
    throw refuse(`"${stem}-${count}" is too long for a name`, `give a shorter one: --prefix PREFIX`);
  }
  return Array.from({ length: count }, (_, index) => `${stem}-${index + 1}`);
}

const mostNamed = 8;

/** FORK_NAME_TAKEN, where there is one of these names already. */
export function checkNamesFree(
  machine: string,
  names: readonly string[],
  isTaken: (name: string) => boolean,
): void {
  const taken = names.filter(isTaken);
  if (taken.length === 0) return;
  const list = taken
    .slice(0, mostNamed)
    .map((name) => `"${name}"`)
    .join(", ");
  const more = taken.length > mostNamed ? ` and ${taken.length - mostNamed} more` : "";
  throw failFork("FORK_NAME_TAKEN", {
    machine,
    names:
      taken.length === 1 ? `there is a machine ${list} already` : `there are machines ${list}${more} already`,
  });
}
