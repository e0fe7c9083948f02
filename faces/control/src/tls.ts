import { createHash, webcrypto, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { hostname, networkInterfaces } from "node:os";
import { join } from "node:path";
import { ensureDirectory, readFileIfThere, writeFileAtomic } from "@skep/base";

/** What a TLS server needs; `fingerprint` is base64url(SHA-256(CA certificate, DER)), as in tokens. */
export interface ServerIdentity {
  certificate: string;
  key: string;
  fingerprint: string;
}

const day = 86_400_000;
const signing = { name: "ECDSA", hash: "SHA-256" } as const;
const keys = { ...signing, namedCurve: "P-256" } as const;

interface Names {
  dns: string[];
  ip: string[];
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
 * The server's certificate with its chain, from `directory`. CA and certificate are made where
 * there are none; the certificate is made anew when it ends within 30 days, misses one of `names`,
 * or is not the CA's. The CA stays: tokens name it.
 */
export async function serverIdentity(directory: string, names: Names): Promise<ServerIdentity> {
  await ensureDirectory(directory, 0o700);
  const paths = {
    ca: join(directory, "ca.pem"),
    caKey: join(directory, "ca-key.pem"),
    server: join(directory, "server.pem"),
    serverKey: join(directory, "server-key.pem"),
  };
  if ((await readFileIfThere(paths.ca)) === undefined || (await readFileIfThere(paths.caKey)) === undefined) {
    const made = await makeAuthority();
    await writeFileAtomic(paths.caKey, made.key);
    await writeFileAtomic(paths.ca, made.certificate);
  }
  const ca = await readFile(paths.ca, "utf8");
  let server = await readFileIfThere(paths.server);
  let serverKey = await readFileIfThere(paths.serverKey);
  if (server === undefined || serverKey === undefined || !stillFits(server, ca, names)) {
    const made = await makeServer(ca, await readFile(paths.caKey, "utf8"), names);
    ({ certificate: server, key: serverKey } = made);
    await writeFileAtomic(paths.serverKey, serverKey);
    await writeFileAtomic(paths.server, server);
  }
  return { certificate: `${server}\n${ca}`, key: serverKey, fingerprint: fingerprintOf(ca) };
}

/** The hash that a token carries. */
export function fingerprintOf(caPem: string): string {
  return createHash("sha256").update(new X509Certificate(caPem).raw).digest("base64url");
}

function stillFits(serverPem: string, caPem: string, names: Names): boolean {
  try {
    const certificate = new X509Certificate(serverPem);
    return (
      certificate.verify(new X509Certificate(caPem).publicKey) &&
      Date.parse(certificate.validTo) - Date.now() > 30 * day &&
      names.dns.every((name) => certificate.checkHost(name) !== undefined) &&
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

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", key)).toString("base64");
  return `-----BEGIN PRIVATE KEY-----\n${der.replace(/(.{64})/g, "$1\n").trimEnd()}\n-----END PRIVATE KEY-----\n`;
}

async function makeAuthority(): Promise<{ certificate: string; key: string }> {
  const x509 = await library();
  const pair = await webcrypto.subtle.generateKey(keys, true, ["sign", "verify"]);
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
  return { certificate: certificate.toString("pem"), key: await exportKey(pair.privateKey) };
}

async function makeServer(
  caPem: string,
  caKeyPem: string,
  names: Names,
): Promise<{ certificate: string; key: string }> {
  const x509 = await library();
  const ca = new x509.X509Certificate(caPem);
  const der = Buffer.from(caKeyPem.replace(/-----[^-]+-----|\s/g, ""), "base64");
  const signingKey = await webcrypto.subtle.importKey("pkcs8", der, keys, false, ["sign"]);
  const pair = await webcrypto.subtle.generateKey(keys, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.create({
    subject: "CN=skepd",
    issuer: ca.subject,
    notBefore: new Date(Date.now() - day),
    notAfter: new Date(Date.now() + 365 * day),
    signingAlgorithm: signing,
    signingKey,
    publicKey: pair.publicKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension([
        ...names.dns.map((value) => ({ type: "dns" as const, value })),
        ...names.ip.map((value) => ({ type: "ip" as const, value })),
      ]),
      await x509.AuthorityKeyIdentifierExtension.create(ca.publicKey),
    ],
  });
  return { certificate: certificate.toString("pem"), key: await exportKey(pair.privateKey) };
}
