import { createHash } from "node:crypto";
import { closeSync, createReadStream, openSync, readlinkSync, readSync, type Stats } from "node:fs";
import { AleError } from "@ale/core";
import { type CopySource, find } from "./build-context.ts";
import { OPAQUE_MARKER, WHITEOUT_PREFIX } from "./layer-pack.ts";
import { type Ids, type MergedNode, type MergedTree, namesOfPath } from "./merged.ts";
import { readTar } from "./tar-read.ts";
import { END_OF_TAR, encodeHeader, padding, type TarHeader } from "./tar-write.ts";
import { compressionOfBytes, decompress } from "./unpack.ts";

/** COPY and ADD: which entries a step puts above the layers so far, as a tar. Nothing is run and nothing is mounted for it. */

export interface CopyRequest {
  readonly source: CopySource;
  readonly patterns: readonly string[];
  /** Files written in the Dockerfile itself. */
  readonly inline: readonly { readonly name: string; readonly content: string }[];
  /** Absolute. A `/` at its end makes it a directory. */
  readonly target: string;
  readonly owner: Ids;
  /** Permission bits for everything copied; undefined keeps those of the source. */
  readonly mode: number | undefined;
  /** ADD: local tars are unpacked. */
  readonly extract: boolean;
}

export interface CopyEntry {
  readonly header: TarHeader;
  /** Where a file's bytes are; an archive's are unpacked below the header's path. */
  readonly content:
    | { readonly path: string; readonly archive: boolean }
    | { readonly text: string }
    | undefined;
}

/** Sorted as they have to be written: parents first. Throws an AleError. */
export function planCopy(below: MergedTree, request: CopyRequest): CopyEntry[] {
  const plan = new CopyPlan(below, request);
  const found = request.patterns.map((pattern) => find(request.source, pattern));
  const nodes = found.flat();
  const several = nodes.length + request.inline.length > 1;
  const wantsDirectory = request.target.endsWith("/") || plan.isDirectory(request.target);
  if (several && !wantsDirectory)
    throw new AleError(
      "copy-ambiguous",
      `several files are copied to ${request.target}, which is no directory`,
      {
        next: `write ${request.target}/ to make it one`,
      },
    );
  for (const node of nodes) {
    if (node.stat.isDirectory()) plan.directory(node, request.target);
    else if (request.extract && isArchive(node)) plan.archive(node, request.target);
    else plan.file(node, wantsDirectory ? join(request.target, node.names.at(-1)!) : request.target);
  }
  for (const { name, content } of request.inline)
    plan.inline(content, wantsDirectory ? join(request.target, name) : request.target);
  return plan.entries;
}

/** A directory that has to be there, as WORKDIR makes it. */
export function planDirectory(below: MergedTree, path: string, owner: Ids): CopyEntry[] {
  const source = { tree: below, ignores: () => false };
  const plan = new CopyPlan(below, {
    source,
    patterns: [],
    inline: [],
    target: path,
    owner,
    mode: undefined,
    extract: false,
  });
  if (plan.isDirectory(path)) return [];
  plan.target(path, true);
  return plan.entries;
}

const join = (directory: string, name: string): string => `${directory.replace(/\/+$/, "")}/${name}`;
const MTIME = 0;

class CopyPlan {
  readonly entries: CopyEntry[] = [];
  readonly #below: MergedTree;
  readonly #request: CopyRequest;
  readonly #made = new Set<string>([""]);

  constructor(below: MergedTree, request: CopyRequest) {
    this.#below = below;
    this.#request = request;
  }

  isDirectory(path: string): boolean {
    return this.#below.resolve(path, { followLast: true }).node?.stat.isDirectory() ?? path === "/";
  }

  /** What a directory holds goes into the target, not the directory itself. */
  directory(node: MergedNode, target: string): void {
    const { source } = this.#request;
    const into = this.target(target, true);
    const walk = (parent: MergedNode, path: string): void => {
      for (const child of source.tree.children(parent)) {
        const name = child.names.at(-1)!;
        const ignored = source.ignores(child.names);
        // A directory that is left out may hold what a later rule takes in again.
        if (child.stat.isDirectory()) {
          const before = this.entries.length;
          const inner = ignored ? `${path}/${name}` : this.#childDirectory(path, name, child.stat);
          walk(child, inner);
          if (ignored && this.entries.length > before) this.#parents(inner);
        } else if (!ignored) this.#put(`${path}/${name}`.replace(/^\//, ""), child);
      }
    };
    walk(node, into);
  }

