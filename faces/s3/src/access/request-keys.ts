/**
 * What a request says under the condition keys of policies, looked up only when a condition asks.
 * Source: Service authorization reference, "Condition keys for Amazon S3", and IAM's global keys.
 */
import type { Resource, S3Request } from "../context.ts";
import type { ConditionKeys } from "./conditions.ts";

type Look = (request: S3Request, resource: Resource) => string | readonly string[] | undefined;

const header =
  (name: string): Look =>
  ({ headers }) =>
    headers[name];
const parameter =
  (name: string): Look =>
  ({ query }) =>
    query.get(name);

const authTypes = { header: "REST-HEADER", presigned: "REST-QUERY-STRING", post: "POST" } as const;
const signatureVersions = { 2: "AWS", 4: "AWS4-HMAC-SHA256" } as const;

const looks = new Map<string, Look>([
  ["aws:currenttime", ({ service }) => new Date(service.clock.now()).toISOString()],
  ["aws:epochtime", ({ service }) => String(Math.floor(service.clock.now() / 1000))],
  ["aws:sourceip", ({ remoteAddress }) => remoteAddress],
  ["aws:securetransport", ({ secure }) => String(secure)],
  ["aws:referer", header("referer")],
  ["aws:useragent", header("user-agent")],
  ["aws:requestedregion", ({ service }) => service.region],
  ["aws:principaltype", ({ identity }) => (identity.account === undefined ? "Anonymous" : "Account")],
  ["aws:principalaccount", ({ identity }) => identity.account?.number],
  ["aws:principalarn", ({ identity }) => identity.account && `arn:aws:iam::${identity.account.number}:root`],
  ["aws:userid", ({ identity }) => identity.account?.id ?? "anonymous"],
  ["aws:username", ({ identity }) => identity.account?.name],
  // Of a request for one key, whose absence only he learns who may list it: that key.
  ["s3:prefix", ({ query, key }) => query.get("prefix") ?? (key === "" ? undefined : key)],
  ["s3:delimiter", parameter("delimiter")],
  ["s3:max-keys", parameter("max-keys")],
  ["s3:versionid", parameter("versionId")],
  ["s3:x-amz-acl", header("x-amz-acl")],
  ["s3:x-amz-grant-full-control", header("x-amz-grant-full-control")],
  ["s3:x-amz-grant-read", header("x-amz-grant-read")],
  ["s3:x-amz-grant-read-acp", header("x-amz-grant-read-acp")],
  ["s3:x-amz-grant-write", header("x-amz-grant-write")],
  ["s3:x-amz-grant-write-acp", header("x-amz-grant-write-acp")],
  ["s3:x-amz-copy-source", copySource],
  ["s3:x-amz-metadata-directive", header("x-amz-metadata-directive")],
  ["s3:x-amz-server-side-encryption", header("x-amz-server-side-encryption")],
  ["s3:x-amz-server-side-encryption-aws-kms-key-id", header("x-amz-server-side-encryption-aws-kms-key-id")],
  [
    "s3:x-amz-server-side-encryption-customer-algorithm",
    header("x-amz-server-side-encryption-customer-algorithm"),
  ],
  ["s3:x-amz-storage-class", header("x-amz-storage-class")],
  ["s3:x-amz-website-redirect-location", header("x-amz-website-redirect-location")],
  ["s3:x-amz-content-sha256", header("x-amz-content-sha256")],
  ["s3:x-amz-object-ownership", header("x-amz-object-ownership")],
  ["s3:object-lock-mode", header("x-amz-object-lock-mode")],
  ["s3:if-match", header("if-match")],
  ["s3:if-none-match", header("if-none-match")],
  ["s3:signatureversion", ({ identity }) => identity.version && signatureVersions[identity.version]],
  ["s3:authtype", ({ identity }) => identity.form && authTypes[identity.form]],
  [
    "s3:resourceaccount",
    ({ service }, { bucket }) => bucket && accountNumber(service.accounts, bucket.owner),
  ],
  ["s3:requestobjecttagkeys", (request, resource) => Object.keys(requestTags(request, resource) ?? {})],
]);

/** Keys come in lower case. */
export function conditionKeys(request: S3Request, resource: Resource): ConditionKeys {
  return (key) => {
    const look = looks.get(key);
    if (look !== undefined) return look(request, resource);
    const slash = key.indexOf("/");
    const name = key.slice(slash + 1);
    switch (key.slice(0, slash + 1)) {
      case "s3:existingobjecttag/":
        return tagNamed(resource.object?.attributes.tags, name);
      case "s3:requestobjecttag/":
        return tagNamed(requestTags(request, resource), name);
      default:
        return undefined;
    }
  };
}

/** Keys of tags have case, condition keys have none. */
function tagNamed(tags: Readonly<Record<string, string>> | undefined, name: string): string | undefined {
  if (tags === undefined) return undefined;
  return Object.entries(tags).find(([key]) => key.toLowerCase() === name)?.[1];
}

function requestTags(request: S3Request, resource: Resource): Readonly<Record<string, string>> | undefined {
  if (resource.requestTags !== undefined) return resource.requestTags;
  const given = request.headers["x-amz-tagging"];
  return typeof given === "string" ? Object.fromEntries(new URLSearchParams(given)) : undefined;
}

/** As policies spell it: `bucket/key`, decoded, without the leading slash. */
function copySource({ headers }: S3Request): string | undefined {
  const source = headers["x-amz-copy-source"];
  if (typeof source !== "string") return undefined;
  const path = source.replace(/^\//, "").replace(/\?versionId=.*$/s, "");
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

function accountNumber(accounts: S3Request["service"]["accounts"], id: string): string | undefined {
  try {
    return accounts.account(id).number;
  } catch {
    return undefined;
  }
}
