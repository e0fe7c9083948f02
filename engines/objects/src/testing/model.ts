/** What is known of one key: every change that was tried, when it was begun and when acknowledged. */
interface Attempt {
  /** Of the bytes; null for a deletion. */
  digest: string | null;
  begun: number;
  acknowledged: number;
}

/**
 * The values a key may have. A change that was acknowledged before another was begun is overwritten by
 * that one; of changes that ran at the same time any may be the last; one that was never acknowledged
 * may have happened at any time after it was begun, or not at all.
 */
export class KeyModel {
  #attempts: Attempt[] = [{ digest: null, begun: -1, acknowledged: -1 }];

  begin(digest: string | null, now: number): Attempt {
    const attempt = { digest, begun: now, acknowledged: Number.POSITIVE_INFINITY };
    this.#attempts.push(attempt);
    return attempt;
  }

  /** It was refused: it must not show. */
  refuse(attempt: Attempt): void {
    this.#attempts.splice(this.#attempts.indexOf(attempt), 1);
  }

  /** Whether one who began to look at `since` may see this. */
  allows(digest: string | null, since: number): boolean {
    return this.#attempts.some(
      (one) =>
        one.digest === digest &&
        !this.#attempts.some((other) => other.acknowledged < since && other.begun > one.acknowledged),
    );
  }

  /** From now on it is this. */
  settle(digest: string | null, now: number): void {
    this.#attempts = [{ digest, begun: now, acknowledged: now }];
  }

  toString(): string {
    return this.#attempts.map((one) => `${one.digest} [${one.begun}, ${one.acknowledged}]`).join("; ");
  }
}

/** A bucket that keeps versions: what was acknowledged is there until its removal is tried. */
export class VersionsModel {
  readonly versions = new Map<string, { key: string; digest: string; mayBeGone: boolean; isGone: boolean }>();
  readonly tried = new Set<string>();
}
