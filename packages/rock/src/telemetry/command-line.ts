import type { TelemetryProcess } from "@ale/core";

/** What a process was started with, in one line: arguments with a blank between them. */

export interface CommandLine {
  readonly text: string;
  /** There was more than is kept. */
  readonly cut: boolean;
}

/** What is kept of a program's arguments. */
export const ARGUMENT_BYTES = 4096;

/** `bytes`: arguments with a zero after each, or their beginning. Undefined where there is nothing to be seen. */
export function commandLine(bytes: Buffer, cut: boolean): CommandLine | undefined {
  const text = bytes.toString("utf8").replaceAll("\0", " ").trim();
  return text === "" ? undefined : { text, cut };
}

/** An ancestor's is there to recognise it; there may be sixteen of them. */
const ANCESTOR_CHARACTERS = 400;
export const ancestorText = (line: CommandLine | undefined): string | undefined =>
  line?.text.slice(0, ANCESTOR_CHARACTERS);

/** How a record says it. Of a program of which no more than its path is known, that is said. */
export function commandFields(
  line: CommandLine | undefined,
  exe: string | undefined,
): Pick<TelemetryProcess, "command" | "arguments"> {
  if (line === undefined) return { ...(exe === undefined ? {} : { command: exe }), arguments: "unknown" };
  return { command: line.text, ...(line.cut ? { arguments: "cut" } : {}) };
}

export function commandLineOf(process: TelemetryProcess | undefined): CommandLine | undefined {
  const { command = "", arguments: lacking } = process ?? {};
  return command === "" || lacking === "unknown" ? undefined : { text: command, cut: lacking === "cut" };
}
