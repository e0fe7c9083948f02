import type { Argument, Command } from "commander";

/** What a shell can complete at one place of the tree. */
export interface CompletionNode {
  /** `` for skep itself, `image`, `image pull`. */
  path: string;
  summary: string;
  children: { name: string; summary: string }[];
  options: {
    flags: string[];
    summary: string;
    takesValue: boolean;
    values: "machines" | "images" | "volumes" | "buckets" | "files" | undefined;
  }[];
  argument: "machines" | "images" | "volumes" | "buckets" | "files" | undefined;
}

const kindOfArgument = (argument: Argument | undefined, path: string): CompletionNode["argument"] => {
  if (path === "vol snapshot") return "volumes"; // takes one, as `vol snapshot create`
  if (argument === undefined) return undefined;
  if (path.startsWith("image ")) return path === "image import" ? "files" : "images";
  if (path.startsWith("vol ")) return path === "vol import" ? "files" : "volumes";
  if (path === "cp" || path === "object put") return "files";
  if (path.startsWith("bucket") || path.startsWith("object"))
    return path === "bucket create" ? undefined : "buckets";
  if (path.startsWith("account") || path.startsWith("key")) return undefined;
  if (path.startsWith("token") || path.startsWith("jobs") || ["new", "login", "completion"].includes(path))
    return undefined;
  return /^names?$/.test(argument.name()) ? "machines" : undefined;
};

const kindOfOption = (long: string | undefined): CompletionNode["options"][number]["values"] => {
  if (long === "--image") return "images";
  if (long === "--from") return "machines";
  return [
    "--ca-bundle",
    "--file",
    "--cdrom",
    "--user-data",
    "--network-config",
    "--ssh-key",
    "--home",
  ].includes(long ?? "")
    ? "files"
    : undefined;
};

/** The command tree, flattened. */
export function completionNodes(program: Command): CompletionNode[] {
  const nodes: CompletionNode[] = [];
  const visit = (command: Command, path: string) => {
    nodes.push({
      path,
      summary: command.summary() || command.description(),
      children: command.commands.map((child) => ({
        name: child.name(),
        summary: (child.summary() || child.description()).split("\n")[0]!,
      })),
      options: command.options
        .filter((option) => !option.hidden)
        .map((option) => ({
          flags: [option.short, option.long].filter(
            (flag) => flag !== undefined && flag !== null,
          ) as string[],
          summary: option.description,
          takesValue: option.required || option.optional,
          values: kindOfOption(option.long),
        })),
      argument: kindOfArgument(command.registeredArguments[0], path),
    });
    for (const child of command.commands) visit(child, `${path} ${child.name()}`.trim());
  };
  visit(program, "");
  return nodes;
}

/** Single-quoted for any of the three shells. */
const quote = (text: string) => `'${text.replaceAll("'", "’")}'`;

export function bashScript(nodes: readonly CompletionNode[]): string {
  const cases = nodes.map((node) => {
    const words = [
      ...node.children.map((child) => child.name),
      ...node.options.flatMap((option) => option.flags),
    ];
    return `    ${quote(node.path)}) words=${quote(words.join(" "))}; kind=${node.argument ?? "none"} ;;`;
  });
  const groups = nodes
    .filter((node) => node.path !== "" && node.children.length > 0)
    .map((node) => quote(node.path));
  const valued = new Map<string, string>();
  for (const option of nodes.flatMap((node) => node.options)) {
    if (!option.takesValue) continue;
    for (const flag of option.flags) valued.set(flag, option.values ?? "none");
  }
  const kinds = ["machines", "images", "volumes", "buckets", "files", "none"].map((kind) => {
    const flags = [...valued].filter(([, value]) => value === kind).map(([flag]) => flag);
    return flags.length === 0 ? "" : `    ${flags.join("|")}) echo ${kind} ;;`;
  });
  return `# bash completion for skep:  source <(skep completion bash)
_skep_option() {
  case "$1" in
${kinds.filter((line) => line !== "").join("\n")}
  esac
}

_skep() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous= path= words= kind=none word= skip=0 index
  COMPREPLY=()
  [ "$COMP_CWORD" -gt 0 ] && previous=\${COMP_WORDS[COMP_CWORD-1]}
  for ((index = 1; index < COMP_CWORD; index++)); do
    word=\${COMP_WORDS[index]}
    if [ "$skip" = 1 ]; then skip=0; continue; fi
    case "$word" in
      --) return ;;
      -*) [ -n "$(_skep_option "$word")" ] && skip=1 ;;
      *)
        case "$path" in
          '') path=$word ;;
          ${groups.join("|") || "''"}) path="$path $word" ;;
        esac ;;
    esac
  done
  case "$path" in
${cases.join("\n")}
    *) return ;;
  esac
  local of_option; of_option=$(_skep_option "$previous")
  if [ -n "$of_option" ]; then words=; kind=$of_option; fi
  case "$kind" in
    machines|images|volumes|buckets) [ "\${current#-}" = "$current" ] && words="$words $(skep __complete "$kind" 2>/dev/null)" ;;
    files) COMPREPLY=($(compgen -f -- "$current")) ;;
  esac
  COMPREPLY+=($(compgen -W "$words" -- "$current"))
}
complete -o bashdefault -F _skep skep
`;
}

export function zshScript(nodes: readonly CompletionNode[]): string {
  return `#compdef skep
# zsh completion for skep:  skep completion zsh > "\${fpath[1]}/_skep"
autoload -U +X bashcompinit && bashcompinit
${bashScript(nodes).split("\n").slice(1).join("\n")}`;
}

export function fishScript(nodes: readonly CompletionNode[]): string {
  const lines = [
    "# fish completion for skep:  skep completion fish > ~/.config/fish/completions/skep.fish",
    "complete -c skep -f",
    "function __skep_names; skep __complete $argv 2>/dev/null; end",
  ];
  for (const node of nodes) {
    const [verb, child] = node.path.split(" ");
    const where =
      verb === ""
        ? "__fish_use_subcommand"
        : child === undefined
          ? `__fish_seen_subcommand_from ${verb}`
          : `__fish_seen_subcommand_from ${verb}; and __fish_seen_subcommand_from ${child}`;
    const condition = `-n ${quote(where)}`;
    for (const item of node.children)
      lines.push(`complete -c skep ${condition} -a ${item.name} -d ${quote(item.summary)}`);
    for (const option of node.options) {
      const flags = option.flags.map((flag) =>
        flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`,
      );
      const values =
        option.values === "files"
          ? " -r -F"
          : option.values !== undefined
            ? ` -x -a '(__skep_names ${option.values})'`
            : option.takesValue
              ? " -x"
              : "";
      lines.push(`complete -c skep ${condition} ${flags.join(" ")}${values} -d ${quote(option.summary)}`);
    }
    if (node.argument === "files") lines.push(`complete -c skep ${condition} -F`);
    else if (node.argument !== undefined)
      lines.push(`complete -c skep ${condition} -a '(__skep_names ${node.argument})'`);
  }
  return `${lines.join("\n")}\n`;
}
