import {
  Arch,
  CatalogEntry,
  Image,
  ImageBuild,
  ImageDetails,
  ImageImport,
  ImagePull,
  Job,
  Pruned,
} from "@skep/api/schemas";
import type { StoredImage } from "@skep/images";
import { Type } from "typebox";
import { type App, answers, type Context } from "../context.ts";

const tags = ["images"];
const refParams = Type.Object({ ref: Type.String({ description: "name or digest" }) });
const archQuery = Type.Object({ arch: Type.Optional(Arch) }, { additionalProperties: false });

function viewOf(image: StoredImage, usedBy: Map<string, string[]>): Image {
  const { name, digest, arch, disk, kernel, storedBytes, user, source, createdAt } = image;
  return {
    name,
    digest,
    arch,
    format: disk?.format ?? "none",
    virtualBytes: disk?.virtualBytes ?? 0,
    storedBytes,
    directBoot: kernel !== null,
    user,
    source,
    createdAt,
    usedBy: usedBy.get(digest) ?? [],
  };
}

export function imageRoutes(app: App, { images, machines, states, jobs, events }: Context): void {
  const usedBy = () => machines.usedImages();
  const added = (image: StoredImage): Image => {
    events.publish({ type: "image.added", subject: image.name, data: { digest: image.digest } });
    return viewOf(image, usedBy());
  };

  app.get(
    "/v1/images",
    { schema: { operationId: "listImages", tags, response: answers(200, Type.Array(Image)) } },
    async () => {
      const used = usedBy();
      return (await images.list()).map((image) => viewOf(image, used));
    },
  );
  app.get(
    "/v1/images/:ref",
    {
      schema: {
        operationId: "getImage",
        tags,
        params: refParams,
        querystring: archQuery,
        response: answers(200, ImageDetails),
      },
    },
    async (request) => {
      const stored = await images.get(request.params.ref, request.query.arch);
      const manifest = await images.manifest(stored);
      return { image: viewOf(stored, usedBy()), manifest, directory: stored.directory };
    },
  );
  app.post(
    "/v1/images/pull",
    { schema: { operationId: "pullImage", tags, body: ImagePull, response: answers(202, Job) } },
    ({ body }, reply) => {
      reply.code(202);
      return jobs.start({ kind: "image.pull", subject: body.as ?? body.name, request: body }, async (work) =>
        added(await images.pull(body, work)),
      );
    },
  );
  app.post(
    "/v1/images/build",
    { schema: { operationId: "buildImage", tags, body: ImageBuild, response: answers(202, Job) } },
    ({ body }, reply) => {
      reply.code(202);
      return jobs.start(
        { kind: "image.build", subject: body.name ?? "recipe", request: body },
        async (work) => added(await images.build(body, work)),
      );
    },
  );
  app.post(
    "/v1/images/import",
    { schema: { operationId: "importImage", tags, body: ImageImport, response: answers(202, Job) } },
    ({ body }, reply) => {
      reply.code(202);
      return jobs.start(
        { kind: "image.import", subject: body.name ?? body.path, request: body },
        async (work) => added(await images.import(body, work)),
      );
    },
  );
  app.post(
    "/v1/images/prune",
    {
      schema: {
        operationId: "pruneImages",
        tags,
        description:
          "Removes what nobody needs: images without a name, left-overs, partial downloads; with `all` also each named image that no machine needs.",
        querystring: Type.Object({ all: Type.Optional(Type.Boolean()) }, { additionalProperties: false }),
        response: answers(200, Pruned),
      },
    },
    async ({ query }) => {
      // Asked anew for each image, since machines are made meanwhile.
      const pruned = await images.prune({ has: (digest) => usedBy().has(digest) }, query.all);
      for (const subject of pruned.removed) events.publish({ type: "image.removed", subject, data: null });
      return pruned;
    },
  );
  app.post(
    "/v1/images/:ref/verify",
    {
      schema: {
        operationId: "verifyImage",
        tags,
        description: "Reads all of the image's files again and compares their digests.",
        params: refParams,
        response: answers(202, Job),
      },
    },
    ({ params: { ref } }, reply) => {
      reply.code(202);
      return jobs.start({ kind: "image.verify", subject: ref, request: null }, () => images.verify(ref));
    },
  );
  app.delete(
    "/v1/images/:ref",
    {
      schema: {
        operationId: "removeImage",
        tags,
        params: refParams,
        querystring: archQuery,
        response: answers(204, Type.Null()),
      },
    },
    async (request, reply) => {
      const { params, query } = request;
      await images.remove(params.ref, query.arch, usedBy());
      events.publish({ type: "image.removed", subject: params.ref, data: null });
      // What is made of it is of no use any more; `template prune` finds it as well.
      await states.templates
        .prune(false)
        .catch((error: unknown) => request.log.warn({ err: error }, "cannot prune templates"));
      reply.code(204);
      return null;
    },
  );
  app.get(
    "/v1/catalog",
    {
      schema: {
        operationId: "catalog",
        tags,
        description: "Images that can be pulled by name.",
        response: answers(200, Type.Array(CatalogEntry)),
      },
    },
    () => images.catalog(),
  );
}
