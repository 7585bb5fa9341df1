import { lstatSync, readdirSync, type Stats } from "node:fs";
import { join } from "node:path";
import { findIn } from "../snapshot/stack.ts";
import { isPlace } from "./places.ts";

/**
 * What has changed in a sandbox's writable layer since it was looked at last, at those places that matter. A directory is read again only when
 * its own time says that an entry came or went; of files, only those at such places are looked at. Nothing is opened, no link followed.
 */

export interface FileChange {
  readonly path: string;
  readonly change: "created" | "modified" | "deleted";
  /** By the wall clock, as the kernel wrote it down: nobody in the sandbox can set it. Of what has gone: when its directory last changed. */
  readonly changedAtMs: number;
}

interface Seen {
  readonly stamp: string;
  readonly gone: boolean;
}

export class UpperScan {
  /** Path of each directory in the layer, with its stamp and its entries that are directories. */
  readonly #directories = new Map<string, { readonly stamp: string; readonly below: readonly string[] }>();
  readonly #places = new Map<string, Seen>();

  /** `upper`: the layer; `lower`: the layers below, the uppermost first. */
  changes(upper: string, lower: readonly string[]): FileChange[] {
    const found: FileChange[] = [];
    this.#visit(upper, "", lower, found);
    return found;
  }

  #visit(upper: string, directory: string, lower: readonly string[], found: FileChange[]): void {
    const stat = statOf(join(upper, directory));
    if (stat === undefined) return;
    const known = this.#directories.get(directory);
    const stamp = stampOf(stat);
    const below =
      known?.stamp === stamp ? known.below : this.#read(upper, directory, lower, stat.ctimeMs, found);
    this.#directories.set(directory, { stamp, below });
    this.#modified(upper, directory, found);
    for (const name of below) this.#visit(upper, `${directory}/${name}`, lower, found);
  }

  #read(
    upper: string,
    directory: string,
    lower: readonly string[],
    changedAtMs: number,
    found: FileChange[],
  ): string[] {
    const below: string[] = [];
    const present = new Set<string>();
    for (const entry of entriesOf(join(upper, directory))) {
      const path = `${directory}/${entry.name}`;
      if (entry.isDirectory()) below.push(entry.name);
      else if (isPlace(path)) {
        present.add(path);
        if (!this.#places.has(path)) this.#first(upper, path, lower, found);
      }
    }
    for (const [path, seen] of this.#places)
      if (!seen.gone && isIn(path, directory) && !present.has(path)) {
        this.#places.delete(path);
        found.push({ path, change: "deleted", changedAtMs });
      }
    const before = this.#directories.get(directory)?.below ?? [];
    for (const name of before)
      if (!below.includes(name)) this.#removed(`${directory}/${name}/`, changedAtMs, found);
    return below;
  }

  /** A directory has gone with all that was in it. */
  #removed(prefix: string, changedAtMs: number, found: FileChange[]): void {
    for (const path of [...this.#directories.keys()])
      if (`${path}/`.startsWith(prefix)) this.#directories.delete(path);
    for (const [path, seen] of this.#places) {
      if (!path.startsWith(prefix)) continue;
      this.#places.delete(path);
      if (!seen.gone) found.push({ path, change: "deleted", changedAtMs });
    }
  }

  #first(upper: string, path: string, lower: readonly string[], found: FileChange[]): void {
    const stat = statOf(join(upper, path));
    if (stat === undefined) return;
    const gone = isWhiteout(stat);
    this.#places.set(path, { stamp: stampOf(stat), gone });
    const change = gone ? "deleted" : existed(lower, path) ? "modified" : "created";
    found.push({ path, change, changedAtMs: stat.ctimeMs });
  }

  #modified(upper: string, directory: string, found: FileChange[]): void {
    for (const [path, seen] of this.#places) {
      if (!isIn(path, directory)) continue;
      const stat = statOf(join(upper, path));
      if (stat === undefined) continue;
      const stamp = stampOf(stat);
      if (stamp === seen.stamp) continue;
      const gone = isWhiteout(stat);
      this.#places.set(path, { stamp, gone });
      const change = gone ? "deleted" : seen.gone ? "created" : "modified";
      found.push({ path, change, changedAtMs: stat.ctimeMs });
    }
  }
}

const isIn = (path: string, directory: string): boolean =>
  path.startsWith(`${directory}/`) && !path.includes("/", directory.length + 1);

const isWhiteout = (stat: Stats): boolean => stat.isCharacterDevice() && stat.rdev === 0;

/** Times alone can be set back, but not the one of the inode. */
const stampOf = ({ ino, size, ctimeMs }: Stats): string => `${ino} ${size} ${ctimeMs}`;

const statOf = (path: string): Stats | undefined => {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch {
    // A directory on the way has become something else.
    return undefined;
  }
};

function entriesOf(directory: string) {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    return [];
  }
}

function existed(lower: readonly string[], path: string): boolean {
  let parts = lower;
  const names = path.split("/").slice(1);
  for (const [n, name] of names.entries()) {
    const found = findIn(parts, name);
    if (found === undefined) return false;
    if (found.type === "leaf") return n === names.length - 1;
    parts = found.parts;
  }
  return true;
}
