import { type ErrorTable, errorsOf } from "@skep/base";

export const accountsErrors = {
  ACCOUNT_NOT_FOUND: {
    message: 'account "{account}" does not exist',
    hint: "see: skep account ls",
    status: 404,
  },
  ACCOUNT_EXISTS: {
    message: 'an account with the {what} "{value}" exists already',
    hint: "choose another {what}; see: skep account ls",
    status: 409,
  },
  ACCOUNT_IN_USE: {
    message: 'account "{name}" still has {count} keys',
    hint: "remove them first: skep key rm {keys}",
    status: 409,
  },
  ACCOUNT_ROOT: {
    message: 'account "{name}" is the first one: it owns what the local user makes and stays',
    status: 409,
  },
  ACCOUNT_INVALID: { message: "the account's {what} is not allowed: {why}", status: 400 },
  KEY_NOT_FOUND: { message: 'key "{accessKeyId}" does not exist', hint: "see: skep key ls", status: 404 },
  KEY_EXISTS: {
    message: 'key "{accessKeyId}" exists already',
    hint: "remove it first: skep key rm {accessKeyId}",
    status: 409,
  },
  KEY_INVALID: { message: "the key's {what} is not allowed: {why}", status: 400 },
  SEAL_MISSING: {
    message: "{path} is gone, and without it no secret in {database} can be read",
    hint: "restore it from a copy; or remove {database} too: accounts and keys are made anew",
    status: 500,
  },
  SEAL_WRONG: {
    message: "{path} is not the file with which the secrets in {database} were sealed",
    hint: "restore the right one from a copy; or remove both: accounts and keys are made anew",
    status: 500,
  },
  SEAL_DAMAGED: {
    message: "{path} is damaged: {why}",
    hint: "restore it from a copy",
    status: 500,
  },
  ACCOUNTS_DAMAGED: {
    message: "{path} is damaged: {why}",
    hint: "restore it from a copy",
    status: 500,
  },
  ACCOUNTS_VERSION: {
    message: "{path} has version {version}; this skep reads version {supported}",
    hint: "use the version of skep that wrote it",
    status: 500,
  },
} as const satisfies ErrorTable;

export const fail = errorsOf(accountsErrors);
