import { EmbeddedStore } from "@skep/objects";
import { serve } from "./serve.ts";

await serve(process.argv.slice(2), ({ directory, log }) =>
  EmbeddedStore.open({ directory, log: (message) => log.warn(message) }),
);
