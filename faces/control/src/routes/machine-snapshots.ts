import { Job, MachineSnapshot, MachineSnapshotCreate, MachineSnapshotRestore } from "@skep/api/schemas";
import { Type } from "typebox";
import { type App, answers, type Context, nameParams } from "../context.ts";

const tags = ["states"];
const snapshotParams = Type.Object({
  name: Type.String({ description: "the machine's" }),
  snapshot: Type.String(),
});
const job = answers(202, Job);

export function machineSnapshotRoutes(app: App, { machines, states: { snapshots }, jobs }: Context): void {
  app.get(
    "/v1/machines/:name/snapshots",
    {
      schema: {
        operationId: "listMachineSnapshots",
        tags,
        description: "Oldest first; `parent` makes a tree of them.",
        params: nameParams,
        response: answers(200, Type.Array(MachineSnapshot)),
      },
    },
    ({ params: { name } }) => snapshots.list(name),
  );
  app.get(
    "/v1/machines/:name/snapshots/:snapshot",
    {
      schema: {
        operationId: "getMachineSnapshot",
        tags,
        params: snapshotParams,
        response: answers(200, MachineSnapshot),
      },
    },
    ({ params: { name, snapshot } }) => snapshots.get(name, snapshot),
  );
  app.post(
    "/v1/machines/:name/snapshots",
    {
      schema: {
        operationId: "createMachineSnapshot",
        tags,
        description:
          "Keeps a machine as it stands: its disks, and its memory where it runs or is suspended. One that runs goes on after a short pause. The job's result is a MachineSnapshot; one that is cancelled leaves none.",
        params: nameParams,
        body: MachineSnapshotCreate,
        response: job,
      },
    },
    ({ params: { name }, body }, reply) => {
      machines.get(name);
      reply.code(202);
      return jobs.start({ kind: "machine.snapshot.create", subject: name, request: body }, (work) =>
        snapshots.create(name, body, work),
      );
    },
  );
  app.post(
    "/v1/machines/:name/snapshots/:snapshot/restore",
    {
      schema: {
        operationId: "restoreMachineSnapshot",
        tags,
        description:
          "Sets a machine back to a snapshot of it; what it is now is kept as another one, unless `discard`. The job's result is a MachineSnapshotRestored.",
        params: snapshotParams,
        body: MachineSnapshotRestore,
        response: job,
      },
    },
    ({ params: { name, snapshot }, body }, reply) => {
      machines.get(name);
      reply.code(202);
      const request = { ...body, name: snapshot };
      return jobs.start({ kind: "machine.snapshot.restore", subject: name, request }, (work) =>
        snapshots.restore(name, snapshot, body, work),
      );
    },
  );
  app.delete(
    "/v1/machines/:name/snapshots/:snapshot",
    {
      schema: {
        operationId: "removeMachineSnapshot",
        tags,
        description: "Those that were made after it stay as they are.",
        params: snapshotParams,
        response: job,
      },
    },
    ({ params: { name, snapshot } }, reply) => {
      machines.get(name);
      reply.code(202);
      const request = { name: snapshot };
      return jobs.start({ kind: "machine.snapshot.remove", subject: name, request }, (work) =>
        snapshots.remove(name, snapshot, work),
      );
    },
  );
}