  file(node: MergedNode, target: string): void {
    this.#put(this.target(target, false), node);
  }

  inline(text: string, target: string): void {
    const path = this.target(target, false);
    const size = Buffer.byteLength(text);
    this.#add({ header: { ...this.#owned(path, 0o644), type: "file", size }, content: { text } });
  }

  archive(node: MergedNode, target: string): void {
    const path = this.target(target, true);
    const header = { ...this.#owned(path, 0o755), type: "file", size: node.stat.size } as const;
    this.entries.push({ header, content: { path: node.path, archive: true } });
  }

  /** The path in the layers below with its links resolved, parents made; itself too where it is a directory. */
  target(path: string, directory: boolean): string {
    const names = namesOfPath(path);
    const own = directory ? [] : names.slice(-1);
    const parent = `/${(directory ? names : names.slice(0, -1)).join("/")}`;
    const resolved = this.#below.resolve(parent, { followLast: true });
    if (resolved.node !== undefined && !resolved.node.stat.isDirectory())
      throw new AleError("copy-blocked", `${parent} in the image is no directory`);
    this.#parents(resolved.names.join("/"));
    return [...resolved.names, ...own].join("/");
  }

  /** Every directory on the way is written down, as it is below or new. */
  #parents(path: string): void {
    const names = namesOfPath(path);
    for (let length = 1; length <= names.length; length++) {
      const here = names.slice(0, length).join("/");
      if (this.#made.has(here)) continue;
      this.#made.add(here);
      const { node } = this.#below.resolve(`/${here}`, { followLast: false });
      if (node !== undefined && !node.stat.isDirectory())
        throw new AleError("copy-blocked", `/${here} in the image is no directory`);
      const header = node === undefined ? this.#owned(here, 0o755) : headerOf(here, node.stat);
      this.entries.push({ header: { ...header, type: "directory", size: 0 }, content: undefined });
    }
  }

  /** An existing directory keeps its owner and rights; one behind a link of the image is filled where it really is. */
  #childDirectory(parent: string, name: string, stat: Stats): string {
    const path = parent === "" ? name : `${parent}/${name}`;
    const { names, node } = this.#below.resolve(`/${path}`, { followLast: true });
    if (node?.stat.isDirectory()) {
      this.#parents(names.join("/"));
      return names.join("/");
    }
    this.#parents(parent);
    if (!this.#made.has(path)) {
      this.#made.add(path);
      const header = { ...this.#owned(path, stat.mode & 0o7777), mtime: seconds(stat) };
      this.entries.push({ header: { ...header, type: "directory", size: 0 }, content: undefined });
    }
    return path;
  }

  #put(path: string, { stat, path: content }: MergedNode): void {
    this.#parents(path.slice(0, Math.max(0, path.lastIndexOf("/"))));
    const header = { ...this.#owned(path, stat.mode & 0o7777), mtime: seconds(stat) };
    if (stat.isSymbolicLink())
      this.#add({
        header: { ...header, mode: 0o777, type: "symlink", size: 0, linkname: readlinkSync(content) },
        content: undefined,
      });
    else if (stat.isFile())
      this.#add({
        header: { ...header, type: "file", size: stat.size },
        content: { path: content, archive: false },
      });
    else if (stat.isFIFO()) this.#add({ header: { ...header, type: "fifo", size: 0 }, content: undefined });
    // Sockets and devices are nothing that an image holds.
  }

  #add(entry: CopyEntry): void {
    if (namesOfPath(entry.header.path).some((name) => name.startsWith(WHITEOUT_PREFIX)))
      throw new AleError(
        "copy-blocked",
        `${entry.header.path} has a name that marks removed files in images`,
        {
          next: "rename it, or leave it out with .dockerignore",
        },
      );
    this.entries.push(entry);
  }

  #owned(path: string, mode: number) {
    const { owner } = this.#request;
    return { path, mode: this.#request.mode ?? mode, uid: owner.uid, gid: owner.gid, mtime: MTIME };
  }
}

