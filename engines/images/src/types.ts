import type { Arch } from "@skep/api/schemas";

/** An immutable base image as it lies in `$SKEP_HOME/images`. */
export interface StoredImage {
  name: string;
  /** `sha256:…` of the manifest, which names the digest of each file. */
  digest: string;
  arch: Arch;
  /** Holds all files below; files are 0444, so that a machine's own user can read them. */
  directory: string;
  /** Absent where the image is a kernel and an initramfs only (`tiny`). */
  disk: { path: string; format: "raw" | "qcow2"; virtualBytes: number } | null;
  /** With a kernel the machine boots directly, without a boot loader. */
  kernel: string | null;
  initramfs: string | null;
  /** What the kernel needs to find its root: `root=LABEL=skep-root ro`. Empty without a kernel. */
  kernelArguments: string;
  /** Who logs in; cloud-init's default user of the image. */
  user: string;
  /** False where no ssh server is inside (`tiny`): ready means that the agent answers. */
  ssh: boolean;
  source: string;
  createdAt: string;
  storedBytes: number;
}
