import { openEngines } from "./engines.ts";
import { serve } from "./serve.ts";

await serve(process.argv.slice(2), openEngines);
