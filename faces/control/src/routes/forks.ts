import { ForkRequest, Job } from "@skep/api/schemas";
import { checkName } from "@skep/base";
import { type App, answers, type Context, nameParams } from "../context.ts";

export function forkRoutes(app: App, { machines, states, jobs }: Context): void {
  app.post(
    "/v1/machines/:name/fork",
    {
      schema: {
        operationId: "forkMachine",
        tags: ["states"],
        description:
          "Copies a machine with its memory, which goes on meanwhile. The job's result is a ForkResult; where one copy fails, or the job is cancelled, no copy is left.",
        params: nameParams,
        body: ForkRequest,
        response: answers(202, Job),
      },
    },
    ({ params: { name }, body }, reply) => {
      machines.get(name);
      for (const given of [body.name, body.prefix]) if (given !== undefined) checkName(given);
      reply.code(202);
      return jobs.start({ kind: "machine.fork", subject: name, request: body }, (work) =>
        states.fork(name, body, work),
      );
    },
  );
}
