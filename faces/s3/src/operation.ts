import type { Handler, S3Request } from "./context.ts";

/** An operation of S3: how a request selects it, what it needs, who answers. */
export interface Operation {
  readonly name: string;
  readonly level: "service" | "bucket" | "object";
  readonly method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE" | "OPTIONS";
  /** The sub-resources that the query must have, and no other one. */
  readonly select?: readonly string[];
  /** A sub-resource elsewhere that is a plain parameter here. */
  readonly parameters?: readonly string[];
  /** A header that must be there; without it the row that has none is meant. */
  readonly header?: string;
  /**
   * The IAM action, asked for before the handler runs. Absent where the handler must ask, because the
   * object or its absence decides (`openForAction`), or because all may do it.
   */
  readonly action?: string | ((request: S3Request) => string);
  readonly handler?: Handler;
}
