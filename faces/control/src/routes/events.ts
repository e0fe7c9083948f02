import { type App, type Context, rawAnswer } from "../context.ts";
import { fail } from "../errors.ts";
import { eventStream } from "../stream.ts";

export function eventRoutes(app: App, { events }: Context): void {
  app.get(
    "/v1/events",
    {
      schema: {
        operationId: "events",
        tags: ["events"],
        description:
          "Server-sent events; each `data` is an Event. With Last-Event-ID, first what was missed; " +
          "an Event of type `events.lost` says that some of it is no longer kept.",
        response: rawAnswer("text/event-stream", "an Event in each message"),
      },
    },
    (request, reply) => {
      const header = request.headers["last-event-id"];
      const last = header === undefined ? undefined : Number(header);
      if (last !== undefined && !Number.isSafeInteger(last)) {
        throw fail("REQUEST_INVALID", { why: "Last-Event-ID is not an event's id" });
      }
      return eventStream(reply, (stream) =>
        events.subscribe((event) => stream.send({ id: event.id, event: event.type, data: event }), last),
      );
    },
  );
}
