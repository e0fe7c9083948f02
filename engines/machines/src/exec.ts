import { SkepError } from "@skep/base";
import type { GuestAgent } from "@skep/qmp";
import { agentExec } from "./agent-exec.ts";
import { fail } from "./exec-errors.ts";
import type { SshConnections, SshGuest } from "./ssh.ts";
import type { SshConnection } from "./ssh-connection.ts";
import { sshExec } from "./ssh-exec.ts";
import type { ExecRequest, ExecSession } from "./types.ts";

/** What running a command needs to know of a machine. */
export interface ExecGuest extends SshGuest {
  readonly context: SshGuest["context"] & { readonly ssh: SshConnections };
  readonly live: { readonly agent: GuestAgent } | undefined;
}

/** A server that is there says so at once, also in an emulated guest; one that boots is not waited for. */
const bannerTimeoutMs = 8000;
const pingTimeoutMs = 5000;

/**
 * Runs a command in a guest: over ssh where the machine has it and it answers, else over the guest
 * agent. An ssh server that answers and refuses is an error of its own: the agent, which is root, is
 * no way around it. Another user than the machine's login user is reached over the same connection by
 * sudo, for a cloud image lets only one user in. Fails with EXEC_UNREACHABLE when neither answers, or
 * as the chosen way does.
 */
export async function openExec(
  guest: ExecGuest,
  request: ExecRequest,
  signal?: AbortSignal,
): Promise<ExecSession> {
  let ssh = "it has none";
  if (guest.file.ssh) {
    let connection: SshConnection | undefined;
    try {
      connection = await guest.context.ssh.connect(guest, { bannerTimeoutMs, signal });
    } catch (error) {
      if (!(error instanceof SkepError) || !["SSH_UNREACHABLE", "SSH_ABSENT"].includes(error.code))
        throw error;
      ssh = error.message;
    }
    if (connection !== undefined) return await sshExec(connection, request);
  }
  const agent = guest.live?.agent;
  try {
    if (agent === undefined) throw new Error("it does not run");
    await agent.ping({ timeoutMs: pingTimeoutMs, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw fail(
      "EXEC_UNREACHABLE",
      { name: guest.name, ssh, agent: (error as Error).message },
      { cause: error },
    );
  }
  return await agentExec(agent, guest.name, { user: guest.file.user, ...request }, signal);
}
