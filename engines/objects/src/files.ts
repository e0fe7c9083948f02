/**
 * What the embedded store and volumes need of a file system, and no more, so that the crash tests can put
 * a simulated one in its place. The journal is written by a thread of its own and therefore without
 * awaiting; blobs pass through the main thread and are awaited; volumes choose as the disk is quick.
 *
 * Errors are Node's, with `code` (ENOENT, ENOSPC, …).
 */
export interface Files {
  /** "read" needs the file; "write" makes it where it is missing and keeps what is in it. */
  openSync(path: string, mode: "read" | "write"): SyncFile;
  /** Makes a new file to write and read (EEXIST), or opens one that is there, to read or also to write. */
  open(path: string, mode: "read" | "write" | "create"): Promise<AsyncFile>;
  readdirSync(path: string): string[];
  readdir(path: string): Promise<string[]>;
  /** Also the folders above; no error where it is there. */
  mkdirSync(path: string): void;
  mkdir(path: string): Promise<void>;
  unlinkSync(path: string): void;
  unlink(path: string): Promise<void>;
  /** Replaces what has the new name. */
  rename(from: string, to: string): Promise<void>;
  /** Makes the names in a folder durable. */
  syncDirectorySync(path: string): void;
  syncDirectory(path: string): Promise<void>;
  /** Bytes that can still be written below the path. */
  freeBytesSync(path: string): number;
  /** Of the whole file system that the path is on. */
  totalBytesSync?(path: string): number;
}

export interface SyncFile {
  /** Fewer than the buffer holds only at the end of the file. */
  read(buffer: Uint8Array, position: number): number;
  /** All of it, or an error. */
  write(buffers: readonly Uint8Array[], position: number): void;
  datasync(): void;
  truncate(sizeBytes: number): void;
  size(): number;
  close(): void;
}

export interface AsyncFile {
  read(buffer: Uint8Array, position: number): Promise<number>;
  write(buffers: readonly Uint8Array[], position: number): Promise<void>;
  /** As `read` and `write`, without a way through the thread pool: for what is short and in memory. */
  readSync(buffer: Uint8Array, position: number): number;
  writeSync(buffers: readonly Uint8Array[], position: number): void;
  datasync(): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  size(): Promise<number>;
  close(): Promise<void>;
}
