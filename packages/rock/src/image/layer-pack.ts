import { createHash } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  type Stats,
} from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { AleError } from "@ale/core";
import { attributeNames, getAttribute } from "./native-image.ts";
import { END_OF_TAR, encodeHeader, padding, type TarHeader } from "./tar-write.ts";

/**
 * A directory in overlayfs form as an OCI layer tar. The same directory always gives the same bytes: entries are sorted, times are
 * whole seconds. Nobody may write to the directory meanwhile: it is walked by path.
 */

export const WHITEOUT_PREFIX = ".wh.";
export const OPAQUE_MARKER = ".wh..wh..opq";
/** Kept in layers; every other extended attribute is of no use in a sandbox, or means something to overlayfs. */
export const CAPABILITY_ATTRIBUTE = "security.capability";
const OPAQUE_ATTRIBUTES = ["trusted.overlay.opaque", "user.overlay.opaque"];
/** What overlayfs writes into a layer that cannot stand alone. */
const ENTANGLED = /^(trusted|user)\.overlay\.(redirect|metacopy)$/;

const CHUNK = 1 << 16;
const { O_RDONLY, O_NOFOLLOW } = constants;

export interface PackReport {
  entries: number;
  /** Of all files' contents. */
  bytes: number;
  /** Of the tar. */
  tarBytes: number;
  /** Sockets, devices and names that are no text: no layer holds them. */
  skipped: number;
}

export const emptyReport = (): PackReport => ({ entries: 0, bytes: 0, tarBytes: 0, skipped: 0 });

/** Throws an AleError `layer-entangled` for a directory that refers to the layers below it. */
export async function* packLayer(
  root: string,
  report: PackReport = emptyReport(),
  signal?: AbortSignal,
): AsyncGenerator<Buffer> {
  const links = new Map<string, string>();
  let sinceYield = 0;
  for (const path of walk(root, "", report)) {
    // A big layer must not hold up everything else in this process.
    if (++sinceYield % 64 === 0) {
      await setImmediate();
      signal?.throwIfAborted();
    }
    for (const chunk of packEntry(root, path, links, report)) {
      report.tarBytes += chunk.length;
      yield chunk;
    }
  }
  report.tarBytes += END_OF_TAR.length;
  yield END_OF_TAR;
}

/** Parents before children, siblings by name. */
function* walk(root: string, directory: string, report: PackReport): Generator<string> {
  for (const entry of readdirSync(join(root, directory), { withFileTypes: true }).sort(byName)) {
    // In a layer such a name is an order to remove something.
    if (entry.name.startsWith(WHITEOUT_PREFIX)) {
      report.skipped++;
      continue;
    }
    const path = directory === "" ? entry.name : `${directory}/${entry.name}`;
    yield path;
    if (entry.isDirectory()) yield* walk(root, path, report);
  }
}

const byName = (a: { name: string }, b: { name: string }): number => (a.name < b.name ? -1 : 1);

function* packEntry(
  root: string,
  path: string,
  links: Map<string, string>,
  report: PackReport,
): Generator<Buffer> {
  const full = join(root, path);
  const stat = lstatSync(full, { throwIfNoEntry: false });
  if (stat === undefined) {
    report.skipped++;
    return;
  }
  const names = attributeNames(full);
  const entangled = names.find((name) => ENTANGLED.test(name));
  if (entangled !== undefined)
    throw new AleError("layer-entangled", `${path} has ${entangled}: it needs the layers below it`, {
      next: "mount overlays with redirect_dir=off and metacopy=off",
    });
  const header = headerOf(full, path, stat, names);
  if (header === undefined) {
    report.skipped++;
    return;
  }
  report.entries++;
  const earlier = stat.nlink > 1 && !stat.isDirectory() ? links.get(`${stat.dev}:${stat.ino}`) : undefined;
  if (earlier !== undefined && header.type === "file") {
    yield encodeHeader({ ...header, type: "link", size: 0, linkname: earlier, attributes: new Map() });
    return;
  }
  if (stat.nlink > 1 && header.type === "file") links.set(`${stat.dev}:${stat.ino}`, path);
  yield encodeHeader(header);
  if (header.type === "file" && header.size > 0) yield* packBody(full, header.size, report);
  if (header.type === "directory" && names.some((name) => OPAQUE_ATTRIBUTES.includes(name)))
    yield encodeHeader({ ...MARKER, path: `${path}/${OPAQUE_MARKER}` });
}

const MARKER = { type: "file", mode: 0o644, uid: 0, gid: 0, size: 0, mtime: 0 } as const;

/** Undefined for what a layer cannot hold. */
function headerOf(full: string, path: string, stat: Stats, names: readonly string[]): TarHeader | undefined {
  const base = {
    path,
    mode: stat.mode & 0o7777,
    uid: stat.uid,
    gid: stat.gid,
    size: 0,
    mtime: Math.floor(stat.mtimeMs / 1000),
  };
  if (stat.isDirectory()) return { ...base, type: "directory" };
  if (stat.isSymbolicLink()) return { ...base, type: "symlink", mode: 0o777, linkname: readlinkSync(full) };
  if (stat.isFIFO()) return { ...base, type: "fifo" };
  if (stat.isCharacterDevice() && stat.rdev === 0) {
    const slash = path.lastIndexOf("/") + 1;
    return { ...MARKER, path: `${path.slice(0, slash)}${WHITEOUT_PREFIX}${path.slice(slash)}` };
  }
  if (!stat.isFile()) return undefined;
  const capability = names.includes(CAPABILITY_ATTRIBUTE)
    ? getAttribute(full, CAPABILITY_ATTRIBUTE)
    : undefined;
  const attributes = new Map(capability === undefined ? [] : [[CAPABILITY_ATTRIBUTE, capability] as const]);
  return { ...base, type: "file", size: stat.size, attributes };
}

/** Exactly as many bytes as the header said. */
function* packBody(full: string, size: number, report: PackReport): Generator<Buffer> {
  const fd = openSync(full, O_RDONLY | O_NOFOLLOW);
  try {
    if (!fstatSync(fd).isFile()) throw new Error(`${full} changed while it was packed`);
    for (let left = size; left > 0; ) {
      const chunk = Buffer.allocUnsafe(Math.min(left, CHUNK));
      const count = readSync(fd, chunk);
      if (count === 0) throw new Error(`${full} shrank while it was packed`);
      left -= count;
      report.bytes += count;
      yield chunk.subarray(0, count);
    }
  } finally {
    closeSync(fd);
  }
  yield padding(size);
}

/** "sha256:…" of the tar of a directory. */
export async function diffIdOf(
  directory: string,
  report: PackReport = emptyReport(),
  signal?: AbortSignal,
): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of packLayer(directory, report, signal)) hash.update(chunk);
  return `sha256:${hash.digest("hex")}`;
}
