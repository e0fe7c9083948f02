/** The S3 face as clients see it that no one here wrote: AWS's in two ages, its SDKs, s3cmd and rclone. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { startTestServer, type TestServer } from "@skep/s3/testing";

const run = promisify(execFile);
/** The distribution's, and a newer one that sends checksums in trailers, where there is one. */
const awsCommands = ["/usr/bin/aws", join(homedir(), ".pyenv/shims/aws")].filter((path) => existsSync(path));
const large = randomBytes(17 * 1024 ** 2 + 123);
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

let server: TestServer;
let directory: string;
let environment: NodeJS.ProcessEnv;

before(async () => {
  server = await startTestServer();
  directory = await mkdtemp(join(tmpdir(), "skep-s3-clients-"));
  const { accessKeyId, secret } = server.main;
  environment = {
    PATH: process.env.PATH,
    HOME: directory,
    PYENV_ROOT: join(homedir(), ".pyenv"),
    LC_ALL: "C.UTF-8",
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secret,
    AWS_DEFAULT_REGION: "us-east-1",
    AWS_EC2_METADATA_DISABLED: "true",
    AWS_MAX_ATTEMPTS: "1",
  };
  await mkdir(join(directory, "tree/sub dir"), { recursive: true });
  await mkdir(join(directory, ".aws"));
  await writeFile(join(directory, ".aws/config"), "[profile v4]\ns3 =\n  signature_version = s3v4\n");
  await writeFile(join(directory, "large"), large);
  await writeFile(join(directory, "tree/one.txt"), "one");
  await writeFile(join(directory, "tree/sub dir/zwei & ☃.html"), "<p>zwei");
  await writeFile(join(directory, "tree/empty"), "");
});

