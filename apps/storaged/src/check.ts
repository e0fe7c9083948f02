import type { BucketStore, EmbeddedStore, Finding } from "@skep/objects";

/** A store that can look for damage in itself, and gives single buckets to volumes. */
export type CheckedStore = BucketStore & Pick<EmbeddedStore, "check" | "objects">;

/** What a check of the stored data found. */
export interface StoreCheck {
  /** Whether every byte was read, or time ran out. */
  complete: boolean;
  /** What is damaged, and where; at most a hundred. */
  damaged: { what: string; object: string | null; why: string }[];
  /** Files that no object has, as a crash may leave them; they are swept. */
  orphans: number;
}

const listed = 100;

/** Reads what is stored and compares it with its checksums, for `forMs` at most. */
export async function checkStore(
  store: CheckedStore,
  gone: AbortSignal,
  forMs: number | undefined,
): Promise<StoreCheck> {
  const result: StoreCheck = { complete: false, damaged: [], orphans: 0 };
  const signal = forMs === undefined ? gone : AbortSignal.any([gone, AbortSignal.timeout(forMs)]);
  try {
    for await (const finding of store.check({ deep: true, signal })) {
      if (finding.kind === "orphan") result.orphans += 1;
      else if (result.damaged.length < listed) result.damaged.push(describe(finding));
    }
    result.complete = !signal.aborted;
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  return result;
}

function describe(finding: Exclude<Finding, { kind: "orphan" }>): StoreCheck["damaged"][number] {
  const { why } = finding;
  switch (finding.kind) {
    case "object": {
      const object = `${finding.bucket}/${finding.key}`;
      const version = finding.versionId === "null" ? "" : `, version ${finding.versionId}`;
      return { what: `object ${object}${version}`, object, why };
    }
    case "part": {
      const what = `part ${finding.number} of an upload of ${finding.bucket}/${finding.key}`;
      return { what, object: null, why };
    }
    case "journal":
      return { what: `${finding.path} at byte ${finding.position}`, object: null, why };
  }
}
