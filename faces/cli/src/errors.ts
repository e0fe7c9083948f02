import { type ErrorTable, errorsOf } from "@skep/base";

export const cliErrors = {
  USAGE: { message: "{message}", hint: "{hint}", status: 400 },
  VERB_UNKNOWN: { message: '"{verb}" is not a verb of skep{nearest}', hint: "see: skep --help", status: 400 },
  PORT_INVALID: {
    message: 'port "{value}" is not a forward: {why}',
    hint: "write [ADDRESS:]HOST:GUEST[/udp], as in 8080:80, 127.0.0.1:5353:53/udp, or :80 for a free host port",
    status: 400,
  },
  ENV_INVALID: {
    message: 'environment entry "{value}" {why}',
    hint: "write NAME=VALUE, or NAME to pass it on",
    status: 400,
  },
  FILTER_INVALID: {
    message: 'filter "{value}" {why}',
    hint: "filters: {known}; as in --filter state=running",
    status: 400,
  },
  MOUNT_LATER: {
    message: "shared folders are not supported yet{where}",
    hint: "copy files with `skep cp`, or add a disk with --data-disk",
    status: 400,
  },
  KEY_PRIVATE: {
    message: "{path} is a private key; only public keys go into a machine",
    hint: "give the file that ends in .pub, or print the public key: ssh-keygen -y -f {path}",
    status: 400,
  },
  KEY_INVALID: {
    message: "{what} holds no ssh public key",
    hint: 'a public key is one line, as in "ssh-ed25519 AAAA… you@host"',
    status: 400,
  },
  INPUT_UNREADABLE: {
    message: "cannot read {path}: {why}",
    hint: "check the path and its permissions",
    status: 400,
  },
  INPUT_TOO_LARGE: { message: "{path} is larger than {limit}", hint: "{hint}", status: 400 },
  YAML_INVALID: { message: "{path}, line {line}: {why}", hint: "{hint}", status: 400 },
  KEY_UNKNOWN: {
    message: '{path}, line {line}: "{key}" is not a setting of a machine{nearest}',
    hint: "docs/machine.yaml shows every setting",
    status: 400,
  },
  MACHINE_UNNAMED: { message: "{why}", hint: "{hint}", status: 400 },
  MACHINE_FAILED: { message: "{count} of {total} machines failed", status: 500 },
  COPIES_LEFT: {
    message: "copies could not be removed: {names}",
    hint: "remove them: skep rm --force {names}",
    status: 500,
  },
  DAEMON_ABSENT: { message: "no skepd runs for {home}", hint: "start it: skep daemon start", status: 503 },
  DAEMON_PROGRAM_MISSING: {
    message: "the program skepd is not beside this skep ({path})",
    hint: "install skep again, or set SKEP_SKEPD to its path",
    status: 503,
  },
  DAEMON_LOCAL: {
    message: "`skep daemon {verb}` works on this host's skepd, not on {host}",
    hint: "run it there, without --host",
    status: 400,
  },
  HOST_INVALID: {
    message: 'host "{host}" is not an address: {why}',
    hint: "write https://HOST:8440",
    status: 400,
  },
  CONNECTION_LOST: {
    message: 'the connection to machine "{name}" was lost{why}',
    hint: "see: skep status {name}",
    status: 502,
  },
  CONSOLE_TTY: { message: "{verb} -t needs a terminal", hint: "leave out -t in scripts", status: 400 },
  COPY_SIDES: {
    message: "{why}",
    hint: "write skep cp FILE… NAME:PATH, or skep cp NAME:PATH… DIRECTORY",
    status: 400,
  },
  COPY_TARGET: { message: "{path} {why}", hint: "{hint}", status: 400 },
  COPY_FAILED: {
    message: 'copying with machine "{name}" failed: {why}',
    hint: "is the path readable for that user? try --user root, or see: skep status {name}",
    status: 502,
  },
  AWS_FILE: { message: "cannot write {path}: {why}", hint: "check its permissions", status: 500 },
  ENDPOINT_INVALID: {
    message: '"{endpoint}" is not an endpoint: {why}',
    hint: "write https://HOST:PORT",
    status: 400,
  },
  ENDPOINT_UNKNOWN: {
    message: "there is no endpoint to use",
    hint: "serve one here: skep up; or name one: --endpoint-url https://HOST:PORT",
    status: 409,
  },
  ENDPOINT_UNREACHABLE: {
    message: "cannot reach {endpoint}: {why}",
    hint: "does it run? skep up serves it here; --no-verify writes the profile all the same",
    status: 502,
  },
  ENDPOINT_UNTRUSTED: {
    message: "the certificate of {endpoint} is not accepted: {why}",
    hint: "name its CA: --ca-bundle FILE; or go without: --no-verify-ssl",
    status: 502,
  },
  KEYS_NEEDED: {
    message: "{endpoint} is not this skep's, so no key can be made for it",
    hint: "give one: --access-key ID --secret-key SECRET (or - for standard input)",
    status: 400,
  },
  PROFILE_KEYS: {
    message: 'profile "{profile}" has no key for {endpoint}',
    hint: "write one into it: skep auth --profile {profile} --access-key ID --secret-key - --endpoint-url {endpoint}",
    status: 400,
  },
  KEYS_REFUSED: {
    message: "{endpoint} does not accept key {accessKeyId}: {why}",
    hint: "check both; to take over a known key here: skep key create --access-key ID --secret-key SECRET",
    status: 403,
  },
  S3_FAILED: { message: "object storage refused {what} ({status}): {why}", status: 502 },
  STORAGE_DOWN: {
    message: "object storage of {host} is not served on the network",
    hint: "serve it there: skep --host {host} up --listen 0.0.0.0:8443",
    status: 409,
  },
  OBJECT_PATH: { message: '"{path}" {why}', hint: "write BUCKET/KEY, or s3://BUCKET/KEY", status: 400 },
  OBJECT_ABSENT: {
    message: 'object "{path}" does not exist',
    hint: "see: skep object ls {bucket}; with -r a prefix is meant",
    status: 404,
  },
  OBJECT_DIFFERS: {
    message: "{path} did not arrive as it was stored: {what} differs",
    hint: "try again; if it stays so: skep doctor --thorough",
    status: 502,
  },
  TRANSFER_FAILED: { message: "{count} of {total} objects failed", status: 500 },
  TRANSFER_BROKEN: {
    message: "the transfer of {path} broke off: {why}",
    hint: "try again; see: skep doctor",
    status: 502,
  },
  TAR_UNSAFE: {
    message: 'the machine sent the entry "{entry}", which {why}; nothing outside the target was written',
    hint: "copy it as an archive and look inside: skep cp NAME:PATH - > copy.tar",
    status: 502,
  },
  TAR_LIMIT: {
    message: "the machine sent {what}, more than the limit of {limit}",
    hint: "{hint}",
    status: 502,
  },
} as const satisfies ErrorTable;

export const fail = errorsOf(cliErrors);

/** A wrong command line: exit status 2. */
export function usage(message: string, hint = "see: skep --help") {
  return fail("USAGE", { message, hint });
}
