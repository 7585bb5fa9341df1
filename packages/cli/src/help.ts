import { GLOBAL_OPTIONS, type Option, type Usage } from "./args.ts";
import type { Action, Command } from "./command.ts";

/** Help texts, all derived from the commands' declarations. */

const WIDTH = 100;

export function commandHelp(command: Command, { usage }: Action): string {
  const own = Object.keys(usage.options).length > 0;
  const positionals = usage.positionals === "" ? "" : ` ${usage.positionals}`;
  const options = own ? " [options]" : "";
  // What comes after another program's name is that program's.
  const order = usage.positionals.endsWith("COMMAND...") ? options + positionals : positionals + options;
  const parts = [`usage: ale ${command.name}${order}`, "", wrap(command.summary, "")];
  if (own) parts.push("", "options:", optionTable(usage.options));
  parts.push("", "every command:", optionTable(GLOBAL_OPTIONS));
  if (usage.notes !== undefined) parts.push("", usage.notes.trim());
  return `${parts.join("\n")}\n`;
}

export function groupHelp(group: string, commands: readonly Command[]): string {
  return `usage: ale ${group} COMMAND [options]\n\n${commandTable(commands)}\n\nMore: ale ${group} COMMAND --help\n`;
}

export function overview(commands: readonly Command[]): string {
  return [
    "ale: sandboxes, agent, learning and containment in one closed loop",
    "",
    "usage: ale COMMAND [options]",
    "",
    commandTable(folded(commands)),
    "",
    "every command:",
    optionTable(GLOBAL_OPTIONS),
    "",
    "More: ale COMMAND --help, docs/tutorial/first-loop.md, docs/reference/exit-codes.md",
    "",
  ].join("\n");
}

/** Groups with so many commands are one line of the overview; `ale GROUP` lists them. */
const LARGE_GROUP = 8;

function folded(commands: readonly Command[]): readonly Pick<Command, "name" | "summary">[] {
  const groupOf = (command: Command): string => command.name.split(" ")[0]!;
  const sizes = new Map<string, number>();
  for (const command of commands) sizes.set(groupOf(command), (sizes.get(groupOf(command)) ?? 0) + 1);
  const shown = new Set<string>();
  return commands.flatMap((command) => {
    const group = groupOf(command);
    if (sizes.get(group)! < LARGE_GROUP) return [command];
    if (shown.has(group)) return [];
    shown.add(group);
    return [
      { name: `${group} …`, summary: `${GROUPS[group] ?? "several commands"} (ale ${group} lists them)` },
    ];
  });
}

const GROUPS: Readonly<Record<string, string>> = {
  guard: "incidents: list, follow, hand over, verify; alarms from outside; rules; approvals",
  rock: "sandboxes: make them, run programs in them, copy, snapshot, fork; images; a server",
};

function commandTable(commands: readonly Pick<Command, "name" | "summary">[]): string {
  const width = Math.max(...commands.map((command) => command.name.length)) + 2;
  return commands
    .map((command) => `  ${command.name.padEnd(width)}${wrap(command.summary, " ".repeat(width + 2))}`)
    .join("\n");
}

function optionTable(options: Usage["options"]): string {
  const names = Object.entries(options).map(([name, option]): [string, Option] => [
    `${option.short === undefined ? "    " : `-${option.short}, `}--${name}${option.type === "string" ? ` ${option.value ?? "VALUE"}` : ""}`,
    option,
  ]);
  const width = Math.max(...names.map(([name]) => name.length)) + 2;
  return names
    .map(([name, option]) => `  ${name.padEnd(width)}${wrap(option.help, " ".repeat(width + 2))}`)
    .join("\n");
}

/** Breaks at spaces so that lines stay within WIDTH; the first line is expected to start after `indent` too. */
function wrap(text: string, indent: string): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && indent.length + line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line].join(`\n${indent}`);
}
