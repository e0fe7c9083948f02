import swagger from "@fastify/swagger";
import * as schemas from "@skep/api/schemas";
import type { App } from "./context.ts";

/** Collects the routes that follow and serves their OpenAPI document. */
export async function documentRoutes(app: App, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "skep control API",
        version: "1",
        description: `Served by skepd ${version.replace(/[^\w.+-]/g, "")}.`,
        license: { name: "Apache-2.0", identifier: "Apache-2.0" },
      },
      components: {
        securitySchemes: {
          token: { type: "http", scheme: "bearer", description: "over TCP; not on the Unix socket" },
        },
      },
      security: [{ token: [] }],
    },
    transform: ({ schema, url }) => ({ schema: referring(schema) as typeof schema, url }),
    // Components bear the schemas' own names.
    refResolver: {
      buildLocalReference: (json, _base, _fragment, index) => String(json.$id ?? `def-${index}`),
    },
  });
  for (const schema of Object.values(schemas)) if ("$id" in schema) app.addSchema(schema);
  app.get("/openapi.json", { schema: { hide: true } }, () => app.swagger());
}

/** A route's schema with named schemas as references, so that the document shows each once. */
function referring(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(referring);
  if (typeof value !== "object" || value === null) return value;
  if ("$id" in value) return { $ref: `${value.$id}#` };
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, referring(inner)]));
}
