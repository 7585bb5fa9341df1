import { createHash } from "node:crypto";
import { readdirSync, readSync, type Stats } from "node:fs";
import { join } from "node:path";
import { ok, type Result } from "@ale/core";
import type { FileError } from "../port/files.ts";
import type { Fingerprint } from "../port/sandbox.ts";
import { type Tree, UNREAD_ATIME_S } from "./tree.ts";

/** The state of a path, taken from outside without leaving a trace in it. */

/** A directory larger or deeper than this is fingerprinted as far as it goes, and the digest says where it stopped. */
const MAX_ENTRIES = 20_000;
const MAX_DEPTH = 64;

interface Budget {
  entries: number;
  depth: number;
}

export function fingerprintOf(tree: Tree, path: string, planted: ReadonlySet<string>): Fingerprint {
  const budget = { entries: MAX_ENTRIES, depth: MAX_DEPTH };
  const found = tree.open(path, (fd, stat): Result<Fingerprint, FileError> => {
    return ok({
      path,
      exists: true,
      sha256: digest(tree, path, fd, stat, budget),
      mode: stat.mode & 0o7777,
      size: stat.isFile() ? stat.size : null,
      wasRead: stat.isFile() && planted.has(path) && stat.atimeMs !== UNREAD_ATIME_S * 1000,
    });
  });
  if (found.ok) return found.value;
  // A link is there, but it is nothing that could be read or trusted.
  const exists = found.error.type !== "not-found";
  return { path, exists, sha256: null, mode: null, size: null, wasRead: false };
}

function digest(tree: Tree, path: string, fd: number, stat: Stats, budget: Budget): string | null {
  if (stat.isFile()) return hashFile(fd);
  return stat.isDirectory() ? hashDirectory(tree, path, fd, budget) : null;
}

function hashFile(fd: number): string {
  const hash = createHash("sha256");
  const chunk = Buffer.allocUnsafe(64 * 1024);
  for (let n = readSync(fd, chunk); n > 0; n = readSync(fd, chunk)) hash.update(chunk.subarray(0, n));
  return hash.digest("hex");
}

function hashDirectory(tree: Tree, path: string, fd: number, budget: Budget): string {
  const hash = createHash("sha256");
  budget.depth--;
  for (const name of readdirSync(`/proc/self/fd/${fd}`).sort()) {
    if (budget.entries-- <= 0 || budget.depth <= 0) {
      hash.update("more than is read\0");
      break;
    }
    const child = join(path, name);
    const inner = tree.open(child, (childFd, childStat) =>
      ok(`${childStat.mode.toString(8)} ${digest(tree, child, childFd, childStat, budget) ?? ""}`),
    );
    hash.update(`${name}\0${inner.ok ? inner.value : inner.error.type}\0`);
  }
  budget.depth++;
  return hash.digest("hex");
}
