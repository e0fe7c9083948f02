import { Job, Pruned, Template, TemplateBuild } from "@skep/api/schemas";
import { Type } from "typebox";
import { type App, answers, type Context } from "../context.ts";

const tags = ["templates"];

export function templateRoutes(app: App, { states: { templates }, jobs }: Context): void {
  app.get(
    "/v1/templates",
    { schema: { operationId: "listTemplates", tags, response: answers(200, Type.Array(Template)) } },
    async () => await templates.list(),
  );
  app.post(
    "/v1/templates",
    {
      schema: {
        operationId: "buildTemplate",
        tags,
        description:
          "Boots an image once, out of sight, and keeps it as it stands, so that new machines of that shape begin there. The job's result is a Template: the one that is there, where there is one.",
        body: TemplateBuild,
        response: answers(202, Job),
      },
    },
    ({ body }, reply) => {
      reply.code(202);
      const subject = body.image ?? "default";
      return jobs.start({ kind: "template.build", subject, request: body }, (work) =>
        templates.build(body, work),
      );
    },
  );
  app.delete(
    "/v1/templates/:ref",
    {
      schema: {
        operationId: "removeTemplate",
        tags,
        description: "Machines that began from it stay as they are. Answers with the ids of those removed.",
        params: Type.Object({ ref: Type.String({ description: "id, or an image's name: all of it" }) }),
        response: answers(200, Type.Array(Type.String())),
      },
    },
    async ({ params }) => await templates.remove(params.ref),
  );
  app.post(
    "/v1/templates/prune",
    {
      schema: {
        operationId: "pruneTemplates",
        tags,
        description: "Removes those from which no machine can begin any more; with `all` the others, too.",
        querystring: Type.Object({ all: Type.Optional(Type.Boolean()) }, { additionalProperties: false }),
        response: answers(200, Pruned),
      },
    },
    async ({ query }) => await templates.prune(query.all === true),
  );
}
