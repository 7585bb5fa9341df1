import { dirname } from "node:path/posix";
import { ARGUMENT_BYTES, type CommandLine, commandLine } from "./command-line.ts";

/** What the kernel writes down of a process that has become another program, as bytes and as what they mean. */

/** Room for a path, and for the last name in it. */
export const PATH_BYTES = 1024;
export const NAME_BYTES = 256;
/** In place of a length: it could not be read. */
export const FAILED = -1;

const HEADER_BYTES = 40;
/** Places in a record: a time of CLOCK_MONOTONIC, thread and process on the host, and so on. */
export const AT = {
  ns: 0,
  task: 8,
  level: 16,
  innerPid: 20,
  uid: 24,
  given: 28,
  kept: 32,
  names: 36,
  arguments: HEADER_BYTES,
  path: HEADER_BYTES + ARGUMENT_BYTES,
} as const;
export const RECORD_BYTES = AT.path + PATH_BYTES + NAME_BYTES;

/** What a process was the moment it became another program. */
export interface ExecFacts {
  readonly ns: number;
  readonly task: number;
  /** How many PID namespaces it is in, below the host's; 0: it has no number but the host's, and is in no sandbox. */
  readonly level: number;
  /** Its number in its own namespace. */
  readonly innerPid: number;
  readonly uid: number;
  /** Undefined where the arguments could not be read. */
  readonly command: CommandLine | undefined;
  /** Of a relative name the working directory, of an open descriptor its file; undefined of another, and where it could not be read. */
  readonly path: string | undefined;
}

/** The record is not kept. */
export function decodeExec(record: Buffer): ExecFacts {
  const [given, kept] = [record.readUInt32LE(AT.given), record.readInt32LE(AT.kept)];
  const names = record.readInt32LE(AT.names);
  return {
    ns: record.readUInt32LE(AT.ns + 4) * 2 ** 32 + record.readUInt32LE(AT.ns),
    task: record.readInt32LE(AT.task),
    level: record.readUInt32LE(AT.level),
    innerPid: record.readInt32LE(AT.innerPid),
    uid: record.readUInt32LE(AT.uid),
    command:
      kept <= 0 ? undefined : commandLine(record.subarray(AT.arguments, AT.arguments + kept), given > kept),
    path: names <= 0 ? undefined : pathIn(record.subarray(AT.path, AT.path + names)),
  };
}

/** Names with a zero after each, the last of the path first. A name may hold anything (`memfd:../../bin/ls`): nothing is resolved. */
const pathIn = (names: Buffer): string =>
  names
    .toString("utf8")
    .replace(/\0$/, "")
    .split("\0")
    .reverse()
    .map((name) => `/${name}`)
    .join("");

/**
 * Where that lies which the kernel names `path`: that itself, or what the facts say of it (`where`). Undefined where they do not. Only what stands
 * before the first name is resolved: behind that there may be links.
 */
export function executableOf(path: string, where: string | undefined): string | undefined {
  if (isPlain(path)) return path;
  if (where === undefined || path.startsWith("/")) return where;
  let [directory, rest] = [where, path];
  for (;;) {
    const [, dots, more] = /^(\.\.?)\/+(.*)$/s.exec(rest) ?? [];
    if (dots === undefined || more === undefined) return `${directory === "/" ? "" : directory}/${rest}`;
    if (dots === "..") directory = dirname(directory);
    rest = more;
  }
}

/** It says by itself what is executed: neither by a descriptor nor by a name that depends on the working directory. */
const isPlain = (path: string): boolean => path.startsWith("/") && !/^\/(proc\/|dev\/(fd|std))/.test(path);
