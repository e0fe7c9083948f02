import type { JobId } from "@skep/api";

/** As much of a job's request as the text needs. */
export interface CancelParameters {
  path?: { name?: string };
  body?: { wait?: boolean };
}

const leave = "; Ctrl-C again leaves that to skepd";

/** What Ctrl-C does to a job, as it is told while skepd still does it. */
export function cancelText(id: JobId, params: CancelParameters): string {
  const name = params.path?.name;
  switch (id) {
    case "startMachine":
    case "restartMachine":
      return params.body?.wait === true
        ? `no longer waiting; ${name} goes on booting`
        : `cancelling the start of ${name}`;
    case "stopMachine":
      return `cancelling; ${name} runs on unless it is shutting down already`;
    case "suspendMachine":
      return `cancelling; ${name} runs on unless all of its memory is stored already`;
    case "resumeMachine":
      return params.body?.wait === true
        ? `no longer waiting; ${name} goes on where it was`
        : `cancelling; ${name} stays suspended unless it runs already`;
    case "createMachineSnapshot":
      return `cancelling; ${name} is left as it was`;
    case "restoreMachineSnapshot":
      return params.body?.wait === true
        ? `no longer waiting; ${name} is set back`
        : `cancelling; ${name} stays what it is unless it is set back already`;
    case "removeMachine":
    case "removeMachineSnapshot":
    case "verifyImage":
    case "removeVolume":
    case "detachVolume":
    case "checkVolume":
    case "collectVolumeGarbage":
    case "createSnapshot":
    case "resizeVolume":
      return "cancelling";
    case "pullImage":
      return "cancelling; what was downloaded is kept for the next pull";
    default:
      return `cancelling and undoing${leave}`;
  }
}
