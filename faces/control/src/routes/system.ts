import { Check, Listen, Version } from "@skep/api/schemas";
import { Type } from "typebox";
import { type App, answers, type Context, rawAnswer } from "../context.ts";

export function systemRoutes(app: App, context: Context): void {
  const version = (): Version => ({
    version: context.version,
    apiVersion: 1,
    pid: process.pid,
    home: context.home,
    startedAt: context.startedAt,
    listen: context.listening(),
  });
  app.get(
    "/v1/version",
    { schema: { operationId: "version", tags: ["system"], response: answers(200, Version) } },
    version,
  );
  app.get(
    "/v1/doctor",
    {
      schema: {
        operationId: "doctor",
        tags: ["system"],
        description:
          "Whether this host has what skep needs, and what is stored is whole; `thorough` reads all of it, however long that takes.",
        querystring: Type.Object(
          { thorough: Type.Optional(Type.Boolean()) },
          { additionalProperties: false },
        ),
        response: answers(200, Type.Array(Check)),
      },
    },
    async ({ query }) => {
      const { machines, states, storage, volumes } = context;
      const thorough = query.thorough === true;
      const checks = [machines.doctor(), states.doctor(thorough), storage.doctor(thorough), volumes.doctor()];
      return (await Promise.all(checks)).flat();
    },
  );
  app.put(
    "/v1/listen",
    {
      schema: {
        operationId: "setListen",
        tags: ["system"],
        description: "Listens on TCP with TLS and tokens, now and after later starts; null ends it.",
        body: Listen,
        response: answers(200, Version),
      },
    },
    async (request) => {
      await context.setListen(request.body.address);
      return version();
    },
  );
  app.post(
    "/v1/shutdown",
    {
      schema: {
        operationId: "shutdown",
        tags: ["system"],
        description: "Ends skepd; running jobs are cancelled, machines run on.",
        response: answers(202, Type.Null()),
      },
    },
    (_request, reply) => {
      reply.raw.once("close", () => context.shutdown());
      reply.code(202);
      return null;
    },
  );
  app.get(
    "/metrics",
    {
      schema: {
        operationId: "metrics",
        tags: ["system"],
        description: "For Prometheus.",
        response: rawAnswer("text/plain", "Prometheus' text format"),
      },
    },
    async (_request, reply) => {
      const { registry } = context.metrics;
      const texts = await Promise.all([registry.metrics(), context.storage.metrics()]);
      return reply.type(registry.contentType).send(texts.join(""));
    },
  );
}
