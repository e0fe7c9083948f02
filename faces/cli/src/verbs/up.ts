import type { Storage } from "@skep/api";
import type { Command } from "commander";
import { action } from "../context.ts";

interface Flags {
  listen?: string;
  http?: boolean;
  /** false: --no-domain */
  domain?: string | false;
  region?: string;
  accessLog?: boolean;
}

const onlyHere = /^https?:\/\/(?:127\.|localhost|\[::1\])/;

export function describe(storage: Storage): string {
  if (storage.endpoint === null) {
    return storage.problem === null
      ? "object storage is not served"
      : `object storage should be served, but: ${storage.problem}`;
  }
  const domain = storage.domain === null ? "" : `, buckets also as BUCKET.${storage.domain}`;
  return `object storage is served at ${storage.endpoint}${domain}`;
}

export function define(command: Command): void {
  command
    .summary("serve object storage (S3)")
    .description(
      "Serves object storage to S3 clients, now and after later starts, at https://127.0.0.1:8443 or where you say. What you do not give stays as it was.",
    )
    .option("--listen <address:port>", "where; 0.0.0.0:8443 is for everyone who reaches this host")
    .option("--http", "plain HTTP instead of TLS")
    .option("--no-http", "TLS again")
    .option("--domain <name>", "buckets also as BUCKET.NAME; the certificate covers them")
    .option("--no-domain", "without such names")
    .option("--region <name>", "the region that requests are signed for; at first us-east-1")
    .option("--access-log", "write a line a request (as it is without this option)")
    .option("--no-access-log", "write none")
    .addHelpText(
      "after",
      "\nExamples:\n  skep up\n  skep auth && aws --profile skep s3 mb s3://photos\n  skep up --listen 0.0.0.0:8443 --domain s3.example.org",
    )
    .action(
      action(async (context, flags: Flags) => {
        const { listen, http, domain, region, accessLog } = flags;
        const body = {
          ...(listen === undefined ? {} : { listen }),
          ...(http === undefined ? {} : { http }),
          ...(domain === undefined ? {} : { domain: domain === false ? null : domain }),
          ...(region === undefined ? {} : { region }),
          ...(accessLog === undefined ? {} : { accessLog }),
        };
        const client = await context.client();
        const storage = await client.call("storageUp", { body });
        if (context.options.json) return context.printJson(storage);
        if (context.options.quiet) return context.print(storage.endpoint ?? "");
        context.print(describe(storage));
        if (storage.http && storage.endpoint !== null && !onlyHere.test(storage.endpoint))
          context.note("without TLS others on the network can read along: skep up --no-http");
        const keys = await client.call("listKeys");
        if (keys.length === 0) context.note("make a key and a profile for AWS tools: skep auth");
      }),
    );
}