after(async () => {
  await server[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

async function call(command: string, args: string[], more: NodeJS.ProcessEnv = {}): Promise<string> {
  const { stdout } = await run(command, args, {
    cwd: directory,
    env: { ...environment, ...more },
    maxBuffer: 16 * 1024 ** 2,
    timeout: 60_000,
  });
  return stdout;
}

async function sameTree(copy: string): Promise<void> {
  for (const path of ["one.txt", "sub dir/zwei & ☃.html", "empty"]) {
    assert.deepEqual(
      await readFile(join(directory, copy, path)),
      await readFile(join(directory, "tree", path)),
      path,
    );
  }
}

describe("S3 clients", () => {
  for (const [at, aws] of awsCommands.entries()) {
    it(`${aws}: directories, large files, presigned links`, async () => {
      const bucket = `aws-${at}`;
      const s3 = (...args: string[]) => call(aws, ["--endpoint-url", server.url, "s3", ...args]);
      await s3("mb", `s3://${bucket}`);
      await s3("sync", "tree", `s3://${bucket}/tree`);
      await s3("cp", "large", `s3://${bucket}/large`);
      await s3("cp", "--recursive", `s3://${bucket}`, `aws-${at}`);
      await sameTree(`aws-${at}/tree`);
      assert.equal(sha256(await readFile(join(directory, `aws-${at}/large`))), sha256(large));
      const { etag } = await server.store.head(bucket, "large");
      assert.match(etag, /^[0-9a-f]{32}-\d$/, "it went up in parts");
      // Without being told, some sign links by version 2 in this region.
      for (const profile of [{}, { AWS_PROFILE: "v4" }]) {
        const command = ["--endpoint-url", server.url, "s3", "presign", `s3://${bucket}/tree/one.txt`];
        const presigned = (await call(aws, command, profile)).trim();
        if ("AWS_PROFILE" in profile) assert.match(presigned, /X-Amz-Signature=/);
        assert.equal(await (await fetch(presigned)).text(), "one");
        assert.equal((await fetch(presigned.replace(/one/, "two"))).status, 403);
      }
      await assert.rejects(s3("cp", `s3://${bucket}/none`, "none"), /Key "none" does not exist/);
      await s3("rb", "--force", `s3://${bucket}`);
    });
  }

  it("boto3: links as it makes them without being told", async () => {
    const script = `
import boto3, sys
from urllib.request import Request, urlopen
c = boto3.client("s3", endpoint_url=sys.argv[1])
c.create_bucket(Bucket="boto-links")
put = c.generate_presigned_url("put_object", Params={"Bucket": "boto-links", "Key": "a b/ü", "ACL": "public-read", "ContentType": "text/x"})
assert "AWSAccessKeyId=" in put, put
urlopen(Request(put, data=b"data", method="PUT", headers={"Content-Type": "text/x"}))
assert urlopen(sys.argv[1] + "/boto-links/a%20b/%C3%BC").headers["content-type"] == "text/x"
get = c.generate_presigned_url("get_object", Params={"Bucket": "boto-links", "Key": "a b/ü", "ResponseContentDisposition": 'attachment; filename="x y"'})
got = urlopen(get)
assert got.read() == b"data" and got.headers["content-disposition"] == 'attachment; filename="x y"'
c.delete_object(Bucket="boto-links", Key="a b/ü")
c.delete_bucket(Bucket="boto-links")
print("well")
`;
    assert.equal(await call("/usr/bin/python3", ["-c", script, server.url]), "well\n");
  });

  it("boto3: checksums, metadata, versions, pages", async () => {
    const script = `
import boto3, io, json, os, sys
from botocore.config import Config
c = boto3.client("s3", endpoint_url=sys.argv[1], config=Config(signature_version="s3v4", retries={"max_attempts": 0}))
c.create_bucket(Bucket="boto")
c.put_object(Bucket="boto", Key="k", Body=b"data", Metadata={"a": "b"}, ContentType="text/x", ChecksumAlgorithm="SHA256")
got = c.get_object(Bucket="boto", Key="k", ChecksumMode="ENABLED")
assert got["Body"].read() == b"data" and got["Metadata"] == {"a": "b"} and got["ContentType"] == "text/x"
assert got["ChecksumSHA256"] == "Om6weQ85rIfJTzhWst0sXREOaBFgImGpqSPTuyOtyLc="
c.upload_fileobj(open("large", "rb"), "boto", "large")
out = io.BytesIO(); c.download_fileobj("boto", "large", out)
assert out.getvalue() == open("large", "rb").read()
c.put_bucket_versioning(Bucket="boto", VersioningConfiguration={"Status": "Enabled"})
ids = [c.put_object(Bucket="boto", Key="v", Body=b"%d" % n)["VersionId"] for n in range(3)]
marker = c.delete_object(Bucket="boto", Key="v")
assert marker["DeleteMarker"] and c.get_object(Bucket="boto", Key="v", VersionId=ids[0])["Body"].read() == b"0"
listed = c.list_object_versions(Bucket="boto", Prefix="v")
assert [v["VersionId"] for v in listed["Versions"]] == ids[::-1] and len(listed["DeleteMarkers"]) == 1
c.delete_object(Bucket="boto", Key="v", VersionId=marker["VersionId"])
assert c.get_object(Bucket="boto", Key="v")["Body"].read() == b"2"
for n in range(25): c.put_object(Bucket="boto", Key="page/%02d" % n, Body=b"")
pages = list(c.get_paginator("list_objects_v2").paginate(Bucket="boto", Prefix="page/", PaginationConfig={"PageSize": 7}))
assert [len(p["Contents"]) for p in pages] == [7, 7, 7, 4]
everything = c.list_object_versions(Bucket="boto")["Versions"]
done = c.delete_objects(Bucket="boto", Delete={"Objects": [{"Key": v["Key"], "VersionId": v["VersionId"]} for v in everything]})
assert "Errors" not in done
c.delete_bucket(Bucket="boto")
print("well")
`;
    assert.equal(await call("/usr/bin/python3", ["-c", script, server.url]), "well\n");
  });

  it("s3cmd: put, get, sync, multipart, copy, remove", async () => {
    await writeFile(
      join(directory, ".s3cfg"),
      `[default]\naccess_key = ${server.main.accessKeyId}\nsecret_key = ${server.main.secret}\nhost_base = 127.0.0.1:${server.port}\nhost_bucket = 127.0.0.1:${server.port}\nuse_https = False\nmultipart_chunk_size_mb = 5\n`,
    );
    const s3cmd = (...args: string[]) => call("s3cmd", ["-q", ...args]);
    await s3cmd("mb", "s3://s3cmd");
    await s3cmd("put", "large", "s3://s3cmd/large");
    await s3cmd("cp", "s3://s3cmd/large", "s3://s3cmd/copy");
    await s3cmd("get", "s3://s3cmd/copy", "s3cmd-copy");
    assert.equal(sha256(await readFile(join(directory, "s3cmd-copy"))), sha256(large));
    await s3cmd("sync", "tree/", "s3://s3cmd/tree/");
    await s3cmd("sync", "s3://s3cmd/tree/", "s3cmd-tree/");
    await sameTree("s3cmd-tree");
    assert.match(
      await call("s3cmd", ["ls", "s3://s3cmd"]),
      /DIR +s3:\/\/s3cmd\/tree\/\n[\s\S]*s3:\/\/s3cmd\/copy/,
    );
    await s3cmd("rb", "--recursive", "s3://s3cmd");
  });

  it("rclone: sync, check, change, check", async () => {
    const remote = {
      RCLONE_CONFIG_SKEP_TYPE: "s3",
      RCLONE_CONFIG_SKEP_PROVIDER: "Other",
      RCLONE_CONFIG_SKEP_ENV_AUTH: "true",
      RCLONE_CONFIG_SKEP_ENDPOINT: server.url,
      RCLONE_RETRIES: "1",
    };
    const rclone = (...args: string[]) => call("rclone", args, remote);
    await rclone("sync", "tree", "skep:rclone/tree");
    await rclone("copyto", "large", "skep:rclone/large");
    await rclone("check", "--download", "tree", "skep:rclone/tree");
    await sameTree("tree");
    await writeFile(join(directory, "tree/one.txt"), "one more");
    await assert.rejects(rclone("check", "tree", "skep:rclone/tree"), /differences found/);
    await rclone("sync", "tree", "skep:rclone/tree");
    await rclone("check", "tree", "skep:rclone/tree");
    await rclone("sync", "skep:rclone/tree", "rclone-tree");
    await sameTree("rclone-tree");
    assert.match(await rclone("lsjson", "skep:rclone"), /"Name":"large"[\s\S]*17825915/);
    await rclone("purge", "skep:rclone");
  });
});
