import { readFileSync } from "node:fs";
import { join } from "node:path";
import { syscallNumbers } from "../host/syscalls.ts";

/** What the driver tells PID 1 about itself and the machine. */

let script: string | undefined;
let starter: string | undefined;

/** What a first program needs; `main` goes last, because it does not return. */
const FIRST = ["base", "streams", "processes", "programs"] as const;
const MAIN = "main";
/** Each for itself, for a PID 1 that compiles it when something of it is first asked for. */
const LATER = ["feeds", "requests", "terminals", "ending", "shells", "links"] as const;
const programs = new Map<string, string>();
let inParts: readonly string[] | undefined;

const besideThis = (name: string): string => readFileSync(join(import.meta.dirname, name), "utf8");

/**
 * The argument vector of a PID 1 that takes its program with the first request. `perl`: how to begin it there. `waiter`: what waits for
 * the request in its place, and has then said that it is there.
 */
export function starterArgv(perl: readonly string[], waiter: readonly string[]): string[] {
  starter ??= withoutComments(besideThis(join("init", "starter.pl")));
  const perlArgv = [...perl, "-e", starter];
  return waiter.length === 0 ? perlArgv : [...waiter, ...perlArgv, "waited"];
}

/** What it is then given: what it becomes, and what it may need later. */
export function initProgram(): readonly string[] {
  inParts ??= [joined([...FIRST, MAIN]), ...LATER.map((part) => joined([part]))];
  return inParts;
}

/**
 * The argument vector of a PID 1 that is whole from the beginning. The program travels in it, so that an image needs nothing of ours. `more`: a driver's own part, joined
 * before the last one. `perl`: how to begin it there.
 */
export function initArgv(more = "", perl: readonly string[] = ["/usr/bin/perl"]): string[] {
  const known = programs.get(more);
  const program = known ?? [joined([...FIRST, ...LATER]), withoutComments(more), joined([MAIN])].join("\n");
  if (known === undefined) programs.set(more, program);
  return [...perl, "-e", program];
}

const joined = (parts: readonly string[]): string =>
  withoutComments(parts.map((part) => besideThis(join("init", `${part}.pl`))).join("\n"));

function withoutComments(perl: string): string {
  return perl
    .split("\n")
    .filter((line) => !/^\s*(#|$)/.test(line))
    .join("\n");
}

/** The fields of the first frame. `arch`: of the machine that the sandbox runs on. `bash`: how to begin one where the image has none. */
export function startFields(arch: string = process.arch, bash: readonly string[] = []): string[] {
  script ??= besideThis("session.sh");
  return [syscallNumbers(arch), script, ...bash];
}
