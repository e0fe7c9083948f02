import { generateKeyPair, type JsonWebKey, type KeyObject, randomBytes } from "node:crypto";
import { promisify } from "node:util";

/** The kinds of host key that sshd looks for by itself, as in `ssh_host_ed25519_key`. */
export const hostKeyTypes = ["ed25519", "ecdsa", "rsa"] as const;
export type HostKeyType = (typeof hostKeyTypes)[number];

export interface HostKey {
  type: HostKeyType;
  /** The content of `ssh_host_<type>_key`: OpenSSH's own format, without a passphrase. */
  privateKey: string;
  /** `ssh-ed25519 AAAA…`, without a comment. */
  publicKey: string;
}

const generate = promisify(generateKeyPair);
/** As ssh-keygen makes them. */
const rsaBits = 3072;

/** A host key made here: in a guest that is emulated, ssh-keygen takes a second. */
export async function makeHostKey(type: HostKeyType): Promise<HostKey> {
  const { algorithm, publicFields, privateFields } = fieldsOf(
    type,
    (await makeKey(type)).export({ format: "jwk" }),
  );
  const publicBlob = Buffer.concat([string(algorithm), ...publicFields]);
  const check = randomBytes(4);
  const secret = [check, check, string(algorithm), ...privateFields, string("")];
  // PROTOCOL.key of OpenSSH: cipher and key derivation "none", one key, blocks of 8 bytes padded by 1, 2, 3, …
  const length = secret.reduce((sum, field) => sum + field.length, 0);
  const padding = Buffer.from(Array.from({ length: (8 - (length % 8)) % 8 }, (_, index) => index + 1));
  const file = Buffer.concat([
    Buffer.from("openssh-key-v1\0"),
    ...[string("none"), string("none"), string("")],
    uint32(1),
    string(publicBlob),
    string(Buffer.concat([...secret, padding])),
  ]);
  const lines = file.toString("base64").match(/.{1,70}/g) ?? [];
  const text = ["-----BEGIN OPENSSH PRIVATE KEY-----", ...lines, "-----END OPENSSH PRIVATE KEY-----", ""];
  return { type, privateKey: text.join("\n"), publicKey: `${algorithm} ${publicBlob.toString("base64")}` };
}

async function makeKey(type: HostKeyType): Promise<KeyObject> {
  if (type === "ed25519") return (await generate("ed25519")).privateKey;
  if (type === "ecdsa") return (await generate("ec", { namedCurve: "P-256" })).privateKey;
  return (await generate("rsa", { modulusLength: rsaBits })).privateKey;
}

/** A key's fields in wire format, as RFC 4253, RFC 5656 and RFC 8709 have the public ones. */
function fieldsOf(
  type: HostKeyType,
  key: JsonWebKey,
): { algorithm: string; publicFields: Buffer[]; privateFields: Buffer[] } {
  const bytes = (field: keyof JsonWebKey) => Buffer.from(String(key[field]), "base64url");
  const number = (field: keyof JsonWebKey) => mpint(bytes(field));
  if (type === "ed25519") {
    const point = string(bytes("x"));
    const secret = string(Buffer.concat([bytes("d"), bytes("x")]));
    return { algorithm: "ssh-ed25519", publicFields: [point], privateFields: [point, secret] };
  }
  if (type === "ecdsa") {
    const point = [string("nistp256"), string(Buffer.concat([Buffer.from([4]), bytes("x"), bytes("y")]))];
    return { algorithm: "ecdsa-sha2-nistp256", publicFields: point, privateFields: [...point, number("d")] };
  }
  const secret = (["n", "e", "d", "qi", "p", "q"] as const).map(number);
  return { algorithm: "ssh-rsa", publicFields: [number("e"), number("n")], privateFields: secret };
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function string(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

/** Without zeros in front, but for the one that says that a number is positive (RFC 4251, section 5). */
function mpint(value: Buffer): Buffer {
  const first = value.findIndex((byte) => byte !== 0);
  const digits = first < 0 ? Buffer.alloc(0) : value.subarray(first);
  const positive = digits.length > 0 && (digits[0] as number) >= 0x80;
  return string(positive ? Buffer.concat([Buffer.alloc(1), digits]) : digits);
}
