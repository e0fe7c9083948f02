/**
 * Uploads by a browser's form: multipart/form-data whose last field is the file, streamed into the store.
 * Source: the S3 API reference, "POST Object".
 */
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { Busboy, type BusboyFileStream, type BusboyInstance } from "@fastify/busboy";
import { verifyPost } from "@skep/sigv4";
import { authorize } from "./access/authorize.ts";
import { newObjectOwner } from "./access/new-resources.ts";
import { createChecksum } from "./checksums.ts";
import { parseTagging } from "./configuration/tags.ts";
import type { Identity, IncomingBody, S3Request, S3Response } from "./context.ts";
import { announcedChecksum, announcedMd5 } from "./digests.ts";
import { fail } from "./errors.ts";
import { createdHeaders, newAttributes } from "./object-headers.ts";
import { storeObject } from "./operations/store-object.ts";
import { checkPostPolicy, type FormFields, type SizeLimits } from "./post-policy.ts";
import { checkKey } from "./route.ts";
import { nest, parseXml, tag } from "./xml.ts";

/** Of all fields before the file, as S3 has it. */
const maxFieldsBytes = 20_000;
const maxFields = 200;
const maxFileBytes = 5 * 1024 ** 3;
const fileNamePlace = "$" + "{filename}";

export async function postObject(request: S3Request): Promise<S3Response> {
  await using form = await readForm(request);
  const { fields } = form;
  request.identity = identify(request, fields);
  const key = keyOf(fields, form.fileName);
  const limits =
    fields.policy === undefined
      ? undefined
      : checkPostPolicy(
          fields.policy,
          { ...fields, key, bucket: request.bucketName },
          request.service.clock.now(),
        );
  const upload = asPut(request, fields, key);
  upload.authorize("s3:PutObject", { bucket: request.bucket, key });
  const object = await storeObject(upload, key, fileBody(form, upload, limits), {
    owner: newObjectOwner(upload, request.bucket),
    attributes: newAttributes(upload, request.bucket),
  });
  return answer(request, fields, key, object.etag, createdHeaders(request, object));
}

interface Form extends AsyncDisposable {
  fields: FormFields;
  fileName: string;
  file: BusboyFileStream;
  /** Resolves when the form has come to its proper end. */
  whole: Promise<void>;
}

