import { readFileSync } from "node:fs";
import { join } from "node:path";
import { syscallNumbers } from "../host/syscalls.ts";

/** What the driver tells PID 1 about itself and the machine. */

let script: string | undefined;
let starter: string | undefined;

/** In the order in which they are joined. */
const PARTS = ["base", "streams", "processes", "programs", "shells", "links", "main"] as const;
const programs = new Map<string, string>();

const besideThis = (name: string): string => readFileSync(join(import.meta.dirname, name), "utf8");

/** The argument vector of a PID 1 that takes its program with the first request. `perl`: how to begin it there. */
export function starterArgv(perl: readonly string[]): string[] {
  starter ??= withoutComments(besideThis(join("init", "starter.pl")));
  return [...perl, "-e", starter];
}

/** What it is then given. */
export const initProgram = (): string => initArgv().at(-1)!;

/**
 * The argument vector of a PID 1 that is whole from the beginning. The program travels in it, so that an image needs nothing of ours. `more`: a driver's own part, joined
 * before the last one. `perl`: how to begin it there.
 */
export function initArgv(more = "", perl: readonly string[] = ["/usr/bin/perl"]): string[] {
  const known = programs.get(more);
  const program = known ?? joined(more);
  if (known === undefined) programs.set(more, program);
  return [...perl, "-e", program];
}

function joined(more: string): string {
  const parts = PARTS.map((part) => besideThis(join("init", `${part}.pl`)));
  return withoutComments([...parts.slice(0, -1), more, ...parts.slice(-1)].join("\n"));
}

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
