import { createHash } from "node:crypto";
import { constants, lstatSync, readlinkSync, type Stats } from "node:fs";
import { open } from "node:fs/promises";
import type { DiffEntry } from "../port/snapshot.ts";
import { type Found, findIn, namesIn } from "./stack.ts";

/**
 * What differs between two stacks of layers. Only what their layers do not have in common is read, so that it costs what was changed
 * and not what is there. A path has changed if its type, content, permissions or owner has; its times do not count.
 */

/** What the runtime mounts over every root filesystem: nothing below can be seen or changed from inside. */
const MOUNTED = new Set(["/dev", "/proc", "/sys", "/etc/hosts", "/etc/resolv.conf"]);
const { O_RDONLY, O_NOFOLLOW } = constants;

/** Sorted by path. `from` and `to`: directories of layers, uppermost first. */
export async function diffStacks(from: readonly string[], to: readonly string[]): Promise<DiffEntry[]> {
  const entries: DiffEntry[] = [];
  const root = (parts: readonly string[]): Found => ({ type: "directory", parts });
  for await (const entry of compare("", root(from), root(to))) entries.push(entry);
  return entries.sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function* compare(
  path: string,
  before: Found | undefined,
  after: Found | undefined,
): AsyncGenerator<DiffEntry> {
  if (MOUNTED.has(path)) return;
  if (before?.type === "leaf" && after?.type === "leaf" && before.path === after.path) return;
  const entry = await entryOf(path === "" ? "/" : path, before, after);
  if (entry !== undefined) yield entry;
  const parts = (found: Found | undefined): readonly string[] =>
    found?.type === "directory" ? found.parts : [];
  const [old, young] = [parts(before), parts(after)];
  for (const name of namesIn(withoutCommonEnd(old, young))) {
    yield* compare(`${path}/${name}`, findIn(old, name), findIn(young, name));
  }
}

/** A name that none of these has is found in the common parts only, and therefore the same on both sides. */
function withoutCommonEnd(a: readonly string[], b: readonly string[]): string[] {
  let common = 0;
  while (common < Math.min(a.length, b.length) && a.at(-1 - common) === b.at(-1 - common)) common++;
  return [...a.slice(0, a.length - common), ...b.slice(0, b.length - common)];
}

async function entryOf(
  path: string,
  before: Found | undefined,
  after: Found | undefined,
): Promise<DiffEntry | undefined> {
  const old = await describe(before);
  const young = await describe(after);
  if (old === undefined && young === undefined) return undefined;
  const hashes = { before: old?.sha256 ?? null, after: young?.sha256 ?? null };
  if (old === undefined) return { path, change: "added", type: young!.type, ...hashes };
  if (young === undefined) return { path, change: "removed", type: old.type, ...hashes };
  const same = (["type", "sha256", "mode", "uid", "gid", "rdev"] as const).every(
    (key) => old[key] === young[key],
  );
  return same ? undefined : { path, change: "changed", type: young.type, ...hashes };
}

interface Described {
  readonly type: DiffEntry["type"];
  readonly sha256: string | null;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
}

async function describe(found: Found | undefined): Promise<Described | undefined> {
  if (found === undefined) return undefined;
  const path = found.type === "leaf" ? found.path : found.parts[0]!;
  const stat = lstatSync(path);
  const { mode, uid, gid } = stat;
  const type = typeOf(stat);
  const rdev = type === "other" ? stat.rdev : 0;
  return { type, sha256: await hashOf(path, stat), mode, uid, gid, rdev };
}

function typeOf(stat: Stats): DiffEntry["type"] {
  if (stat.isFile()) return "file";
  if (stat.isDirectory()) return "directory";
  return stat.isSymbolicLink() ? "symlink" : "other";
}

async function hashOf(path: string, stat: Stats): Promise<string | null> {
  if (stat.isSymbolicLink()) return createHash("sha256").update(readlinkSync(path, "buffer")).digest("hex");
  if (!stat.isFile()) return null;
  const hash = createHash("sha256");
  const file = await open(path, O_RDONLY | O_NOFOLLOW);
  for await (const chunk of file.createReadStream()) hash.update(chunk);
  return hash.digest("hex");
}
