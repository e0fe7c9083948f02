import { type ErrorTable, errorsOf } from "@skep/base";

/** What can go wrong between skep and the inside of a guest: console, ssh, agent. */
export const guestErrors = {
  CONSOLE_BUSY: {
    message: 'the console of machine "{name}" is written to by someone else',
    hint: "take it over: skep console {name} --take, or only look: skep console {name} --watch",
    status: 409,
  },
  CONSOLE_CLOSED: {
    message: 'the console of machine "{name}" is not open: {why}',
    hint: "start it: skep start {name}; see what it printed: skep logs {name}",
    status: 409,
  },
  TELNET_PORT: {
    message: 'cannot open the telnet console of machine "{name}" on {host}:{port}: {why}',
    hint: "choose another port, or 0 for a free one",
    status: 409,
  },
  SSH_ABSENT: {
    message: 'machine "{name}" cannot be reached by ssh: {why}',
    hint: "skep exec and skep cp use its guest agent, skep console its serial port",
    status: 409,
  },
  SSH_UNREACHABLE: {
    message: 'no ssh server answers in machine "{name}" ({host}:{port}): {why}',
    hint: "it may still boot; see: skep logs {name}",
    status: 503,
  },
  SSH_AUTH: {
    message: 'machine "{name}" refuses the ssh login of user "{user}"',
    hint: "see that the user exists and has skep's key; cloud-init may still be at work: skep logs {name}",
    status: 403,
  },
  SSH_HOST_KEY: {
    message: 'the ssh host key of machine "{name}" has changed: {path} has another',
    hint: "if the machine was installed anew, forget the old key: rm {path}; otherwise someone else answers on its port",
    status: 409,
  },
  SSH_LOST: {
    message: 'the ssh connection to machine "{name}" was lost: {why}',
    hint: "see whether it runs: skep status {name}",
    status: 502,
  },
  SSH_REFUSED: { message: 'machine "{name}" refused {what}: {why}', status: 502 },
  SUDO_REFUSED: {
    message: 'user "{user}" of machine "{name}" may not run commands as "{as}": {why}',
    hint: "let sudo allow it there without a password, or leave the user out",
    status: 403,
  },
  EXEC_NO_TTY: {
    message: 'machine "{name}" has no ssh server that answers, and its guest agent gives no terminal',
    hint: "run the command without a terminal, or use: skep console {name}",
    status: 409,
  },
  EXEC_NOT_STARTED: {
    message: 'cannot run {command} in machine "{name}": {why}',
    status: 422,
  },
  EXEC_LOST: {
    message: 'lost the command that ran in machine "{name}": {why}',
    hint: "see whether it runs: skep status {name}",
    status: 502,
  },
  EXEC_UNREACHABLE: {
    message: 'cannot run commands in machine "{name}": over ssh, {ssh}; over the guest agent, {agent}',
    hint: "it may still boot; see: skep logs {name}",
    status: 503,
  },
} as const satisfies ErrorTable;

export const fail = errorsOf(guestErrors);
