import { type ErrorTable, errorsOf } from "@skep/base";

export const stateErrors = {
  STATE_NOT_FOUND: {
    message: 'state "{state}" does not exist',
    hint: "the machine's disk is still there: boot from it with skep resume --cold NAME",
    status: 404,
  },
  STATE_NOT_RUNNING: {
    message: 'machine "{machine}" cannot be suspended: {why}',
    hint: "{hint}",
    status: 409,
  },
  STATE_NOT_SUSPENDED: {
    message: 'machine "{machine}" is not suspended',
    hint: "start it: skep start {machine}",
    status: 409,
  },
  STATE_DISK_SHORT: {
    message:
      'no room to store the memory of machine "{machine}": it may need {needed}, {free} are free in {path}',
    hint: "make room there; a machine that is stopped needs none: skep stop {machine}",
    status: 507,
  },
  STATE_UNSAVED: {
    message: 'machine "{machine}" could not be suspended and runs on: {why}',
    hint: "see: skep logs --qemu {machine}",
    status: 500,
  },
  STATE_UNFROZEN: {
    message: 'machine "{machine}" could not be frozen and runs on: {why}',
    hint: "see: skep logs --qemu {machine}",
    status: 500,
  },
  HOOK_FAILED: {
    message: 'machine "{machine}" runs on, for its hook {hook} {how}{output}',
    hint: "mend the hook, or do without: skep suspend {machine} --no-hooks",
    status: 409,
  },
  HOOKS_UNASKED: {
    message: 'machine "{machine}" runs on, for its hooks could not be run: {why}',
    hint: "do without: skep suspend {machine} --no-hooks",
    status: 503,
  },
  STATE_UNLOADED: {
    message: 'QEMU could not load the saved state of machine "{machine}": {why}',
    hint: "it is still suspended; see: skep logs --qemu {machine}; or boot from its disk: skep resume {machine} --cold",
    status: 500,
  },
  STATE_ID: {
    message: '"{state}" is not the id of a state',
    hint: "ids are st- and 17 hexadecimal digits",
    status: 400,
  },
  STATE_DAMAGED: {
    message: 'state "{state}" is damaged: {object}: {why}',
    hint: "its memory cannot be used; the machine's disk can: boot from it with skep resume --cold NAME",
    status: 500,
  },
  STATE_MISFIT: {
    message: 'the saved memory of machine "{machine}" does not fit this host: {difference}',
    hint: "resume it where it fits, or boot from its disk: skep resume --cold {machine}",
    status: 409,
  },
  STATE_VERSION: {
    message: 'state "{state}" has version {version}; this skep reads version {known}',
    hint: "use the version of skep that wrote it, or boot from the disk: skep resume --cold NAME",
    status: 409,
  },
  STATE_UNWRITABLE: {
    message: 'state "{state}" cannot be recorded: {why}',
    hint: "the machine was left as it was; this is an error of skep: report it",
    status: 500,
  },
  STATE_MEMORY: {
    message: "guest memory at {path} cannot be used: {why}",
    hint: "restart the machine; see: skep doctor",
    status: 500,
  },
} as const satisfies ErrorTable;

export const fail = errorsOf(stateErrors);
