import { deepEqual, equal, rejects } from "node:assert/strict";
import { hash } from "node:crypto";
import { describe, test } from "node:test";
import { SkepError } from "@skep/base";
import { seeded } from "@skep/base/testing";
import {
  type ChunkedOptions,
  decodeChunked,
  encodeChunked,
  type Payload,
  payloadBytes,
  signRequest,
  verifyRequest,
} from "./index.ts";

const credentials = {
  accessKeyId: "AKIAIOSFODNN7EXAMPLE",
  secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
};
const now = Date.UTC(2013, 4, 24);
const host = "s3.amazonaws.com";
const region = "us-east-1";
type Chunked = Extract<Payload, { kind: "chunked" }>;

/** The S3 API reference's example: 66,560 bytes in chunks of 64 KiB. */
const published = {
  chunk1: "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
  chunk2: "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
  last: "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
};
const publishedBody = [
  `10000;chunk-signature=${published.chunk1}\r\n${"a".repeat(65_536)}\r\n`,
  `400;chunk-signature=${published.chunk2}\r\n${"a".repeat(1024)}\r\n`,
  `0;chunk-signature=${published.last}\r\n\r\n`,
].join("");

/** Both ends of one signed request: who writes the chunks, and what the server learns of them. */
function request(
  payload: string,
  headers: Record<string, string>,
  target = "/examplebucket/chunkObject.txt",
) {
  const shape = { method: "PUT", target, headers: { host, ...headers } };
  const { headers: added, signer } = signRequest(shape, credentials, { region, now, payload });
  const verify = (): Chunked => {
    const verified = verifyRequest(
      { ...shape, headers: { ...shape.headers, ...added } },
      { lookup: () => credentials, now },
    );
    return verified?.payload as Chunked;
  };
  return { signer, verify };
}

function publishedPayload(): Chunked {
  return request("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", {
    "content-encoding": "aws-chunked",
    "content-length": "66824",
    "x-amz-decoded-content-length": "66560",
    "x-amz-storage-class": "REDUCED_REDUNDANCY",
  }).verify();
}

const unsigned: Chunked = { kind: "chunked", signed: false, trailer: true };
const signedTrailer = () =>
  request("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", { "content-encoding": "aws-chunked" });

