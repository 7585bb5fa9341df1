import type { Readable } from "node:stream";
import { styleText } from "node:util";
import type { Out } from "./out.ts";
import { createProgress, type Progress } from "./progress.ts";

/**
 * What a command says and where it goes. People read stdout; machines read the last line of stdout under --json, where
 * everything meant for people goes to stderr instead.
 */
export interface Io {
  /** Where a person types; undefined where nobody does. */
  readonly terminal: In | undefined;
  /** $ALE_HOME, absolute. */
  readonly home: string;
  readonly json: boolean;
  readonly yes: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Columns of the terminal, 100 where there is none. */
  readonly width: number;
  /** Columns of the terminal on which people read lines; undefined where they go to a file or a pipe. */
  readonly columns: number | undefined;
  readonly progress: Progress;
  /** Adds colour where a person looks at a terminal; otherwise returns the text as it is. */
  paint(style: Style, text: string): string;
  /** A line for people. */
  print(line: string): void;
  /** A line about the work rather than its outcome: stderr always. */
  note(line: string): void;
  /** One of many of the same kind, as they come, for machines: a line of JSON under --json before the last one, nothing otherwise. */
  row(value: object): void;
  /**
   * The outcome for machines: one line of JSON under --json, nothing otherwise. Called at most once. `ok` is true unless the command
   * says otherwise.
   */
  result(value: object): void;
}

/** process.stdin, or a stream in a test. */
export type In = Readable & { readonly isTTY?: boolean | undefined };

export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "blue" | "cyan" | "magenta";

export interface IoOptions {
  readonly home: string;
  readonly json: boolean;
  readonly yes: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: Out;
  readonly stderr: Out;
  readonly stdin?: In | undefined;
}

export function createIo(options: IoOptions): Io {
  const { home, json, yes, env, stdout, stderr, stdin } = options;
  const people = json ? stderr : stdout;
  const colour =
    env.FORCE_COLOR !== undefined && env.FORCE_COLOR !== "0"
      ? true
      : people.isTTY === true && env.NO_COLOR === undefined && env.TERM !== "dumb";
  const progress = createProgress(stderr);
  const line = (out: Out, text: string): void => {
    progress.clear();
    out.write(`${text}\n`);
  };
  return {
    // A question that nobody sees is not asked: stderr is where it stands.
    terminal: stdin?.isTTY === true && stderr.isTTY === true ? stdin : undefined,
    home,
    json,
    yes,
    env,
    width: people.columns ?? 100,
    columns: people.isTTY === true ? (people.columns ?? 80) : undefined,
    progress,
    paint: (style, text) => (colour ? styleText(style, text, { validateStream: false }) : text),
    print: (text) => line(people, text),
    note: (text) => line(stderr, text),
    row: (value) => {
      if (json) line(stdout, JSON.stringify(value));
    },
    result: (value) => {
      if (json) line(stdout, JSON.stringify({ ok: true, ...value }));
    },
  };
}
