import { type ErrorTable, errorsOf } from "@skep/base";

export const storagedErrors = {
  DOMAIN_INVALID: {
    message: '"{domain}" is not a domain under which buckets can have names: {why}',
    hint: "give a name with a dot whose DNS entry *.{domain} leads to this host, as s3.example.org",
    status: 400,
  },
  REGION_INVALID: {
    message: '"{region}" is not a region',
    hint: "use 2 to 32 lower-case letters, digits and dashes, as us-east-1",
    status: 400,
  },
} as const satisfies ErrorTable;

export const fail = errorsOf(storagedErrors);
