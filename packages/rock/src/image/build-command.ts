import { PROXY_ARGS, type StageState, wrong } from "./build-stage.ts";
import type { Instruction } from "./dockerfile.ts";

/** What a RUN starts: the shell with a text, a program with its arguments, or a script of a here-document. */

/** The program of a RUN, and how it is shown. */
export function commandOf(
  state: StageState,
  { json, text, heredocs }: Instruction,
): { argv: string[]; text: string } {
  if (json !== undefined) return { argv: [...json], text };
  if (text === "") throw wrong("RUN needs a command");
  if (heredocs.length === 0) return { argv: [...state.shell, text], text };
  const [first] = heredocs;
  // The document alone is the program; a first line #! says of which interpreter.
  if (heredocs.length === 1 && /^<<-?\S+$/.test(text)) {
    const shebang = /^#!\s*(\S+)(?:[ \t]+(.*\S))?[ \t]*\n/.exec(first!.content);
    if (shebang === null) return { argv: [...state.shell, first!.content], text };
    const option = shebang[2] === undefined ? [] : [shebang[2]];
    return { argv: withScript(shebang[1]!, option, first!.content), text };
  }
  const documents = heredocs.map(({ name, content }) => `${content}${name}\n`).join("");
  return { argv: [...state.shell, `${text}\n${documents}`], text };
}

/** The interpreter reads the script from a file that is gone when the step ends. */
function withScript(interpreter: string, option: readonly string[], script: string): string[] {
  const run = `file=/dev/shm/.run.$$; printf %s "$1" > "$file"; shift; "$@" "$file"; status=$?; rm -f "$file"; exit $status`;
  return ["/bin/sh", "-c", run, "run", script, interpreter, ...option];
}

/** Those of this machine, and those that were given. */
export function proxies(args: Readonly<Record<string, string>>): Record<string, string> {
  const found = PROXY_ARGS.flatMap((name) => {
    const value = args[name] ?? process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return Object.fromEntries(found);
}
