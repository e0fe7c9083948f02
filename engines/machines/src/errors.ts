import { type ErrorTable, errorsOf } from "@skep/base";

export const machineErrors = {
  MACHINE_NOT_FOUND: { message: 'machine "{name}" does not exist', hint: "see: skep ls", status: 404 },
  MACHINE_EXISTS: {
    message: 'machine "{name}" exists already',
    hint: "choose another name, or remove it: skep rm {name}",
    status: 409,
  },
  MACHINE_RUNNING: {
    message: 'cannot {verb} running machine "{name}": stop it first',
    hint: "skep stop {name}",
    status: 409,
  },
  MACHINE_NOT_RUNNING: { message: 'machine "{name}" is not running', hint: "skep start {name}", status: 409 },
  MACHINE_SUSPENDED: {
    message: 'cannot {verb} machine "{name}": it is suspended',
    hint: "resume it first: skep resume {name}; or give up its memory: skep resume {name} --cold",
    status: 409,
  },
  MACHINE_DAMAGED: {
    message: 'machine "{name}" is damaged: {why}',
    hint: "mend {path}, or remove the machine: skep rm --force {name}",
    status: 500,
  },
  MACHINE_INVALID: { message: 'machine "{name}": {why}', hint: "{hint}", status: 400 },
  BASE_NOT_STOPPED: {
    message: 'machine "{name}" runs, so its disk cannot be a base',
    hint: "stop it first: skep stop {name}",
    status: 409,
  },
  LAYERS_DEEP: {
    message: 'the disk of machine "{name}" stands on {layers} layers already',
    hint: "boot it, which joins them: skep restart {name}; each snapshot and fork of a running machine adds one",
    status: 409,
  },
  DISK_TOO_SMALL: {
    message: "a disk of {size} is smaller than {what}, which has {minimum}",
    hint: "give --disk {minimum} or more",
    status: 400,
  },
  DISK_TOO_LARGE: {
    message: "a disk of {size} is larger than the whole file system of {path} ({total})",
    hint: "give a smaller --disk, or put SKEP_HOME on a larger file system",
    status: 400,
  },
  MEMORY_SHORT: {
    message: 'no memory for machine "{name}": it needs {needed}, {available} {where} can be promised',
    hint: "stop another machine, or give it less: skep edit {name} --memory …",
    status: 507,
  },
  MEMORY_SHORT_COPIES: {
    message:
      'no memory for {count} copies of machine "{name}": in the end they may need {needed}, {available} of this host can be promised',
    hint: "make fewer, or stop other machines; --force makes them all the same, and the host may end one of them",
    status: 507,
  },
  MEMORY_OCCUPIED: {
    message: '{path}, where the memory of machine "{name}" shall be, belongs to somebody else',
    hint: "have it removed by its owner or by root: rm -r {path}",
    status: 409,
  },
  PORT_TAKEN: {
    message: "port {port} of this host is in use{by}",
    hint: "publish another one: --publish FREE:{guest}, or 0:{guest} to have one chosen",
    status: 409,
  },
  PORT_DOUBLE: {
    message: 'port {port} is published already by machine "{name}"',
    hint: "choose another port, or remove that one: skep port rm {name} {port}",
    status: 409,
  },
  PORT_ADDRESS: {
    message: 'cannot publish on "{address}": it is no IPv4 address',
    hint: "write 127.0.0.1, or 0.0.0.0 for every address of this host",
    status: 400,
  },
  PORT_NOT_FOUND: {
    message: 'machine "{name}" publishes no port {port}',
    hint: "see: skep port ls {name}",
    status: 404,
  },
  SEED_INVALID: { message: "{what} is not usable: {why}", hint: "{hint}", status: 400 },
  ENV_INVALID: {
    message: 'environment variable "{name}" is not usable: {why}',
    hint: "{hint}",
    status: 400,
  },
  KEY_INVALID: {
    message: "ssh key {key} is not a public key in OpenSSH format",
    hint: "give the .pub file, or its one line: ssh-ed25519 AAAA… comment",
    status: 400,
  },
  CDROM_MISSING: {
    message: "cannot read the ISO {path}: {why}",
    hint: "give the path of a file on skepd's host",
    status: 400,
  },
  FIRMWARE_MISSING: {
    message: "UEFI firmware for {arch} is not installed",
    hint: "install it: {install}",
    status: 503,
  },
  HOME_CLOSED: {
    message: "QEMU runs as its own user, which cannot pass through {path}",
    hint: "chmod o+x {path}, or set SKEP_HOME to a directory outside it",
    status: 500,
  },
  SOCKET_PATH_LONG: {
    message: "socket path {path} has {length} characters; {limit} fit",
    hint: "set SKEP_RUNTIME_DIR to a shorter directory",
    status: 500,
  },
  QEMU_FAILED: {
    message: 'QEMU could not start machine "{name}": {stderr}',
    hint: "see: skep logs --qemu {name}",
    status: 500,
  },
  QEMU_GONE: { message: 'machine "{name}" stopped: {reason}', hint: "see: skep logs {name}", status: 409 },
  NOT_READY: {
    message: 'machine "{name}" runs but did not answer within {seconds} s; its console ends with:\n{console}',
    hint: "look further: skep console {name}, or skep logs {name}",
    status: 504,
  },
  CHECK_FAILING: {
    message: 'machine "{name}" runs, but its check did not succeed within {seconds} s: {why}',
    hint: "see: skep status {name}, skep logs {name}; or change the check: skep edit {name} --check …",
    status: 504,
  },
  KERNEL_PANIC: {
    message: 'the kernel of machine "{name}" has panicked; its console ends with:\n{console}',
    hint: "look further: skep logs {name}; then end it: skep stop --force {name}",
    status: 409,
  },
  AGENT_ABSENT: {
    message: 'the guest agent of machine "{name}" does not answer',
    hint: "install qemu-guest-agent in the guest, or wait until it has booted",
    status: 503,
  },
  MONITOR_SILENT: {
    message: 'machine "{name}" runs, but its monitor does not answer',
    hint: "close what is connected to its qmp.sock, or stop it: skep stop --force {name}",
    status: 409,
  },
  VOLUMES_ABSENT: { message: "this skepd serves no volumes", status: 503 },
  VOLUME_ATTACHED: {
    message: 'volume "{id}" is attached to machine "{name}"',
    hint: "detach it there first: skep vol detach {id}",
    status: 409,
  },
  VOLUME_NOT_ATTACHED: {
    message: 'machine "{name}" has no volume "{id}"',
    hint: "see: skep status {name}",
    status: 404,
  },
  VOLUME_BELONGS: {
    message: 'volume "{id}" is the {role} volume of machine "{name}" and stays with it',
    hint: "it is set free when the machine is removed: skep rm --keep-volumes {name}",
    status: 409,
  },
  VOLUME_USED: {
    message: 'the guest of machine "{name}" uses volume "{id}": {where}',
    hint: "unmount it in the guest first; --force takes it away all the same, and what was not synced is lost",
    status: 409,
  },
  VOLUME_HELD: {
    message:
      'the guest of machine "{name}" has not given volume "{id}" up; it is detached as soon as it does, or stops',
    hint: "take it away all the same, so that the guest's reads and writes fail: skep vol detach --force {id}",
    status: 409,
  },
  VOLUME_LINGERS: {
    message: 'the guest of machine "{name}" still holds on to volume "{id}", which was taken from it',
    hint: "restart the machine: skep restart {name}",
    status: 409,
  },
  SLOTS_TAKEN: {
    message: 'machine "{name}" has {slots} volumes, and no place for another',
    hint: "detach one first; see: skep status {name}",
    status: 409,
  },
  BASE_ON_VOLUME: {
    message: 'the disk of machine "{name}" is volume "{id}", which no other machine can stand on',
    hint: "take a snapshot of the volume and make a clone of that: skep vol snapshot {id}",
    status: 409,
  },
  NO_DISPLAY: { message: 'machine "{name}" has no display to take a picture of', status: 409 },
} as const satisfies ErrorTable;

export const fail = errorsOf(machineErrors);
