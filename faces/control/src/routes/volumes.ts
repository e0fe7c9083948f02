import {
  Job,
  SnapshotCreate,
  Volume,
  VolumeAdopt,
  VolumeAttach,
  VolumeClone,
  VolumeCreate,
  VolumeDetach,
  VolumeEdit,
  VolumeExport,
  VolumeImport,
  VolumeRemove,
  VolumeResize,
} from "@skep/api/schemas";
import { Type } from "typebox";
import { type App, answers, type Context, untilGone } from "../context.ts";
import { fail } from "../errors.ts";

const tags = ["volumes"];
const volumeParams = Type.Object({ volume: Type.String({ description: "id or name" }) });
const snapshotParams = Type.Object({
  volume: Type.String({ description: "id or name" }),
  snapshot: Type.String({ description: "id or name" }),
});
const job = answers(202, Job);

export function volumeRoutes(app: App, { volumes, machines, jobs, events }: Context): void {
  /** A stopped machine has its volumes, too. */
  const shown = (volume: Volume): Volume => {
    const machine = machines.machineOf(volume.id) ?? volume.machine;
    const state = machine !== null && volume.state === "available" ? "attached" : volume.state;
    return { ...volume, machine, state };
  };
  const changed = (volume: Volume, type: string): Volume => {
    events.publish({ type, subject: volume.id, data: { name: volume.name } });
    return shown(volume);
  };

  app.get(
    "/v1/volumes",
    {
      schema: {
        operationId: "listVolumes",
        tags,
        description: "Those that this host knows, in whichever store they are.",
        response: answers(200, Type.Array(Volume)),
      },
    },
    async () => (await volumes.list()).map(shown),
  );
  app.get(
    "/v1/volumes/:volume",
    { schema: { operationId: "getVolume", tags, params: volumeParams, response: answers(200, Volume) } },
    async ({ params }) => shown(await volumes.get(params.volume)),
  );
  app.post(
    "/v1/volumes",
    {
      schema: {
        operationId: "createVolume",
        tags,
        description: "An empty one. `place` says in which store; keys that it holds are kept sealed.",
        body: VolumeCreate,
        response: answers(201, Volume),
      },
    },
    async ({ body }, reply) => {
      const made = await volumes.create(body);
      reply.code(201);
      return changed(made, "volume.created");
    },
  );
  app.post(
    "/v1/volumes/adopt",
    {
      schema: {
        operationId: "adoptVolume",
        tags,
        description: "Takes up a volume that a store has, and that another host made or this one forgot.",
        body: VolumeAdopt,
        response: answers(201, Volume),
      },
    },
    async ({ body }, reply) => {
      const taken = await volumes.adopt(body);
      reply.code(201);
      return changed(taken, "volume.created");
    },
  );
  app.patch(
    "/v1/volumes/:volume",
    {
      schema: {
        operationId: "editVolume",
        tags,
        description: "Holds at once, also while it is in use.",
        params: volumeParams,
        body: VolumeEdit,
        response: answers(200, Volume),
      },
    },
    async ({ params, body }, reply) => shown(await volumes.edit(params.volume, body, untilGone(reply))),
  );
  app.delete(
    "/v1/volumes/:volume",
    {
      schema: {
        operationId: "removeVolume",
        tags,
        params: volumeParams,
        querystring: VolumeRemove,
        response: job,
      },
    },
    async ({ params, query }, reply) => {
      const { id } = await volumes.get(params.volume);
      const request: VolumeRemove = { ...query };
      const machine = machines.machineOf(id);
      if (machine !== undefined && request.force !== true) {
        throw fail("VOLUME_ATTACHED", { id: params.volume, name: machine });
      }
      reply.code(202);
      return jobs.start({ kind: "volume.remove", subject: id, request }, async (work) => {
        if (machine !== undefined) await machines.detachVolume(machine, id, { force: true }, work);
        await volumes.remove(id, request, work);
        events.publish({ type: "volume.removed", subject: id, data: null });
      });
    },
  );
  app.post(
    "/v1/volumes/:volume/resize",
    {
      schema: {
        operationId: "resizeVolume",
        tags,
        description: "Volumes grow, also while a machine runs on them: its guest is told.",
        params: volumeParams,
        body: VolumeResize,
        response: job,
      },
    },
    ({ params: { volume }, body }, reply) => {
      reply.code(202);
      return jobs.start({ kind: "volume.resize", subject: volume, request: body }, async (work) => {
        const grown = await volumes.resize(volume, body.sizeBytes, work);
        await machines.volumeResized(grown.id, grown.sizeBytes);
        return shown(grown);
      });
    },
  );
  app.post(
    "/v1/volumes/:volume/attach",
    {
      schema: {
        operationId: "attachVolume",
        tags,
        description: "At once where the machine runs, at its next start where it is stopped.",
        params: volumeParams,
        body: VolumeAttach,
        response: job,
      },
    },
    ({ params: { volume }, body }, reply) => {
      const { machine, takeOver, ...request } = body;
      machines.get(machine);
      reply.code(202);
      return jobs.start({ kind: "volume.attach", subject: volume, request: body }, async (work) => {
        if (takeOver === true) await volumes.takeOver(volume);
        return machines.attachVolume(machine, { volume, ...request }, work);
      });
    },
  );
  app.post(
    "/v1/volumes/:volume/detach",
    {
      schema: {
        operationId: "detachVolume",
        tags,
        params: volumeParams,
        body: VolumeDetach,
        response: job,
      },
    },
    async ({ params: { volume }, body }, reply) => {
      // One that is gone from its store can still be detached, by its id.
      const isAttached = machines.machineOf(volume) !== undefined;
      const id = isAttached ? volume : (await volumes.get(volume)).id;
      const machine = machines.machineOf(id);
      if (machine === undefined) throw fail("VOLUME_FREE", { id: volume });
      reply.code(202);
      return jobs.start({ kind: "volume.detach", subject: volume, request: body }, async (work) => {
        await machines.detachVolume(machine, id, body, work);
        return { volume: id, machine };
      });
    },
  );
  app.post(
    "/v1/volumes/:volume/snapshots",
    {
      schema: {
        operationId: "createSnapshot",
        tags,
        description: "What the volume holds at one instant; its result is a VolumeSnapshot.",
        params: volumeParams,
        body: SnapshotCreate,
        response: job,
      },
    },
    ({ params: { volume }, body }, reply) => {
      reply.code(202);
      return jobs.start({ kind: "volume.snapshot", subject: volume, request: body }, (work) =>
        volumes.snapshot(volume, body, work),
      );
    },
  );
  app.delete(
    "/v1/volumes/:volume/snapshots/:snapshot",
    {
      schema: {
        operationId: "removeSnapshot",
        tags,
        description: "Refused while a clone needs it.",
        params: snapshotParams,
        response: answers(204, Type.Null()),
      },
    },
    async ({ params }, reply) => {
      await volumes.removeSnapshot(params.volume, params.snapshot, untilGone(reply));
      reply.code(204);
      return null;
    },
  );
  app.post(
    "/v1/volumes/clone",
    {
      schema: {
        operationId: "cloneVolume",
        tags,
        description: "A new volume that shares all data with a snapshot; no data is copied.",
        body: VolumeClone,
        response: job,
      },
    },
    ({ body }, reply) => {
      reply.code(202);
      return jobs.start(
        { kind: "volume.clone", subject: body.name ?? body.source, request: body },
        async (work) => changed(await volumes.clone(body, work), "volume.created"),
      );
    },
  );
  app.post(
    "/v1/volumes/import",
    {
      schema: {
        operationId: "importVolume",
        tags,
        description: "A new volume from a disk's file. A failed one leaves no volume.",
        body: VolumeImport,
        response: job,
      },
    },
    ({ body }, reply) => {
      const { place, ...request } = body; // its secret is in no job's record
      reply.code(202);
      return jobs.start({ kind: "volume.import", subject: body.name ?? body.path, request }, async (work) =>
        changed(await volumes.import(body, work), "volume.created"),
      );
    },
  );
  app.post(
    "/v1/volumes/:volume/export",
    {
      schema: {
        operationId: "exportVolume",
        tags,
        description:
          "The volume as it is at one instant, or a snapshot of it (VOLUME@SNAPSHOT, or its id), as a disk's file.",
        params: volumeParams,
        body: VolumeExport,
        response: job,
      },
    },
    ({ params: { volume }, body }, reply) => {
      reply.code(202);
      return jobs.start({ kind: "volume.export", subject: volume, request: body }, (work) =>
        volumes.export(volume, body, work),
      );
    },
  );
  app.post(
    "/v1/volumes/:volume/gc",
    {
      schema: {
        operationId: "collectVolumeGarbage",
        tags,
        description: "Deletes what no map needs, and packs anew what is mostly dead.",
        params: volumeParams,
        response: job,
      },
    },
    ({ params: { volume } }, reply) => {
      reply.code(202);
      return jobs.start({ kind: "volume.gc", subject: volume, request: null }, (work) =>
        volumes.collectGarbage(volume, work),
      );
    },
  );
  app.post(
    "/v1/volumes/:volume/check",
    {
      schema: {
        operationId: "checkVolume",
        tags,
        description: "Reads all that is stored of it; its result is a VolumeCheckReport.",
        params: volumeParams,
        response: job,
      },
    },
    ({ params: { volume } }, reply) => {
      reply.code(202);
      return jobs.start({ kind: "volume.check", subject: volume, request: null }, (work) =>
        volumes.check(volume, work),
      );
    },
  );
}
