/**
 * Every text that a model reads and that no tool produced. A change here changes what policies were trained on: the golden
 * test names each of them, and the wording is kept to plain short words because nano models pay by the byte for others.
 */
export const texts = {
  /** Last line of a command's output when it failed. */
  exit: (code: number | null) => (code === null ? "killed" : `exit ${code}`),
  timeout: "timeout",
  done: "ok",
  submitted: "ok",
  malformed: (reason: string) => `error: ${reason}`,
  unknownTool: (name: string) => `error: unknown tool ${name}`,
  missingArgument: (name: string) => `error: no value for ${name}`,
  wrongArgument: (name: string) => `error: ${name} is not string`,
  unknownArguments: (names: readonly string[]) => `error: unknown argument ${names.join(" ")}`,
  noMatch: "error: no match",
  manyMatches: (count: number) => `error: ${count} matches`,
  emptyOld: "error: old is empty",
  notEditable: "error: file is too large or not text",
  /** Instead of a result, where guard ended the episode while the call ran. */
  stopped: "stopped",
  /** Stands where characters were cut out of an observation. */
  cut: (characters: number) => `\n[${characters} characters cut]\n`,
} as const;
