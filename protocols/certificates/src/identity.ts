import { createHash, createPrivateKey, createPublicKey, webcrypto, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { hostname, networkInterfaces } from "node:os";
import { join } from "node:path";
import { createFileAtomic, ensureDirectory, readFileIfThere, writeFileAtomic } from "@skep/base";

/** What a TLS server needs; `fingerprint` is base64url(SHA-256(CA certificate, DER)), as in tokens. */
export interface ServerIdentity {
  /** With the CA's: the whole chain. */
  certificate: string;
  key: string;
  /** The CA's alone, for those who shall trust it. */
  authority: string;
  fingerprint: string;
}

const day = 86_400_000;
const renewalDays = 30;
const signing = { name: "ECDSA", hash: "SHA-256" } as const;
const keys = { ...signing, namedCurve: "P-256" } as const;

/** What a certificate is good for. `dns` may hold wildcards: `*.s3.example.org`. */
export interface Names {
  dns: string[];
  ip: string[];
}

export interface IdentityRequest {
  /** Holds CA and certificates; shared by all servers of a home. */
  directory: string;
  /** Which server: its files are `NAME.pem` and `NAME-key.pem`. */
  name: string;
  names: Names;
  /** Milliseconds since 1970; the clock's without. */
  now?: number;
}

/** The names a client may use for this host: its own, and every address it has now. */
export function hostNames(listenHost?: string): Names {
  const dns = new Set(["localhost"]);
  const ip = new Set(["127.0.0.1", "::1"]);
  const own = hostname().toLowerCase();
  if (/^[a-z0-9.-]+$/.test(own)) dns.add(own);
  for (const addresses of Object.values(networkInterfaces())) {
    for (const { address } of addresses ?? []) ip.add(address.replace(/%.*$/, ""));
  }
  if (listenHost !== undefined && !["0.0.0.0", "::"].includes(listenHost)) {
    (/^[\d.]+$|:/.test(listenHost) ? ip : dns).add(listenHost.toLowerCase());
  }
  return { dns: [...dns].sort(), ip: [...ip].sort() };
}

/**
 * A server's certificate with its chain. CA and certificate are made where there are none; the
 * certificate is made anew when it ends within 30 days, misses one of `names`, or is not the CA's.
 * The CA stays: tokens and clients name it.
 */
export async function serverIdentity(request: IdentityRequest): Promise<ServerIdentity> {
  const { directory, name, names, now = Date.now() } = request;
  await ensureDirectory(directory, 0o700);
  const { ca, caKey } = await authority(directory);
  const paths = { server: join(directory, `${name}.pem`), key: join(directory, `${name}-key.pem`) };
  let server = await readFileIfThere(paths.server);
  let key = await readFileIfThere(paths.key);
  if (server === undefined || key === undefined || !stillFits({ server, key, ca, names, now })) {
    ({ certificate: server, key } = await makeServer(ca, caKey, names, now));
    await writeFileAtomic(paths.key, key);
    await writeFileAtomic(paths.server, server);
  }
  return { certificate: `${server}\n${ca}`, key, authority: ca, fingerprint: fingerprintOf(ca) };
}

/** The CA's certificate (PEM) in `directory`; made where there is none. */
export async function authorityCertificate(directory: string): Promise<string> {
  await ensureDirectory(directory, 0o700);
  return (await authority(directory)).ca;
}

/** The path of what `authorityCertificate` gives, for clients that take a file. */
export function authorityPath(directory: string): string {
  return join(directory, "ca.pem");
}

/** Two processes may make it at once: both get the key, and the certificate, of the first. */
async function authority(directory: string): Promise<{ ca: string; caKey: string }> {
  const paths = { ca: authorityPath(directory), key: join(directory, "ca-key.pem") };
  const there = await readFileIfThere(paths.key);
  if (there === undefined) await createFileAtomic(paths.key, await exportKey(await makeKeys()));
  const caKey = await readFile(paths.key, "utf8");
  const ca = await readFileIfThere(paths.ca);
  if (ca === undefined) await createFileAtomic(paths.ca, await makeAuthority(caKey));
  // A certificate whose key was lost is of no use to anyone.
  else if (!isPair(ca, caKey)) await writeFileAtomic(paths.ca, await makeAuthority(caKey));
  return { ca: await readFile(paths.ca, "utf8"), caKey };
}

function isPair(certificatePem: string, keyPem: string): boolean {
  try {
    return new X509Certificate(certificatePem).checkPrivateKey(createPrivateKey(keyPem));
  } catch {
    return false;
  }
}

/** The hash that a token carries. */
export function fingerprintOf(caPem: string): string {
  return createHash("sha256").update(new X509Certificate(caPem).raw).digest("base64url");
}

function stillFits(there: { server: string; key: string; ca: string; names: Names; now: number }): boolean {
  const { server, key, ca, names, now } = there;
  try {
    const certificate = new X509Certificate(server);
    return (
      certificate.verify(new X509Certificate(ca).publicKey) &&
      isPair(server, key) &&
      Date.parse(certificate.validTo) - now > renewalDays * day &&
      names.dns.every((name) => certificate.checkHost(name.replace("*", "any")) !== undefined) &&
      names.ip.every((address) => certificate.checkIP(address) !== undefined)
    );
  } catch {
    return false; // damaged: it is made anew from the CA
  }
}

/** Loaded when certificates are made, which is seldom: the library costs memory. */
async function library() {
  await import("reflect-metadata");
  const x509 = await import("@peculiar/x509");
  x509.cryptoProvider.set(webcrypto as never);
  return x509;
}

async function makeKeys(): Promise<webcrypto.CryptoKeyPair> {
  return await webcrypto.subtle.generateKey(keys, true, ["sign", "verify"]);
}

async function exportKey({ privateKey }: webcrypto.CryptoKeyPair): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", privateKey)).toString("base64");
  return `-----BEGIN PRIVATE KEY-----\n${der.replace(/(.{64})/g, "$1\n").trimEnd()}\n-----END PRIVATE KEY-----\n`;
}