async function* pieces(text: string | Uint8Array, ...cuts: number[]): AsyncGenerator<Uint8Array> {
  const bytes = typeof text === "string" ? Buffer.from(text, "latin1") : text;
  let from = 0;
  for (const cut of [...cuts, bytes.length]) {
    yield bytes.subarray(from, cut);
    from = cut;
  }
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<string> {
  const all: Uint8Array[] = [];
  for await (const piece of source) all.push(piece);
  return Buffer.concat(all).toString("latin1");
}

async function decode(body: string, payload: Chunked, options: ChunkedOptions, ...cuts: number[]) {
  let trailers: Record<string, string> | undefined;
  const onTrailers = (given: Record<string, string>) => {
    trailers = given;
  };
  const text = await collect(decodeChunked(pieces(body, ...cuts), payload, { ...options, onTrailers }));
  return { text, trailers };
}

async function refused(code: string, work: Promise<unknown>, message?: string): Promise<void> {
  await rejects(work, (error: unknown) => {
    equal(error instanceof SkepError ? error.code : error, code, message);
    return true;
  });
}

describe("a body in signed chunks", () => {
  test("is the published one, byte by byte", async () => {
    const { text } = await decode(publishedBody, publishedPayload(), { decodedBytes: 66_560 });
    equal(text, "a".repeat(66_560));
  });

  test("is read however the network cuts it", async () => {
    const body = `400;chunk-signature=SIG1\r\n${"b".repeat(1024)}\r\n0;chunk-signature=SIG2\r\nx-a:1\r\nx-amz-trailer-signature:SIG3\r\n\r\n`;
    const { signer, verify } = signedTrailer();
    const made = body
      .replace("SIG1", signer?.next(hash("sha256", "b".repeat(1024), "hex")) ?? "")
      .replace("SIG2", signer?.next(hash("sha256", "", "hex")) ?? "")
      .replace("SIG3", signer?.trailer(hash("sha256", "x-a:1\n", "hex")) ?? "");
    for (let cut = 1; cut < made.length; cut += 1) {
      const { text, trailers } = await decode(made, verify(), { decodedBytes: 1024 }, cut);
      equal(text.length, 1024);
      deepEqual(trailers, { "x-a": "1" });
    }
    const everywhere = Array.from({ length: made.length - 1 }, (_, at) => at + 1);
    equal((await decode(made, verify(), { decodedBytes: 1024 }, ...everywhere)).text.length, 1024);
  });

  test("gives no byte of a chunk before its signature is verified", async () => {
    const body = publishedBody.replace("\r\na", "\r\nb");
    const got: Uint8Array[] = [];
    await refused(
      "SIGNATURE_MISMATCH",
      (async () => {
        const decoded = decodeChunked(pieces(body, 1000, 30_000), publishedPayload(), {
          decodedBytes: 66_560,
        });
        for await (const piece of decoded) got.push(piece);
      })(),
    );
    equal(got.length, 0);
  });

  test("fails at the end of a chunk that is too large to hold back", async () => {
    const body = publishedBody.replace(`a\r\n400`, `b\r\n400`);
    await refused(
      "SIGNATURE_MISMATCH",
      decode(body, publishedPayload(), { decodedBytes: 66_560, heldBytes: 1024 }),
    );
    const whole = await decode(publishedBody, publishedPayload(), { decodedBytes: 66_560, heldBytes: 1024 });
    equal(whole.text.length, 66_560);
  });

  test("is refused with any signature changed, chunks swapped, dropped or repeated", async () => {
    const chunks = publishedBody.split(/(?<=a\r\n)/);
    const [one = "", two = "", last = ""] = chunks;
    const bad: [string, string][] = [
      [publishedBody.replace(published.chunk1, published.chunk2), "SIGNATURE_MISMATCH"],
      [publishedBody.replace(published.chunk2, published.chunk1), "SIGNATURE_MISMATCH"],
      [publishedBody.replace(published.last, published.chunk1), "SIGNATURE_MISMATCH"],
      [publishedBody.replace(`;chunk-signature=${published.chunk1}`, ""), "CHUNK_MALFORMED"],
      [publishedBody.replace(published.chunk1, published.chunk1.slice(1)), "CHUNK_MALFORMED"],
      [two + one + last, "SIGNATURE_MISMATCH"],
      [one + last, "BODY_INCOMPLETE"],
      [one + two, "BODY_INCOMPLETE"],
      [one + two + two + last, "BODY_INCOMPLETE"],
      [one, "BODY_INCOMPLETE"],
      [last, "BODY_INCOMPLETE"],
      ["", "BODY_INCOMPLETE"],
    ];
    for (const [body, code] of bad) {
      await refused(code, decode(body, publishedPayload(), { decodedBytes: 66_560 }));
    }
  });

  test("must have a declared length, and that one", async () => {
    await refused("LENGTH_MISSING", decode(publishedBody, publishedPayload(), {}));
    for (const decodedBytes of [0, 66_559, 66_561]) {
      await refused("BODY_INCOMPLETE", decode(publishedBody, publishedPayload(), { decodedBytes }));
    }
  });

  test("survives the round trip, with and without trailers", async () => {
    const parts = [Buffer.from("hello "), Buffer.alloc(0), Buffer.alloc(200_000, 7), Buffer.from("end")];
    const text = Buffer.concat(parts).toString("latin1");
    for (const payload of [
      "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
      "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    ]) {
      const { signer, verify } = request(payload, {});
      const trailers = payload.endsWith("TRAILER") ? { "x-b": "2", "x-a": "1" } : undefined;
      const body = await collect(
        encodeChunked(parts, signer, trailers === undefined ? undefined : () => trailers),
      );
      const decoded = await decode(body, verify(), { decodedBytes: text.length }, 1, 50, 100_000);
      equal(decoded.text, text);
      deepEqual(decoded.trailers, trailers ?? {});
    }
  });
});

describe("trailing headers", () => {
  const small = (end: string) => `3\r\nabc\r\n0\r\n${end}`;
  const options = { decodedBytes: 3, trailerNames: ["x-amz-checksum-crc32"] };

  test("are read in the ways in which clients end them", async () => {
    for (const end of [
      "x-amz-checksum-crc32:NSRBwg==\r\n\r\n",
      "x-amz-checksum-crc32:NSRBwg==\r\n",
      "x-amz-checksum-crc32: NSRBwg== \n\r\n\r\n",
      "\r\nX-Amz-Checksum-Crc32:NSRBwg==\n\n",
    ]) {
      const { text, trailers } = await decode(small(end), unsigned, options);
      equal(text, "abc");
      deepEqual(trailers, { "x-amz-checksum-crc32": "NSRBwg==" }, JSON.stringify(end));
    }
    deepEqual((await decode(small("\r\n"), unsigned, options)).trailers, {});
  });

  test("are refused when cut off, unannounced, repeated, nameless or endless", async () => {
    const line = "x-amz-checksum-crc32:NSRBwg==\r\n";
    for (const [end, code] of [
      ["x-amz-checksum-crc32:NSRB", "BODY_INCOMPLETE"],
      ["x-amz-checksum-sha1:x\r\n\r\n", "TRAILER_MALFORMED"],
      [line + line, "TRAILER_MALFORMED"],
      ["nothing\r\n", "TRAILER_MALFORMED"],
      [":x\r\n", "TRAILER_MALFORMED"],
      ["\0:x\r\n", "TRAILER_MALFORMED"],
      [`${line}\r\nGET / HTTP/1.1\r\n`, "TRAILER_MALFORMED"],
      [`x-amz-checksum-crc32:${"x".repeat(20_000)}`, "TRAILER_MALFORMED"],
      ["\r\n".repeat(10_000), "TRAILER_MALFORMED"],
    ] as const) {
      await refused(code, decode(small(end), unsigned, options), end.slice(0, 40));
    }
  });

  test("must be signed where the chunks are", async () => {
    const make = async (change: (body: string) => string) => {
      const { signer, verify } = signedTrailer();
      const body = await collect(encodeChunked([Buffer.from("abc")], signer, () => ({ "x-a": "1" })));
      return decode(change(body), verify(), { decodedBytes: 3 });
    };
    equal((await make((body) => body)).text, "abc");
    await refused(
      "SIGNATURE_MISMATCH",
      make((body) => body.replace("x-a:1", "x-a:2")),
    );
    await refused(
      "SIGNATURE_MISMATCH",
      make((body) => body.replace("x-a:1\r\n", "")),
    );
    await refused(
      "TRAILER_MALFORMED",
      make((body) => body.replace(/x-amz-trailer-signature.*\r\n/, "")),
    );
    await refused(
      "TRAILER_MALFORMED",
      make((body) => `${body}x-b:2\r\n`),
    );
    await refused(
      "SIGNATURE_MISMATCH",
      make((body) => body.replace(/(signature:.*)..\r\n/, "$1\r\n")),
    );
  });
});

describe("hostile chunks", () => {
  const options = { decodedBytes: 3 };
  test("are refused before anything of them is kept", async () => {
    for (const [body, code] of [
      ["ffffffffffffffff\r\n", "CHUNK_MALFORMED"],
      ["fffffffffffff\r\n", "BODY_INCOMPLETE"],
      ["-1\r\n", "CHUNK_MALFORMED"],
      ["0x3\r\nabc\r\n", "CHUNK_MALFORMED"],
      ["\r\n", "CHUNK_MALFORMED"],
      ["3 3\r\nabc\r\n", "CHUNK_MALFORMED"],
      [`3;${"x".repeat(5000)}`, "CHUNK_MALFORMED"],
      ["3".repeat(5000), "CHUNK_MALFORMED"],
      ["3\r\nabcd\r\n0\r\n\r\n", "CHUNK_MALFORMED"],
      ["3\r\nabc0\r\n\r\n", "CHUNK_MALFORMED"],
      ["3\r\nab\r\n0\r\n\r\n", "CHUNK_MALFORMED"],
      ["3\r\nabc\r\n", "BODY_INCOMPLETE"],
      ["3\r\nab", "BODY_INCOMPLETE"],
      ["2\r\nab\r\n0\r\n\r\n", "BODY_INCOMPLETE"],
    ] as const) {
      await refused(code, decode(body, unsigned, options), body.slice(0, 40));
    }
  });

  test("end a body that announces no trailers", async () => {
    const payload = publishedPayload();
    await refused("CHUNK_MALFORMED", decode(`${publishedBody}more\r\n`, payload, { decodedBytes: 66_560 }));
    await refused(
      "CHUNK_MALFORMED",
      decode(`${publishedBody}x-a:1\r\n`, publishedPayload(), { decodedBytes: 66_560 }),
    );
  });

  test("made of garbage give the payload or an error of ours, never anything else", async () => {
    const below = seeded(5);
    const body = "3\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n";
    for (let round = 0; round < 3000; round += 1) {
      const bytes = [...body];
      for (let change = 0; change <= below(3); change += 1) {
        const replacement = below(2) ? [] : [below(3) ? (body[below(body.length)] as string) : "\xff"];
        bytes.splice(below(bytes.length), below(3), ...replacement);
      }
      const text = bytes.join("");
      try {
        const decoded = await decode(text, unsigned, { decodedBytes: 5 }, below(text.length));
        equal(decoded.text.length, 5);
      } catch (error) {
        equal(error instanceof SkepError, true, JSON.stringify(text));
      }
    }
  });
});

describe("a body with a digest", () => {
  test("is given as it is, and proved at its end", async () => {
    const sha256 = hash("sha256", "abc", "hex");
    equal(await collect(payloadBytes(pieces("abc", 1), { kind: "digest", sha256 }, {})), "abc");
    await refused(
      "PAYLOAD_MISMATCH",
      collect(payloadBytes(pieces("abd", 1), { kind: "digest", sha256 }, {})),
    );
    await refused("PAYLOAD_MISMATCH", collect(payloadBytes(pieces(""), { kind: "digest", sha256 }, {})));
    equal(await collect(payloadBytes(pieces("abd"), { kind: "unsigned" }, {})), "abd");
  });
});
