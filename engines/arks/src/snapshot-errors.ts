import { type ErrorTable, errorsOf } from "@skep/base";

export const snapshotErrors = {
  SNAPSHOT_NOT_FOUND: {
    message: 'machine "{machine}" has no snapshot "{snapshot}"',
    hint: "see: skep snapshot ls {machine}",
    status: 404,
  },
  SNAPSHOT_EXISTS: {
    message: 'machine "{machine}" has a snapshot "{snapshot}" already',
    hint: "choose another name, or remove it: skep snapshot rm {machine} {snapshot}",
    status: 409,
  },
  SNAPSHOT_REFUSED: {
    message: 'no snapshot of machine "{machine}" can be taken: {why}',
    hint: "{hint}",
    status: 409,
  },
  SNAPSHOT_FAILED: {
    message: 'no snapshot of machine "{machine}" was taken, and it runs on: {why}',
    hint: "see: skep logs --qemu {machine}",
    status: 500,
  },
  SNAPSHOT_DAMAGED: {
    message: 'snapshot "{snapshot}" of machine "{machine}" cannot be used: {why}',
    hint: "the machine is as it was; another snapshot may do: skep snapshot ls {machine}",
    status: 500,
  },
  SNAPSHOT_MEMORY: {
    message: 'the memory of snapshot "{snapshot}" of machine "{machine}" cannot be used: {why}',
    hint: "the machine is as it was; the snapshot's disks alone can be had: skep snapshot restore {machine} {snapshot} --cold",
    status: 500,
  },
  RESTORE_REFUSED: {
    message: 'machine "{machine}" cannot be set back to snapshot "{snapshot}": {why}',
    hint: "{hint}",
    status: 409,
  },
} as const satisfies ErrorTable;

export const failSnapshot = errorsOf(snapshotErrors);
