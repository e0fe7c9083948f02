/**
 * What this face needs of the engines, as they are wired in by skepd. The classes of
 * @skep/machines and @skep/images have these shapes; fault tests bring their own.
 */
import type { Duplex } from "node:stream";
import type {
  CatalogEntry,
  Check,
  Image,
  ImageBuild,
  ImageDetails,
  ImageImport,
  ImagePull,
  Machine,
  MachineEdit,
  MachineRequest,
  MachineStats,
  Port,
  PortRequest,
  Pruned,
  RemoveRequest,
  StartRequest,
  StopRequest,
} from "@skep/api/schemas";
import type { Work } from "@skep/base";
import type { ConsoleAttachment, ConsoleOptions, ExecRequest, ExecSession, LogOptions } from "@skep/machines";

export interface MachineEngine {
  list(): Machine[];
  get(name: string): Machine;
  create(request: MachineRequest, work: Work): Promise<Machine>;
  start(name: string, request: StartRequest, work: Work): Promise<Machine>;
  stop(name: string, request: StopRequest, work: Work): Promise<Machine>;
  restart(name: string, request: StartRequest & StopRequest, work: Work): Promise<Machine>;
  remove(name: string, request: RemoveRequest, work: Work): Promise<void>;
  edit(name: string, edit: MachineEdit, work: Work): Promise<Machine>;
  addPort(name: string, port: PortRequest): Promise<Port[]>;
  removePort(name: string, port: { hostPort: number; protocol: "tcp" | "udp" }): Promise<Port[]>;
  stats(name: string): Promise<MachineStats>;
  screenshot(name: string): Promise<Buffer>;
  qemuCommand(name: string): Promise<string[]>;
  logs(name: string, options: LogOptions): AsyncIterable<Uint8Array>;
  console(name: string, options: ConsoleOptions): Promise<ConsoleAttachment>;
  exec(name: string, request: ExecRequest): Promise<ExecSession>;
  tunnel(name: string, guestPort: number): Promise<Duplex>;
  sshConfig(): Promise<string>;
  usedImages(): Map<string, string[]>;
  doctor(): Promise<Check[]>;
}

export interface ImageEngine {
  list(): Promise<Image[]>;
  get(ref: string, arch?: Image["arch"]): Promise<ImageDetails>;
  pull(request: ImagePull, work: Work): Promise<Image>;
  build(request: ImageBuild, work: Work): Promise<Image>;
  import(request: ImageImport, work: Work): Promise<Image>;
  remove(ref: string, arch: Image["arch"] | undefined, usedBy: Map<string, string[]>): Promise<void>;
  prune(inUse: Map<string, string[]>): Promise<Pruned>;
  catalog(): Promise<CatalogEntry[]>;
  verify(ref: string): Promise<unknown>;
}