/** Reads up to the file, which then waits. */
async function readForm(request: S3Request): Promise<Form> {
  const type = request.headers["content-type"] ?? "";
  if (!/^multipart\/form-data\b/i.test(type)) {
    throw fail("PreconditionFailed", {
      Condition: "Bucket POST must be of the enclosure-type multipart/form-data",
    });
  }
  let parser: BusboyInstance;
  try {
    parser = new Busboy({
      headers: { ...request.headers, "content-type": type },
      // Programs give every field a file name; the one named "file" is the file.
      isPartAFile: (name) => name?.toLowerCase() === "file",
      limits: { fieldSize: maxFieldsBytes, fieldNameSize: 1024, headerSize: 8192 },
    });
  } catch (error) {
    throw fail("MalformedPOSTRequest", {}, { cause: error });
  }
  const stop = new AbortController();
  const source = Readable.from(request.body({ limitBytes: maxFileBytes + 1024 ** 2 }).bytes);
  const ended = pipeline(source, parser, { signal: stop.signal });
  const whole = ended.then(undefined, (error: unknown) => {
    throw formError(error);
  });
  whole.catch(() => {});
  const fields: Record<string, string> = {};
  let sizeBytes = 0;
  const found = new Promise<{ file: BusboyFileStream; fileName: string }>((resolve, reject) => {
    parser.on("field", (name, value, nameTruncated, valueTruncated) => {
      const lower = name.toLowerCase();
      sizeBytes += Buffer.byteLength(name) + Buffer.byteLength(value);
      if (valueTruncated || nameTruncated || sizeBytes > maxFieldsBytes) {
        reject(fail("MaxPostPreDataLengthExceededError"));
      } else if (Object.hasOwn(fields, lower) || Object.keys(fields).length >= maxFields) {
        reject(fail("InvalidArgument", { why: "Each field may be given once", ArgumentName: name }));
      } else fields[lower] = value;
    });
    parser.once("file", (_name, file, fileName) => {
      // Until it is read, what breaks the form must not break the process.
      file.on("error", () => {});
      resolve({ file, fileName: fileName ?? "" });
    });
    whole.then(() => reject(noFile()), reject);
  });
  const close = async () => {
    stop.abort();
    await ended.catch(() => {});
  };
  try {
    const { file, fileName } = await found;
    // A form that breaks off must not leave the file waiting for more.
    whole.catch((error: Error) => file.destroy(error));
    // What follows the file is no part of the request.
    parser.removeAllListeners("field");
    parser.on("file", (_name, another) => another.resume());
    return { fields, fileName, file, whole, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

function noFile() {
  return fail("InvalidArgument", {
    why: "POST requires exactly one file upload per request.",
    ArgumentName: "file",
    ArgumentValue: 0,
  });
}

/** The parser's own errors are plain; those of the body have S3's codes. */
function formError(error: unknown): unknown {
  const plain = error instanceof Error && error.name === "Error";
  return plain ? fail("MalformedPOSTRequest", {}, { cause: error }) : error;
}

function identify(request: S3Request, fields: FormFields): Identity {
  const { accounts, region } = request.service;
  const verified = verifyPost(fields, { lookup: (id) => accounts.credential(id), region });
  if (verified === undefined) return { scopes: [] };
  const { accessKeyId, credential, version } = verified;
  return { account: credential.account, accessKeyId, scopes: credential.scopes, form: "post", version };
}

/** `${filename}` stands for the name that the user's file has. */
function keyOf(fields: FormFields, fileName: string): string {
  const key = fields.key?.replaceAll(fileNamePlace, () => fileName);
  if (key === undefined || key === "") {
    throw fail("InvalidArgument", {
      why: "Bucket POST must contain a field named 'key'. If it is specified, please check the order of the fields.",
      ArgumentName: "key",
    });
  }
  checkKey(key);
  return key;
}

/** The request as if it had been a PUT with the form's fields as its headers. */
function asPut(request: S3Request, fields: FormFields, key: string): S3Request {
  const { referer, origin, "user-agent": agent } = request.headers;
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries({ referer, origin, "user-agent": agent })) {
    if (value !== undefined) headers[name] = value;
  }
  for (const [name, value] of Object.entries(fields)) {
    if (/^(content-|cache-control$|expires$|x-amz-(?!signature$|credential$|algorithm$|date$))/.test(name)) {
      // As Node shows a header: each byte as one character.
      headers[name] = Buffer.from(value, "utf8").toString("latin1");
    }
  }
  if (fields.acl !== undefined) headers["x-amz-acl"] = fields.acl;
  if (fields.tagging !== undefined) headers["x-amz-tagging"] = tagQuery(fields.tagging);
  const { service, store, requestId, method, operation, bucketName, query, signal } = request;
  const { remoteAddress, secure, bucket, identity } = request;
  const about = { service, store, requestId, method, operation, bucketName, query, signal };
  const put: S3Request = {
    ...about,
    ...{ remoteAddress, secure, bucket, key, headers, identity },
    body: (options) => request.body(options),
    bodyText: (limitBytes) => request.bodyText(limitBytes),
    xmlBody: (root, limitBytes) => request.xmlBody(root, limitBytes),
    authorize: (action, resource) => authorize(put, action, resource),
  };
  return put;
}

/** The field holds a Tagging document, the header is a query. */
function tagQuery(xml: string): string {
  const tags = Object.entries(parseTagging(parseXml(xml, "Tagging")));
  return tags.map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(value)}`).join("&");
}

/** The file, which counts only when the whole form has come and all that was said of it is true. */
function fileBody(form: Form, upload: S3Request, limits: SizeLimits | undefined): IncomingBody {
  const md5 = announcedMd5(upload.headers);
  const announced = announcedChecksum(upload.headers);
  const checksum = announced && createChecksum(announced.algorithm);
  const most = Math.min(limits?.most ?? maxFileBytes, maxFileBytes);
  async function* read(): AsyncGenerator<Uint8Array> {
    let size = 0;
    try {
      for await (const piece of form.file as AsyncIterable<Uint8Array>) {
        size += piece.length;
        if (size > most) throw fail("EntityTooLarge", { ProposedSize: size, MaxSizeAllowed: most });
        checksum?.update(piece);
        yield piece;
      }
    } catch (error) {
      throw formError(error);
    }
    await form.whole;
    if (limits !== undefined && size < limits.least) {
      throw fail("EntityTooSmall", { ProposedSize: size, MinSizeAllowed: limits.least });
    }
  }
  const bytes = { [Symbol.asyncIterator]: read };
  return {
    sizeBytes: undefined,
    bytes,
    whole: () => buffer(bytes),
    verify(actualMd5) {
      if (md5 !== undefined && md5 !== actualMd5) throw fail("BadDigest", { what: "Content-MD5" });
      if (announced === undefined || checksum === undefined) return undefined;
      const value = checksum.digest();
      if (announced.value !== value) throw fail("BadDigest", { what: announced.algorithm });
      return { algorithm: announced.algorithm, value, type: "FULL_OBJECT" };
    },
  };
}

/** Where the browser goes next: to the page the form names, or nowhere. */
function answer(
  request: S3Request,
  fields: FormFields,
  key: string,
  etag: string,
  headers: Record<string, string>,
): S3Response {
  const { bucketName } = request;
  const next = redirection(fields.success_action_redirect ?? fields.redirect);
  if (next !== undefined) {
    const query = [`bucket=${encodeURIComponent(bucketName)}`, `key=${encodeURIComponent(key)}`];
    next.search += `${next.search === "" ? "?" : "&"}${query.join("&")}&etag=%22${etag}%22`;
    return { status: 303, headers: { ...headers, location: next.href } };
  }
  const path = `/${bucketName}/${key.split("/").map(encodeURIComponent).join("/")}`;
  const location = `${request.secure ? "https" : "http"}://${request.headers.host ?? ""}${path}`;
  const answered = { ...headers, location };
  switch (fields.success_action_status) {
    case "200":
      return { status: 200, headers: answered };
    case "201": {
      const named = [tag("Location", location), tag("Bucket", bucketName), tag("Key", key)];
      return {
        status: 201,
        headers: answered,
        // Of all documents of S3 this one has no namespace.
        body: nest("PostResponse", ...named, tag("ETag", `"${etag}"`)),
      };
    }
    default:
      return { status: 204, headers: answered };
  }
}

function redirection(text: string | undefined): URL | undefined {
  const url = text === undefined ? null : URL.parse(text);
  return url !== null && /^https?:$/.test(url.protocol) ? url : undefined;
}
