import { enableCompileCache } from "node:module";

enableCompileCache();

const { main } = await import("./run.ts");
const status = await main(process.argv.slice(2));
// What was printed must be out before the end; what is still open (standard input) must not delay it.
process.stdout.write("", () => process.stderr.write("", () => process.exit(status)));
