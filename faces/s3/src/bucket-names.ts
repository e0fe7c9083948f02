import { fail } from "./errors.ts";

const label = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?";
const pattern = new RegExp(`^${label}(?:\\.${label})*$`);
const address = /^\d+\.\d+\.\d+\.\d+$/;
/** Kept by AWS for access points and the like. */
const reserved = /^(?:xn--|sthree-|amzn-s3-demo-)|(?:-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)$/;

/** S3's rules for general purpose buckets: a name is a host name. */
export function isBucketName(name: string): boolean {
  return (
    name.length >= 3 && name.length <= 63 && pattern.test(name) && !address.test(name) && !reserved.test(name)
  );
}

export function checkBucketName(name: string): void {
  if (!isBucketName(name)) throw fail("InvalidBucketName", { BucketName: name });
}