async function importKeys(pem: string): Promise<webcrypto.CryptoKeyPair> {
  const der = createPrivateKey(pem).export({ format: "der", type: "pkcs8" });
  const spki = createPublicKey(pem).export({ format: "der", type: "spki" });
  return {
    privateKey: await webcrypto.subtle.importKey("pkcs8", der, keys, false, ["sign"]),
    publicKey: await webcrypto.subtle.importKey("spki", spki, keys, true, ["verify"]),
  };
}

async function makeAuthority(caKey: string): Promise<string> {
  const x509 = await library();
  const pair = await importKeys(caKey);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=skep CA on ${hostname().replace(/[^\w.-]/g, "_")}`,
    notBefore: new Date(Date.now() - day),
    notAfter: new Date(Date.now() + 3650 * day),
    signingAlgorithm: signing,
    keys: pair,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(pair.publicKey),
    ],
  });
  return certificate.toString("pem");
}

async function makeServer(
  caPem: string,
  caKey: string,
  names: Names,
  now: number,
): Promise<{ certificate: string; key: string }> {
  const x509 = await library();
  const ca = new x509.X509Certificate(caPem);
  const pair = await makeKeys();
  const certificate = await x509.X509CertificateGenerator.create({
    subject: "CN=skep",
    issuer: ca.subject,
    notBefore: new Date(now - day),
    notAfter: new Date(now + 365 * day),
    signingAlgorithm: signing,
    signingKey: (await importKeys(caKey)).privateKey,
    publicKey: pair.publicKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension([
        ...names.dns.map((value) => ({ type: "dns" as const, value })),
        ...names.ip.map((value) => ({ type: "ip" as const, value })),
      ]),
      await x509.SubjectKeyIdentifierExtension.create(pair.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(ca.publicKey),
    ],
  });
  return { certificate: certificate.toString("pem"), key: await exportKey(pair) };
}
