import {
  Job,
  Machine,
  MachineEdit,
  MachineRequest,
  MachineState,
  MachineStats,
  Port,
  PortRequest,
  QemuCommand,
  RemoveRequest,
  StartRequest,
  StopRequest,
} from "@skep/api/schemas";
import { checkName } from "@skep/base";
import { Type } from "typebox";
import { type App, answers, type Context, nameParams } from "../context.ts";
import { globMatches } from "../glob.ts";
import { startOrResume } from "./states.ts";

const tags = ["machines"];
const strict = { additionalProperties: false };
const { wait, waitSeconds } = StartRequest.properties;
const RestartRequest = Type.Object({ wait, waitSeconds, ...StopRequest.properties }, strict);

export function machineRoutes(app: App, { machines, states, jobs }: Context): void {
  app.get(
    "/v1/machines",
    {
      schema: {
        operationId: "listMachines",
        tags,
        querystring: Type.Object(
          {
            state: Type.Optional(MachineState),
            image: Type.Optional(Type.String({ description: "name or digest" })),
            name: Type.Optional(Type.String({ maxLength: 64, description: "may hold * and ?" })),
          },
          strict,
        ),
        response: answers(200, Type.Array(Machine)),
      },
    },
    ({ query: { state, image, name } }) => {
      return machines
        .list()
        .filter(
          (machine) =>
            (state === undefined || machine.state === state) &&
            (image === undefined || machine.image === image || machine.imageDigest === image) &&
            (name === undefined || globMatches(name, machine.name)),
        );
    },
  );
  app.get(
    "/v1/machines/:name",
    {
      schema: { operationId: "getMachine", tags, params: nameParams, response: answers(200, Machine) },
    },
    ({ params }) => machines.get(params.name),
  );
  app.post(
    "/v1/machines",
    {
      schema: { operationId: "createMachine", tags, body: MachineRequest, response: answers(202, Job) },
      bodyLimit: 32 * 1024 * 1024,
    },
    ({ body }, reply) => {
      const subject = checkName(body.name);
      reply.code(202);
      return jobs.start({ kind: "machine.create", subject, request: body }, (work) =>
        machines.create(body, work),
      );
    },
  );
  app.patch(
    "/v1/machines/:name",
    {
      schema: {
        operationId: "editMachine",
        tags,
        params: nameParams,
        body: MachineEdit,
        response: answers(202, Job),
      },
    },
    ({ params: { name }, body }, reply) => {
      machines.get(name);
      reply.code(202);
      return jobs.start({ kind: "machine.edit", subject: name, request: body }, (work) =>
        machines.edit(name, body, work),
      );
    },
  );
  app.delete(
    "/v1/machines/:name",
    {
      schema: {
        operationId: "removeMachine",
        tags,
        params: nameParams,
        querystring: RemoveRequest,
        response: answers(202, Job),
      },
    },
    ({ params: { name }, query }, reply) => {
      machines.get(name);
      const request: RemoveRequest = { ...query };
      reply.code(202);
      return jobs.start({ kind: "machine.remove", subject: name, request }, (work) =>
        machines.remove(name, request, work),
      );
    },
  );
  app.post(
    "/v1/machines/:name/start",
    {
      schema: {
        operationId: "startMachine",
        tags,
        params: nameParams,
        body: StartRequest,
        response: answers(202, Job),
      },
    },
    ({ params: { name }, body }, reply) => {
      machines.get(name);
      reply.code(202);
      return jobs.start({ kind: "machine.start", subject: name, request: body }, (work) =>
        startOrResume({ machines, states }, name, body, work),
      );
    },
  );
  app.post(
    "/v1/machines/:name/stop",
    {
      schema: {
        operationId: "stopMachine",
        tags,
        params: nameParams,
        body: StopRequest,
        response: answers(202, Job),
      },
    },
    ({ params: { name }, body }, reply) => {
      machines.get(name);
      reply.code(202);
      return jobs.start({ kind: "machine.stop", subject: name, request: body }, (work) =>
        machines.stop(name, body, work),
      );
    },
  );
  app.post(
    "/v1/machines/:name/restart",
    {
      schema: {
        operationId: "restartMachine",
        tags,
        params: nameParams,
        body: RestartRequest,
        response: answers(202, Job),
      },
    },
    ({ params: { name }, body }, reply) => {
      machines.get(name);
      reply.code(202);
      return jobs.start({ kind: "machine.restart", subject: name, request: body }, (work) =>
        machines.restart(name, body, work),
      );
    },
  );
  app.get(
    "/v1/machines/:name/qemu",
    {
      schema: {
        operationId: "machineQemu",
        tags,
        description: "The QEMU command line that starts it.",
        params: nameParams,
        response: answers(200, QemuCommand),
      },
    },
    async ({ params }) => machines.qemuCommand(params.name),
  );
  app.get(
    "/v1/machines/:name/stats",
    {
      schema: { operationId: "machineStats", tags, params: nameParams, response: answers(200, MachineStats) },
    },
    ({ params }) => machines.stats(params.name),
  );
  app.get(
    "/v1/stats",
    {
      schema: {
        operationId: "allStats",
        tags,
        description: "Of each running machine.",
        response: answers(200, Type.Array(MachineStats)),
      },
    },
    async () => {
      const live = machines.list().filter(({ state }) => state === "running" || state === "paused");
      const read = await Promise.allSettled(live.map(({ name }) => machines.stats(name)));
      // One that stops just now has none.
      return read.flatMap((stats) => (stats.status === "fulfilled" ? [stats.value] : []));
    },
  );
  portRoutes(app, machines);
}

function portRoutes(app: App, machines: Context["machines"]): void {
  app.get(
    "/v1/machines/:name/ports",
    {
      schema: {
        operationId: "listPorts",
        tags,
        params: nameParams,
        response: answers(200, Type.Array(Port)),
      },
    },
    ({ params }) => machines.get(params.name).ports,
  );
  app.post(
    "/v1/machines/:name/ports",
    {
      schema: {
        operationId: "addPort",
        tags,
        description: "Forwards a port, on a running machine at once. Answers with all of its ports.",
        params: nameParams,
        body: PortRequest,
        response: answers(200, Type.Array(Port)),
      },
    },
    ({ params, body }) => machines.addPort(params.name, body),
  );
  app.delete(
    "/v1/machines/:name/ports/:hostPort",
    {
      schema: {
        operationId: "removePort",
        tags,
        params: Type.Object({ name: Type.String(), hostPort: Type.Integer({ minimum: 1, maximum: 65535 }) }),
        querystring: Type.Object(
          { protocol: Type.Optional(Type.Union([Type.Literal("tcp"), Type.Literal("udp")])) },
          strict,
        ),
        response: answers(200, Type.Array(Port)),
      },
    },
    ({ params, query }) =>
      machines.removePort(params.name, { hostPort: params.hostPort, protocol: query.protocol ?? "tcp" }),
  );
}
