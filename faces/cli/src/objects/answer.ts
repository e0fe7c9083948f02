import type { IncomingMessage } from "node:http";
import type { SkepError } from "@skep/base";
import { fail } from "../errors.ts";

const entities: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

/** The text of an element in S3's plain XML; undefined where there is none. */
export function xmlText(xml: string, element: string): string | undefined {
  const text = new RegExp(`<${element}>([^<]*)</${element}>`).exec(xml)?.[1];
  return text?.replace(/&(?:#(\d+)|#x([\da-f]+)|(\w+));/gi, (whole, decimal, hex, name) => {
    if (name !== undefined) return entities[name] ?? whole;
    return String.fromCodePoint(
      Math.min(0x10ffff, Number.parseInt(decimal ?? hex, hex === undefined ? 10 : 16)),
    );
  });
}

const longestAnswer = 1024 * 1024;

/** The whole of a small answer; `what` was asked about. */
export async function readSmall(answer: IncomingMessage, what: string): Promise<string> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of answer as AsyncIterable<Buffer>) {
    size += piece.length;
    if (size > longestAnswer)
      throw fail("S3_FAILED", { what, status: answer.statusCode, why: "its answer is too long" });
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString("utf8");
}

/** What an S3 answer complains about; undefined where it is a good one, whose body is then unread. */
export async function s3Failure(
  answer: IncomingMessage,
  what: string,
): Promise<(SkepError & { s3Code: string; why: string }) | undefined> {
  const status = answer.statusCode ?? 500;
  if (status < 300) return undefined;
  const text = await readSmall(answer, what);
  const s3Code = xmlText(text, "Code") ?? `status ${status}`;
  const why = `${xmlText(text, "Message") ?? "it gives no reason"} (${s3Code})`;
  return Object.assign(fail("S3_FAILED", { what, status, why }), { s3Code, why });
}
