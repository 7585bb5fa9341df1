import { createHash, type Hash } from "node:crypto";
import { UNREAD_ATIME_S } from "../files/tree.ts";
import type { Fingerprint } from "../port/sandbox.ts";
import type { Frame } from "./file-agent.ts";

/** What files.pl tells of paths, as fingerprints. */

/** What is known of a planted file's readers: its watch, where there is one. */
export type Planted = ReadonlyMap<string, number>;

interface Open {
  readonly name: string;
  readonly mode: number;
  readonly hash: Hash;
}

interface Seen {
  readonly type: string;
  readonly mode: number | null;
  readonly size: number | null;
  readonly readAtMs: number;
}

export async function fingerprintsOf(
  frames: AsyncIterable<Frame>,
  planted: Planted,
): Promise<readonly Fingerprint[]> {
  const prints: Fingerprint[] = [];
  const open: Open[] = [];
  let reads: ReadonlySet<number> | undefined;
  let path = "";
  let seen: Seen = { type: "not-found", mode: null, size: null, readAtMs: 0 };
  const finish = (sha256: string | null): void => {
    prints.push(printOf(path, seen, sha256, planted, reads));
  };
  for await (const [frame, ...fields] of frames) {
    const [first] = fields;
    if (frame === "reads") {
      const [lost, ...watches] = fields.map(Number);
      reads = lost ? undefined : new Set(watches);
    } else if (frame === "print" || frame === "child") {
      const [name = "", type = "", mode, size, readAtMs] = fields.map(String);
      const begins = type === "file" || type === "directory";
      if (frame === "print") {
        path = name;
        seen = { type, mode: numberOr(mode), size: numberOr(size), readAtMs: Number(readAtMs) };
        if (!begins) finish(null);
      } else if (!begins) open.at(-1)?.hash.update(`${name}\0${told(type, mode)}\0`);
      if (begins) open.push({ name, mode: Number(mode), hash: createHash("sha256") });
    } else if (frame === "data" && first !== undefined) open.at(-1)?.hash.update(first);
    else if (frame === "cut") open.at(-1)?.hash.update("more than is read\0");
    else if (frame === "end") {
      const done = open.pop();
      const digest = done?.hash.digest("hex") ?? "";
      const parent = open.at(-1);
      if (parent === undefined) finish(digest);
      else parent.hash.update(`${done?.name}\0${done?.mode.toString(8)} ${digest}\0`);
    }
  }
  return prints;
}

const numberOr = (text: string | undefined): number | null =>
  text === undefined || text === "" ? null : Number(text);
const told = (type: string, mode: string | undefined): string =>
  type === "unsafe-path" || type === "not-found" ? type : `${Number(mode).toString(8)} `;

function printOf(
  path: string,
  seen: Seen,
  sha256: string | null,
  planted: Planted,
  reads: ReadonlySet<number> | undefined,
): Fingerprint {
  const { type, mode, size, readAtMs } = seen;
  // A link is there, but it is nothing that could be read or trusted.
  if (type === "not-found" || type === "unsafe-path" || mode === null)
    return { path, exists: type !== "not-found", sha256: null, mode: null, size: null, wasRead: false };
  const watch = planted.get(path);
  const byTime = type === "file" && watch !== undefined && readAtMs !== UNREAD_ATIME_S * 1000;
  // Watches tell all; where there is none, or events were lost, only the access time can.
  const wasRead = watch !== undefined && watch >= 0 && reads !== undefined ? reads.has(watch) : byTime;
  return { path, exists: true, sha256, mode: mode & 0o7777, size: type === "file" ? size : null, wasRead };
}