const seconds = (stat: Stats): number => Math.floor(stat.mtimeMs / 1000);

const headerOf = (path: string, stat: Stats) => ({
  path,
  mode: stat.mode & 0o7777,
  uid: stat.uid,
  gid: stat.gid,
  mtime: seconds(stat),
});

/** Of everything that the step would write except the times: the same content is the same step. */
export async function digestOfPlan(entries: readonly CopyEntry[], signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  for (const { header, content } of entries) {
    signal?.throwIfAborted();
    const { path, type, mode, uid, gid, size, linkname = "" } = header;
    hash.update(JSON.stringify([path, type, mode, uid, gid, size, linkname]));
    if (content === undefined) continue;
    if ("text" in content) hash.update(content.text);
    else for await (const chunk of createReadStream(content.path)) hash.update(chunk as Buffer);
  }
  return hash.digest("hex");
}

/** The layer of a step. */
export async function* tarOfPlan(entries: readonly CopyEntry[]): AsyncGenerator<Uint8Array> {
  for (const { header, content } of entries) {
    if (content !== undefined && "path" in content && content.archive) {
      yield* unpackedBelow(header.path, content.path);
      continue;
    }
    yield encodeHeader(header);
    if (content === undefined) continue;
    let left = header.size;
    const bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array> =
      "text" in content ? [Buffer.from(content.text)] : createReadStream(content.path);
    for await (const chunk of bytes) {
      left -= chunk.length;
      yield chunk;
    }
    if (left !== 0) throw new AleError("copy-changed", `${header.path} changed while it was copied`);
    yield padding(header.size);
  }
  yield END_OF_TAR;
}

function isArchive({ stat, path }: MergedNode): boolean {
  if (!stat.isFile()) return false;
  const fd = openSync(path, "r");
  const head = Buffer.alloc(512);
  try {
    readSync(fd, head, 0, 512, 0);
  } finally {
    closeSync(fd);
  }
  if (head.toString("latin1", 257, 262) === "ustar") return true;
  const name = path.toLowerCase();
  if (/\.(tar\.(bz2|xz)|tbz2?|txz)$/.test(name))
    throw new AleError(
      "archive-unsupported",
      `ADD does not unpack ${name.slice(name.lastIndexOf("/") + 1)}`,
      {
        next: "use a tar, tar.gz or tar.zst, or COPY it and unpack it with RUN",
      },
    );
  return compressionOfBytes(head) !== "none" && /\.(tar(\.\w+)?|tgz|tzst)$/.test(name);
}

/** Entries of an archive keep their owners and rights. */
async function* unpackedBelow(prefix: string, path: string): AsyncGenerator<Uint8Array> {
  const fd = openSync(path, "r");
  const head = Buffer.alloc(8);
  try {
    readSync(fd, head, 0, 8, 0);
  } finally {
    closeSync(fd);
  }
  const tar = decompress(createReadStream(path) as AsyncIterable<Uint8Array>, compressionOfBytes(head));
  for await (const entry of readTar(tar)) {
    const names = namesOfPath(entry.path);
    if (names.includes("..")) throw new AleError("layer-unsafe", `${entry.path} climbs out of the archive`);
    if (
      names.length === 0 ||
      names.some((name) => name.startsWith(WHITEOUT_PREFIX) || name === OPAQUE_MARKER)
    )
      continue;
    if (entry.type === "character-device" || entry.type === "block-device" || entry.type === "other")
      continue;
    const below = (name: string): string => namesOfPath(`${prefix}/${name}`).join("/");
    const { type, mode, uid, gid, size, attributes } = entry;
    const linkname = type === "link" ? below(entry.linkname) : entry.linkname;
    yield encodeHeader({
      path: below(entry.path),
      type,
      mode,
      uid,
      gid,
      size,
      mtime: Math.floor(entry.mtime),
      linkname,
      attributes,
    });
    if (type !== "file") continue;
    yield* entry.body();
    yield padding(size);
  }
}
