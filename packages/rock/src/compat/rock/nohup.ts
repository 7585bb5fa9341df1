/**
 * The nohup protocol of ROCK's SDK, recognised by its texts. The SDK starts a program in the background of a session, asks again and
 * again whether its process still lives, then reads its output file, and calls whatever happened a success. The server knows better:
 * it is the server's session that holds the exit code. Pure; `nohup-jobs.ts` does what follows from it.
 */

export interface NohupSubmission {
  /** What the caller wanted to run. */
  readonly command: string;
  readonly outputFile: string;
  /** What is run instead: the same, but the shell remembers the exit code. */
  readonly rewritten: string;
}

const SUBMISSION = /^nohup ([\s\S]+) < \/dev\/null > ([^\n]+?) 2>&1 & echo PIDSTART\$\{!\}PIDEND; ?disown$/;

/** A disowned job is forgotten with its exit code; one disowned with -h only outlives its shell. */
export function parseSubmission(text: string): NohupSubmission | undefined {
  const match = SUBMISSION.exec(text.trim());
  if (!match) return undefined;
  const rewritten = `${text.trim().replace(/; ?disown$/, "")}; disown -h $! 2>/dev/null; true`;
  return { command: match[1]!, outputFile: match[2]!, rewritten };
}

/** The process of a submission, from the output of the session. */
export function parsePid(output: string): number | undefined {
  const match = /PIDSTART(\d+)PIDEND/.exec(output);
  return match ? Number(match[1]) : undefined;
}

export type NohupQuestion =
  | { readonly type: "alive"; readonly pid: number }
  | { readonly type: "output"; readonly file: string }
  | { readonly type: "size"; readonly file: string };

/** What the SDK asks about a job, or undefined for a command like any other. */
export function parseQuestion(text: string): NohupQuestion | undefined {
  const alive = /^kill -0 (\d+)$/.exec(text);
  if (alive) return { type: "alive", pid: Number(alive[1]) };
  const output = /^(?:cat|head -c \d+) ([^\n;|&]+)$/.exec(text);
  if (output) return { type: "output", file: output[1]! };
  const size = /^stat -c %s (\S+) 2>\/dev\/null \|\| stat -f %z \1$/.exec(text);
  if (size) return { type: "size", file: size[1]! };
  return undefined;
}
