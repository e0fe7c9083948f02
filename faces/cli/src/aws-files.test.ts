import assert from "node:assert/strict";
import { chmod, mkdtemp, readFile, readlink, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { awsPaths, chosenProfile, readProfile, settingsOf, withSettings, writeProfile } from "./aws-files.ts";

const file = `# my keys
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key=de/fault= ; not a comment

[profile  "hive"]   # quoted
region = eu-central-1
s3 =
    max_concurrent_requests = 2
    addressing_style = path
output=json

# about the next one
[other]
role_arn = arn:aws:iam::1:role/x
`;

test("a profile is replaced where it stands, and all else stays", () => {
  const text = withSettings(file, "profile hive", { region: "us-east-1", endpoint_url: "https://h:1" });
  assert.equal(
    text,
    file
      .replace("region = eu-central-1", "region = us-east-1")
      .replace("output=json\n", "output=json\nendpoint_url = https://h:1\n"),
  );
  assert.equal(withSettings(text, "profile hive", { region: "us-east-1" }), text);
});

test("a setting goes with what is nested in it", () => {
  const text = withSettings(file, "profile hive", { s3: undefined });
  assert.equal(text, file.replace(/s3 =\n.*\n.*\n/, ""));
});

test("a new profile stands at the end, after a line without an end, too", () => {
  assert.equal(withSettings("", "skep", { a: "1" }), "[skep]\na = 1\n");
  assert.equal(withSettings("[x]\nb = 2", "skep", { a: "1" }), "[x]\nb = 2\n\n[skep]\na = 1\n");
  assert.equal(withSettings("[x]\r\nb = 2\r\n", "x", { b: "3" }), "[x]\r\nb = 3\r\n");
  assert.equal(withSettings(`${file}\n\n`, "skep", { a: "1" }), `${file}\n\n[skep]\na = 1\n`);
});

test("a setting that stands twice is left once, and an empty profile takes settings before what follows", () => {
  assert.equal(withSettings("[x]\na=1\na=2\n", "x", { a: "3" }), "[x]\na = 3\n");
  assert.equal(withSettings("[x]\n\n[y]\n", "x", { a: "1" }), "[x]\na = 1\n\n[y]\n");
  assert.deepEqual(settingsOf(file, "default"), {
    aws_access_key_id: "AKIADEFAULT",
    aws_secret_access_key: "de/fault= ; not a comment",
  });
  assert.deepEqual(settingsOf(file, "nobody"), {});
});

test("credentials become 0600, a link stays a link, and another file's mode is kept", async () => {
  const directory = await mkdtemp(join(tmpdir(), "sk-"));
  try {
    const real = join(directory, "dotfiles-credentials");
    await writeFile(real, "[work]\naws_access_key_id = W\n");
    await chmod(real, 0o644);
    const paths = {
      credentials: join(directory, ".aws/credentials"),
      config: join(directory, ".aws/config"),
    };
    await writeProfile(paths, "config", "hive", { region: "r" });
    assert.equal((await stat(paths.config)).mode & 0o777, 0o600);
    await chmod(paths.config, 0o644);
    await symlink(real, paths.credentials);
    await writeProfile(paths, "credentials", "hive", { aws_access_key_id: "H" });
    await writeProfile(paths, "config", "hive", { region: "s" });
    assert.equal(await readlink(paths.credentials), real);
    assert.equal((await stat(real)).mode & 0o777, 0o600);
    assert.equal((await stat(paths.config)).mode & 0o777, 0o644);
    assert.match(
      await readFile(real, "utf8"),
      /^\[work\]\naws_access_key_id = W\n\n\[hive\]\naws_access_key_id = H\n$/,
    );
    assert.deepEqual(await readProfile(paths, "config", "hive"), { region: "s" });
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("the files and the profile are those that the environment names", () => {
  const environment = { AWS_SHARED_CREDENTIALS_FILE: "/x/c", AWS_CONFIG_FILE: "~/conf", HOME: "/h" };
  assert.equal(awsPaths(environment).credentials, "/x/c");
  assert.match(awsPaths(environment).config, /\/conf$/);
  assert.equal(chosenProfile(undefined, {}), "skep");
  assert.equal(chosenProfile(undefined, { AWS_PROFILE: "p" }), "p");
  for (const name of ["", "a b", "a]", "a\nb", "x".repeat(65)]) {
    assert.throws(() => chosenProfile(name, {}), { code: "USAGE" }, name);
  }
});
