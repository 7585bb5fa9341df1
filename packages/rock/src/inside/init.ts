import { readFileSync } from "node:fs";
import { join } from "node:path";
import { syscallNumbers } from "../host/syscalls.ts";

/** What the driver tells PID 1 about itself and the machine. */

let program: string | undefined;
let script: string | undefined;

/** In the order in which they are joined. */
const PARTS = ["base", "streams", "processes", "programs", "shells", "links", "main"] as const;

const besideThis = (name: string): string => readFileSync(join(import.meta.dirname, name), "utf8");

/** The argument vector of PID 1. The program travels in it, so that an image needs nothing of ours. */
export function initArgv(): string[] {
  program ??= PARTS.map((part) => besideThis(join("init", `${part}.pl`)))
    .join("\n")
    .split("\n")
    .filter((line) => !/^\s*(#|$)/.test(line))
    .join("\n");
  return ["/usr/bin/perl", "-e", program];
}

/** The fields of the first frame. */
export function startFields(): string[] {
  script ??= besideThis("session.sh");
  return [syscallNumbers(), script];
}
