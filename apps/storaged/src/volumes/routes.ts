import type { VolumeAdopt, VolumeCreate, VolumeEdit, VolumeRemove, VolumeResize } from "@skep/api/schemas";
import type { JsonRequest, JsonRoute } from "@skep/daemon";
import type { WantedMark } from "./marks.ts";
import type { Attached } from "./records.ts";
import type { CloneRequest, Volumes, VolumeWork } from "./volumes.ts";

/** What long work tells: how far it is, at the end what came of it. */
export type Told<T> = { done: number; total: number } | { result: T };

/** What skepd asks about volumes. `:volume` is an id or a name. */
export function volumeRoutes(volumes: Volumes): JsonRoute[] {
  const volume = ({ params }: JsonRequest) => params.volume as string;
  return [
    { method: "GET", path: "/volumes", handle: () => volumes.list() },
    {
      method: "POST",
      path: "/volumes",
      handle: ({ body }) => volumes.create(body as VolumeCreate & { filling?: string }),
    },
    { method: "POST", path: "/volumes/adopt", handle: ({ body }) => volumes.adopt(body as VolumeAdopt) },
    {
      method: "POST",
      path: "/volumes/clone",
      handle: ({ body, signal }) => volumes.clone(body as CloneRequest, { signal }),
    },
    {
      method: "POST",
      path: "/volumes/discard-unfinished",
      handle: ({ body }) => volumes.discardUnfinished((body as { present: string }).present),
    },
    {
      method: "POST",
      path: "/volumes/conceal",
      handle({ body }) {
        const { socket, drain } = body as { socket: string; drain: boolean };
        volumes.conceal(socket, { drain });
      },
    },
    {
      method: "POST",
      path: "/volume-marks/:mark",
      handle: ({ params, body, signal }) =>
        volumes.marks.keep(params.mark as string, (body as { volumes: WantedMark[] }).volumes, signal),
    },
    {
      method: "POST",
      path: "/volume-marks/:mark/complete",
      handle: ({ params, signal }) => volumes.marks.complete(params.mark as string, signal),
    },
    {
      method: "DELETE",
      path: "/volume-marks/:mark",
      handle: ({ params }) => volumes.marks.abandon(params.mark as string),
    },
    { method: "GET", path: "/volumes-served", handle: () => ({ served: volumes.isServing }) },
    { method: "GET", path: "/volumes/:volume", handle: (request) => volumes.get(volume(request)) },
    {
      method: "PUT",
      path: "/volumes/:volume",
      handle: (request) =>
        volumes.edit(volume(request), request.body as VolumeEdit, { signal: request.signal }),
    },
    {
      method: "POST",
      path: "/volumes/:volume/resize",
      handle: (request) =>
        volumes.resize(volume(request), (request.body as VolumeResize).sizeBytes, { signal: request.signal }),
    },
    {
      method: "POST",
      path: "/volumes/:volume/take-over",
      handle: (request) => volumes.takeOver(volume(request)),
    },
    {
      method: "POST",
      path: "/volumes/:volume/serve",
      handle: (request) => volumes.serve(volume(request), request.body as Attached),
    },
    {
      method: "POST",
      path: "/volumes/:volume/release",
      handle: (request) => volumes.release(volume(request), (request.body as { machine: string }).machine),
    },
    {
      method: "POST",
      path: "/volumes/:volume/remove",
      handle: (request) => volumes.remove(volume(request), (request.body ?? {}) as VolumeRemove),
    },
    {
      method: "POST",
      path: "/volumes/:volume/filled",
      handle: (request) => volumes.filled(volume(request)),
    },
    {
      method: "POST",
      path: "/volumes/:volume/snapshots",
      handle: (request) => {
        const { name } = request.body as { name?: string };
        return volumes.snapshot(volume(request), name, { signal: request.signal });
      },
    },
    {
      method: "DELETE",
      path: "/volumes/:volume/snapshots/:snapshot",
      handle: (request) => {
        const { snapshot } = request.params as { snapshot: string };
        return volumes.removeSnapshot(volume(request), snapshot, { signal: request.signal });
      },
    },
    {
      method: "POST",
      path: "/volumes/:volume/revert",
      handle: (request) => {
        const { snapshot } = request.body as { snapshot: string };
        return volumes.revert(volume(request), snapshot, { signal: request.signal });
      },
    },
    {
      method: "POST",
      path: "/volumes/:volume/gc",
      handle: (request) => telling(request, (work) => volumes.collectGarbage(volume(request), work)),
    },
    {
      method: "POST",
      path: "/volumes/:volume/check",
      handle: (request) => telling(request, (work) => volumes.check(volume(request), work)),
    },
    {
      method: "POST",
      path: "/volumes/:volume/expose",
      handle: (request) => {
        const { readOnly } = request.body as { readOnly: boolean };
        return volumes.expose(volume(request), { readOnly, signal: request.signal });
      },
    },
  ];
}

/** Only the newest of what it reports is told, when there is time to. */
async function* telling<T>(
  { signal }: JsonRequest,
  work: (work: VolumeWork) => Promise<T>,
): AsyncGenerator<Told<T>> {
  let newest: { done: number; total: number } | undefined;
  let wake: () => void = () => undefined;
  const report = (progress: { done: number; total: number }) => {
    newest = progress;
    wake();
  };
  const ended = work({ signal, report }).then(
    (result) => ({ result }),
    (error: unknown) => ({ error }),
  );
  for (;;) {
    const next = new Promise<undefined>((resolve) => {
      wake = () => resolve(undefined);
    });
    if (newest !== undefined) {
      const progress = newest;
      newest = undefined;
      yield progress;
      continue;
    }
    const end = await Promise.race([ended, next]);
    if (end === undefined) continue;
    if ("error" in end) throw end.error;
    yield end;
    return;
  }
}
