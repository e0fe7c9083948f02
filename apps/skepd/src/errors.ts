import { type ErrorTable, errorsOf } from "@skep/base";

export const skepdErrors = {
  STORAGED_PROGRAM_MISSING: {
    message: "the program storaged is not beside skepd ({path})",
    hint: "install skep again, or set SKEP_STORAGED to its path",
    status: 503,
  },
  CONFIG_INVALID: {
    message: "{home}/config.json is not valid: {what}",
    hint: "correct it there; docs/templates.md has what may be set",
    status: 500,
  },
  TEMPLATES_MODE: {
    message: 'SKEP_TEMPLATES is "{mode}", which is none of {modes}',
    hint: "set it to one of these for skepd, or unset it",
    status: 500,
  },
  IMPORT_PATH: { message: 'path "{path}" is not absolute', hint: "write it from / on", status: 400 },
  IMPORT_FILE: {
    message: "cannot import {path}: {why}",
    hint: "give a qcow2 or raw disk on skepd's host",
    status: 400,
  },
  IMPORT_SIZE: {
    message: "a volume of {sizeBytes} bytes is smaller than the disk {path}: {needed} bytes",
    hint: "leave --size out, or give a larger one",
    status: 400,
  },
  EXPORT_EXISTS: {
    message: "{path} exists already",
    hint: "choose another file, or replace it: --force",
    status: 409,
  },
  EXPORT_FILE: { message: "cannot write {path}: {why}", hint: "check its directory", status: 400 },
} as const satisfies ErrorTable;

export const fail = errorsOf(skepdErrors);
