import { type ErrorTable, errorsOf } from "@skep/base";

export const volumeErrors = {
  VOLUME_NOT_FOUND: { message: 'volume "{id}" does not exist', hint: "see: skep vol ls", status: 404 },
  VOLUME_EXISTS: { message: 'volume "{id}" exists already', hint: "choose another name", status: 409 },
  VOLUME_ID: {
    message: '"{id}" is not the id of a volume or snapshot',
    hint: "ids are vol- or snap- and 17 hexadecimal digits; see: skep vol ls",
    status: 400,
  },
  VOLUME_SIZE: {
    message: "a volume cannot have {sizeBytes} bytes: {why}",
    hint: "give a multiple of 4096 up to 16T, as in --size 20G",
    status: 400,
  },
  VOLUME_SHRINK: {
    message: 'volume "{id}" has {sizeBytes} bytes and cannot become smaller',
    hint: "make a smaller volume and copy what is in this one",
    status: 409,
  },
  VOLUME_OPEN: {
    message: 'volume "{id}" is open here already',
    hint: "detach it first: skep vol detach {id}",
    status: 409,
  },
  VOLUME_IN_USE: {
    message: 'volume "{id}" is open on host "{host}" since {since}',
    hint: "detach it there; if that host is gone for good: --take-over, which loses what only its disk has",
    status: 409,
  },
  VOLUME_FENCED: {
    message: 'volume "{id}" was taken over by another host: nothing more is written from here',
    hint: "detach it here, and see: skep vol show {id}",
    status: 409,
  },
  VOLUME_RANGE: {
    message: 'bytes {offset} to {end} are not within volume "{id}" of {sizeBytes} bytes',
    status: 400,
  },
  VOLUME_GIVEN_UP: {
    message: 'nobody waits any longer for work on volume "{id}"{why}; {end}',
    hint: "see what has become of it: skep vol show {id}",
    status: 499,
  },
  VOLUME_CLOSED: { message: 'volume "{id}" is closed', status: 409 },
  VOLUME_VERSION: {
    message: 'the manifest of volume "{id}" has version {version}; this skep knows {known}',
    hint: "use a newer skep",
    status: 409,
  },
  VOLUME_DAMAGED: {
    message: 'volume "{id}" is damaged: {object}: {why}',
    hint: "see what can be saved: skep vol check {id}",
    status: 500,
  },
  VOLUME_KEY: {
    message: 'the key of volume "{id}" does not open: {why}',
    hint: "it was wrapped by another installation's key; bring that key here",
    status: 409,
  },
  VOLUME_NEEDED: {
    message: 'volume "{id}" is needed by {by}',
    hint: "remove that first",
    status: 409,
  },
  VOLUME_CLONES_UNKNOWN: {
    message: 'it cannot be told whether volume "{by}" is a clone of "{id}", which it would need: {why}',
    hint: 'see what is wrong with "{by}", or remove that first: skep vol check {by}',
    status: 409,
  },
  VOLUME_HAS_SNAPSHOTS: {
    message: 'volume "{id}" has {count} snapshots',
    hint: "remove them with it: skep vol rm --snapshots {id}",
    status: 409,
  },
  VOLUME_UNFINISHED: {
    message:
      'volume "{id}" was never finished as a clone of snapshot "{snapshot}" of volume "{source}", which is gone',
    hint: "nothing was ever written to it; remove it: skep vol rm {id}",
    status: 409,
  },
  VOLUME_SOURCE_GOING: {
    message: 'volume "{id}" is a clone of snapshot "{snapshot}" of volume "{source}", which is being removed',
    hint: "try again in a moment; a removal that was cut off ends when {source} is attached next",
    status: 409,
  },
  VOLUME_REVERTING: {
    message: 'volume "{id}" is being set back to a snapshot',
    hint: "try again once it is",
    status: 409,
  },
  SNAPSHOT_NOT_FOUND: {
    message: 'volume "{id}" has no snapshot "{snapshot}"',
    hint: "see: skep vol show {id}",
    status: 404,
  },
  SNAPSHOT_EXISTS: {
    message: 'volume "{id}" has a snapshot "{name}" already',
    hint: "choose another name",
    status: 409,
  },
  SNAPSHOT_NAME: {
    message: '"{name}" is not a name for a snapshot',
    hint: "use 1 to {limit} characters",
    status: 400,
  },
  SNAPSHOT_MANY: {
    message: 'volume "{id}" has {limit} snapshots, the most that a volume can have',
    hint: "remove some: skep vol snapshot rm",
    status: 409,
  },
  MARK_GONE: {
    message: 'snapshot "{snapshot}" of volume "{id}" was begun, and given up before it was complete',
    hint: "take another one",
    status: 409,
  },
  SNAPSHOT_NEEDED: {
    message: 'snapshot "{snapshot}" is needed by volume "{by}", a clone of it',
    hint: "remove the clone first: skep vol rm {by}",
    status: 409,
  },
} as const satisfies ErrorTable;

export const fail = errorsOf(volumeErrors);
