import { type ErrorTable, errorsOf } from "@skep/base";

export const storagedErrors = {
  DOMAIN_INVALID: {
    message: '"{domain}" is not a domain under which buckets can have names: {why}',
    hint: "give a name with a dot whose DNS entry *.{domain} leads to this host, as s3.example.org",
    status: 400,
  },
} as const satisfies ErrorTable;

export const fail = errorsOf(storagedErrors);
