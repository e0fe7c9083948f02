import { Argument, type Command } from "commander";
import { action } from "../context.ts";

export function define(command: Command): void {
  command
    .summary("print a completion script for bash, zsh or fish")
    .description(
      "Prints a completion script, made from the commands themselves. It also completes the names of machines.",
    )
    .addArgument(new Argument("<shell>", "your shell").choices(["bash", "zsh", "fish"]))
    .addHelpText(
      "after",
      "\nExamples:\n  source <(skep completion bash)\n  skep completion fish > ~/.config/fish/completions/skep.fish",
    )
    .action(
      action(async (context, shell: "bash" | "zsh" | "fish") => {
        const [{ fullProgram }, scripts] = await Promise.all([
          import("../program.ts"),
          import("../completion.ts"),
        ]);
        const nodes = scripts.completionNodes(await fullProgram());
        const { bashScript, fishScript, zshScript } = scripts;
        context.print({ bash: bashScript, zsh: zshScript, fish: fishScript }[shell](nodes));
      }),
    );
}
