import { Job } from "@skep/api/schemas";
import { Type } from "typebox";
import { type App, answers, type Context, rawAnswer } from "../context.ts";
import { eventStream } from "../stream.ts";

const idParams = Type.Object({ id: Type.String() });
const ended = Number.MAX_SAFE_INTEGER;

export function jobRoutes(app: App, { jobs }: Context): void {
  app.get(
    "/v1/jobs",
    {
      schema: {
        operationId: "listJobs",
        tags: ["jobs"],
        description: "Newest first.",
        querystring: Type.Object(
          {
            state: Type.Optional(Job.properties.state),
            kind: Type.Optional(Type.String()),
            subject: Type.Optional(Type.String()),
            limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })),
          },
          { additionalProperties: false },
        ),
        response: answers(200, Type.Array(Job)),
      },
    },
    (request) => jobs.list(request.query),
  );
  app.get(
    "/v1/jobs/:id",
    { schema: { operationId: "getJob", tags: ["jobs"], params: idParams, response: answers(200, Job) } },
    (request) => jobs.get(request.params.id),
  );
  app.post(
    "/v1/jobs/:id/cancel",
    {
      schema: {
        operationId: "cancelJob",
        tags: ["jobs"],
        description: "Asks the job to stop and undo what it did; its events tell when that is done.",
        params: idParams,
        response: answers(202, Job),
      },
    },
    (request, reply) => {
      reply.code(202);
      return jobs.cancel(request.params.id);
    },
  );
  app.get(
    "/v1/jobs/:id/events",
    {
      schema: {
        operationId: "jobEvents",
        tags: ["jobs"],
        description:
          "Server-sent events; each `data` is the whole Job as it is then. Ends after the job's last state.",
        params: idParams,
        response: rawAnswer("text/event-stream", "a Job in each message"),
      },
    },
    (request, reply) => {
      const { id } = request.params;
      jobs.get(id);
      const seen = Number(request.headers["last-event-id"] ?? -1);
      return eventStream(reply, (stream) =>
        jobs.subscribe(id, (job, version) => {
          const done = job.state !== "running";
          if (done || !(version <= seen))
            stream.send({ id: done ? ended : version, event: "job", data: job });
          if (done) stream.end();
        }),
      );
    },
  );
}
