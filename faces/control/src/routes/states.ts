import { Job, ResumeRequest, type StartRequest, SuspendRequest } from "@skep/api/schemas";
import { formatAge, SkepError, type Work } from "@skep/base";
import { type App, answers, type Context, nameParams } from "../context.ts";

const tags = ["states"];

export function stateRoutes(app: App, { machines, states, jobs }: Context): void {
  app.post(
    "/v1/machines/:name/suspend",
    {
      schema: {
        operationId: "suspendMachine",
        tags,
        description:
          "Runs the guest's hooks, writes memory and device state to disk, and ends QEMU. The job's result is a SuspendResult; one that is cancelled leaves the machine running.",
        params: nameParams,
        body: SuspendRequest,
        response: answers(202, Job),
      },
    },
    ({ params: { name }, body }, reply) => {
      machines.get(name);
      reply.code(202);
      return jobs.start({ kind: "machine.suspend", subject: name, request: body }, (work) =>
        states.suspend(name, body, work),
      );
    },
  );
  app.post(
    "/v1/machines/:name/resume",
    {
      schema: {
        operationId: "resumeMachine",
        tags,
        description:
          "Lets a suspended machine go on where it was; the job's result is a ResumeResult. It boots from its disk only where `cold` asks for that.",
        params: nameParams,
        body: ResumeRequest,
        response: answers(202, Job),
      },
    },
    ({ params: { name }, body }, reply) => {
      machines.get(name);
      reply.code(202);
      return jobs.start({ kind: "machine.resume", subject: name, request: body }, (work) =>
        states.resume(name, body, work),
      );
    },
  );
}

/**
 * Starts a machine; one that turns out to be suspended, when it is this verb's turn, is resumed instead, which a
 * note tells.
 */
export async function startOrResume(
  { machines, states }: Pick<Context, "machines" | "states">,
  name: string,
  request: StartRequest,
  work: Work,
) {
  try {
    return await machines.start(name, request, work);
  } catch (error) {
    if (!(error instanceof SkepError) || error.code !== "MACHINE_SUSPENDED") throw error;
  }
  const since = machines.get(name).suspended?.at;
  const { machine, how } = await states.resume(name, request, work);
  if (how === "resumed") {
    const age =
      since === undefined ? "" : `, ${formatAge(Date.now() - Date.parse(since))} after it was suspended`;
    work.note(`${name} is resumed: it goes on where it was${age}`);
  }
  return machine;
}
