import { readFileSync } from "node:fs";
import { join } from "node:path";
import { initArgv } from "../inside/init.ts";

/** What PID 1 is given beyond its own program where its files cannot be reached from outside. */

/** Takes the program from stdin and becomes it. An argument would be listed, logged and committed by the engine, all of it each time. */
const STARTER =
  'sub __ale{my($l,$b)=(@_,"");while(length$b<$l){sysread(STDIN,$b,$l-length$b,length$b)||exit 1}$b}eval __ale(unpack"N",__ale(4));die$@';

let program: Buffer | undefined;

/** The argument vector of PID 1. `perl`: how to begin it there. */
export const starterArgv = (perl: readonly string[] = ["/usr/bin/perl"]): string[] => [
  ...perl,
  "-e",
  STARTER,
];

/** What is written to PID 1 before the first frame. */
export function programChunk(): Buffer {
  if (program === undefined) {
    const parts = ["files", "trees"].map((part) =>
      readFileSync(join(import.meta.dirname, "inside", `${part}.pl`), "utf8"),
    );
    const text = Buffer.from(initArgv(parts.join("\n")).at(-1) ?? "");
    program = Buffer.concat([Buffer.alloc(4), text]);
    program.writeUInt32BE(text.length);
  }
  return program;
}

/** Numbers of system calls and flags by machine, for a program that has no names for them. */
const NUMBERS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  x64: {
    O_DIRECTORY: 0o200000,
    O_NOFOLLOW: 0o400000,
    close: 3,
    close_range: 436,
    fchownat: 260,
    inotify_add_watch: 254,
    inotify_init1: 294,
    linkat: 265,
    openat2: 437,
    renameat2: 316,
    statx: 332,
  },
  arm64: {
    O_DIRECTORY: 0o040000,
    O_NOFOLLOW: 0o100000,
    close: 57,
    close_range: 436,
    fchownat: 54,
    inotify_add_watch: 27,
    inotify_init1: 26,
    linkat: 37,
    openat2: 437,
    renameat2: 276,
    statx: 291,
  },
};

/** The fields of `files-begin`. */
export const fileFields = (arch: string): (string | number)[] => Object.entries(NUMBERS[arch] ?? {}).flat();
