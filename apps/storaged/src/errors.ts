import { type ErrorTable, errorsOf } from "@skep/base";

export const storagedErrors = {
  DOMAIN_INVALID: {
    message: '"{domain}" is not a domain under which buckets can have names: {why}',
    hint: "give a name with a dot whose DNS entry *.{domain} leads to this host, as s3.example.org",
    status: 400,
  },
  REGION_INVALID: {
    message: '"{region}" is not a region',
    hint: "use 2 to 32 lower-case letters, digits and dashes, as us-east-1",
    status: 400,
  },
  VOLUME_NOT_FOUND: {
    message: 'volume "{id}" does not exist',
    hint: "see: skep vol ls; one of a bucket is taken up with: skep vol add --existing ID",
    status: 404,
  },
  VOLUME_EXISTS: { message: 'volume "{id}" exists already', hint: "choose another name", status: 409 },
  VOLUME_NAME: {
    message: '"{name}" cannot be the name of a volume: it looks like an id',
    hint: "choose another name",
    status: 400,
  },
  VOLUME_ATTACHED: {
    message: 'volume "{id}" is attached to machine "{name}"',
    hint: "detach it there first: skep vol detach {id}",
    status: 409,
  },
  VOLUME_FILLING: {
    message: 'volume "{id}" is being filled',
    hint: "wait until that is done, or cancel it: skep jobs ls",
    status: 409,
  },
  VOLUME_RECORD: { message: "{path} does not describe that volume", status: 500 },
  VOLUME_RECORD_DAMAGED: {
    message: 'what this host knows of volume "{id}" cannot be read: {why}',
    hint: "what is stored is not touched; move its directory away, then: skep vol add --existing {id}",
    status: 500,
  },
  SNAPSHOT_NOT_FOUND: {
    message: 'snapshot "{snapshot}" does not exist',
    hint: "see: skep vol snapshot ls",
    status: 404,
  },
  MARK_EXISTS: { message: 'mark "{mark}" is there already', status: 409 },
  MARK_UNKNOWN: {
    message:
      "the instant of the volumes that was kept is gone: storaged has started anew since, or it took too long",
    hint: "try again",
    status: 409,
  },
  STORE_KEYS: {
    message: "no key was given for {endpoint}",
    hint: "write one into a profile: skep auth --profile NAME --endpoint-url {endpoint}",
    status: 400,
  },
  STORE_ENDPOINT: {
    message: '"{endpoint}" is not an endpoint',
    hint: "write https://HOST:PORT",
    status: 400,
  },
  STORE_UNKNOWN: {
    message: 'store "{id}" is not in {path}',
    hint: "restore that file from a copy, or take the volume up again: skep vol add --existing",
    status: 500,
  },
  STORE_SECRET: {
    message: "the key for {endpoint} does not open: it was sealed with another accounts.key",
    hint: "give it again: skep vol add --existing ID --endpoint-url {endpoint}",
    status: 409,
  },
} as const satisfies ErrorTable;

export const fail = errorsOf(storagedErrors);
