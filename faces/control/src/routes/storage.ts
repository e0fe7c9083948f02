import { Storage, StorageUp } from "@skep/api/schemas";
import { type App, answers, type Context } from "../context.ts";

const tags = ["storage"];

export function storageRoutes(app: App, { storage, events }: Context): void {
  app.get(
    "/v1/storage",
    {
      schema: {
        operationId: "getStorage",
        tags,
        description: "The S3 endpoint as it is; starts nothing.",
        response: answers(200, Storage),
      },
    },
    () => storage.status(),
  );
  app.post(
    "/v1/storage/up",
    {
      schema: {
        operationId: "storageUp",
        tags,
        description: "Serves S3 on TCP, now and after later starts; what is not given stays as it was.",
        body: StorageUp,
        response: answers(200, Storage),
      },
    },
    async ({ body }) => {
      const status = await storage.up(body);
      events.publish({ type: "storage.up", subject: status.endpoint ?? "", data: null });
      return status;
    },
  );
  app.post(
    "/v1/storage/down",
    {
      schema: {
        operationId: "storageDown",
        tags,
        description: "Ends the S3 endpoint once what is under way has ended; nothing stored is touched.",
        response: answers(200, Storage),
      },
    },
    async () => {
      const status = await storage.down();
      events.publish({ type: "storage.down", subject: status.socket, data: null });
      return status;
    },
  );
}
