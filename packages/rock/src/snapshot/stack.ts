import { type BigIntStats, lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { isOpaque } from "../host/xattr.ts";

/**
 * A stack of layers read as overlayfs would show it, without mounting it: the uppermost entry of a name counts, directories of all
 * layers are one until a layer says otherwise. Pure reading of layers that nobody changes; no link is followed.
 */

/** What is at a path. A directory has all its parts, uppermost first. */
export type Found =
  | { readonly type: "directory"; readonly parts: readonly string[] }
  | { readonly type: "leaf"; readonly path: string };

const isWhiteout = (stat: BigIntStats): boolean => stat.isCharacterDevice() && stat.rdev === 0n;

/** The entry `name` of a directory with these parts. */
export function findIn(parts: readonly string[], name: string): Found | undefined {
  const directories: string[] = [];
  for (const part of parts) {
    const path = join(part, name);
    const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
    if (stat === undefined) continue;
    if (!stat.isDirectory()) {
      if (directories.length > 0 || isWhiteout(stat)) break;
      return { type: "leaf", path };
    }
    directories.push(path);
    if (isOpaque(path)) break;
  }
  return directories.length === 0 ? undefined : { type: "directory", parts: directories };
}

/** Names in these directories, those of whiteouts among them. */
export function namesIn(parts: Iterable<string>): string[] {
  const names = new Set<string>();
  for (const part of parts) for (const name of readdirSync(part)) names.add(name);
  return [...names].sort();
}
