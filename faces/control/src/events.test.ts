import assert from "node:assert/strict";
import { test } from "node:test";
import { EventStreamParser } from "@skep/api";
import type { Event } from "@skep/api/schemas";
import { Events } from "./events.ts";
import { testControl } from "./test-control.ts";

function take(events: Events, lastEventId?: number): { seen: Event[]; stop: () => void } {
  const seen: Event[] = [];
  return { seen, stop: events.subscribe((event) => seen.push(event), lastEventId) };
}

test("a stream resumes after the id that was seen last, and says when it cannot", () => {
  const events = new Events(3, 100);
  const publish = (subject: string) => events.publish({ type: "t", subject, data: null });
  for (const subject of ["a", "b", "c"]) publish(subject);
  assert.deepEqual(
    take(events, 100).seen.map(({ subject }) => subject),
    ["b", "c"],
  );
  assert.deepEqual(take(events, 102).seen, []);
  for (const subject of ["d", "e"]) publish(subject);
  const types = (id: number) => take(events, id).seen.map(({ type, subject }) => `${type}:${subject}`);
  assert.deepEqual(types(100), ["events.lost:", "t:c", "t:d", "t:e"]);
  assert.deepEqual(types(101), ["t:c", "t:d", "t:e"]);
  // Ids of an earlier life, and of none.
  assert.equal(types(7)[0], "events.lost:");
  assert.equal(types(9_999)[0], "events.lost:");
});

test("events arrive over the API, and those missed come first on resumption", async () => {
  await using t = await testControl();
  const first = t.client.events();
  const pending = first.next();
  // The stream is open once its first event is there.
  const poke = setInterval(() => t.control.events.publish({ type: "poke", subject: "", data: null }), 10);
  const opened = (await pending).value as Event;
  clearInterval(poke);
  await first.return(undefined);
  await t.client.job("createMachine", { body: { name: "web" } });
  const types: string[] = [];
  for await (const event of t.client.events({ lastEventId: opened.id })) {
    if (event.type !== "poke") types.push(event.type);
    if (event.type === "job.succeeded") break;
  }
  assert.deepEqual(types, ["job.running", "job.succeeded"]);
});

test("an event stream is read alike, however its bytes are cut", () => {
  const text =
    ': hello\n\nid: 1\nevent: job\ndata: {"a":\ndata: "ü"}\n\r\nid: 2\ndata: x\r\n\r\ndata: unfinished';
  const bytes = Buffer.from(text);
  const whole = new EventStreamParser().push(bytes);
  assert.deepEqual(whole, [
    { id: "1", event: "job", data: '{"a":\n"ü"}' },
    { id: "2", event: "message", data: "x" },
  ]);
  for (const size of [1, 2, 3, 7]) {
    const parser = new EventStreamParser();
    const parts = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
      bytes.subarray(i * size, (i + 1) * size),
    );
    assert.deepEqual(
      parts.flatMap((part) => parser.push(part)),
      whole,
    );
  }
  assert.throws(() => new EventStreamParser(100).push(Buffer.alloc(200, "x")), RangeError);
});
