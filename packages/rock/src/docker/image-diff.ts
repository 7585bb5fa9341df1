import { createHash } from "node:crypto";
import { AleError } from "@ale/core";
import { extract } from "tar-stream";
import { z } from "zod";
import type { DiffEntry } from "../port/snapshot.ts";
import { removeContainer } from "./docker-container.ts";
import type { Engine } from "./engine.ts";
import { LABEL, ownerLabel } from "./labels.ts";

/** What differs between two images of an engine. Both are read whole; only their hashes are kept. */

export interface Node {
  readonly type: DiffEntry["type"];
  /** SHA-256 of a file's bytes or a link's target. */
  readonly digest: string | null;
  readonly mode: number;
  readonly owner: string;
}

export type FileTree = ReadonlyMap<string, Node>;

/** Made by the engine in every container. */
const ENGINES_OWN = ["/dev", "/proc", "/sys", "/run/.containerenv", "/run/secrets", "/.dockerenv"] as const;
const ENGINES_FILES = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab"] as const;

const isEngines = (path: string): boolean =>
  ENGINES_OWN.some((own) => path === own || path.startsWith(`${own}/`)) ||
  ENGINES_FILES.some((own) => path === own);

export async function treeOf(engine: Engine, image: string): Promise<FileTree> {
  // Never started: an engine exports containers, not images.
  const json = {
    Image: image,
    Entrypoint: ["/nothing"],
    Labels: { [LABEL.kind]: "sandbox", [LABEL.owner]: ownerLabel() },
    HostConfig: { NetworkMode: "none" },
  };
  const { Id } = await engine.json("POST", "/containers/create", z.object({ Id: z.string() }), { json });
  try {
    const { body } = await engine.request("GET", `/containers/${Id}/export`);
    return await readTree(body);
  } finally {
    await removeContainer(engine, Id);
  }
}

export async function readTree(tar: NodeJS.ReadableStream): Promise<FileTree> {
  const tree = new Map<string, Node>();
  const links: [path: string, target: string][] = [];
  const entries = extract();
  tar.once("error", (error) => entries.destroy(error));
  tar.pipe(entries);
  for await (const entry of entries) {
    const { name, type, mode = 0, uid = 0, gid = 0, linkname = "" } = entry.header;
    const path = absolute(name);
    if (type === "link") links.push([path, absolute(linkname)]);
    const hash = createHash("sha256");
    for await (const chunk of entry as AsyncIterable<Buffer>) hash.update(chunk);
    if (path === "/" || isEngines(path) || type === "link") continue;
    const kind = type === "file" || type === "directory" || type === "symlink" ? type : "other";
    const digest =
      kind === "file"
        ? hash.digest("hex")
        : kind === "symlink"
          ? createHash("sha256").update(linkname).digest("hex")
          : null;
    tree.set(path, { type: kind, digest, mode: mode & 0o7777, owner: `${uid}:${gid}` });
  }
  // A second name of a file is that file again.
  for (const [path, target] of links) {
    const file = tree.get(target);
    if (file !== undefined) tree.set(path, file);
  }
  return tree;
}

const absolute = (name: string): string => {
  if (name.split("/").includes(".."))
    throw new AleError("engine-reply", "the engine's export climbs out of its root");
  return `/${name
    .split("/")
    .filter((part) => part !== "" && part !== ".")
    .join("/")}`;
};

/** Sorted by path. */
export function changesBetween(before: FileTree, after: FileTree): DiffEntry[] {
  const entries: DiffEntry[] = [];
  for (const [path, node] of after) {
    const old = before.get(path);
    if (old === undefined)
      entries.push({ path, change: "added", type: node.type, before: null, after: node.digest });
    else if (!same(old, node))
      entries.push({ path, change: "changed", type: node.type, before: old.digest, after: node.digest });
  }
  for (const [path, node] of before)
    if (!after.has(path))
      entries.push({ path, change: "removed", type: node.type, before: node.digest, after: null });
  return entries.sort((a, b) => (a.path < b.path ? -1 : 1));
}

const same = (a: Node, b: Node): boolean =>
  a.type === b.type && a.digest === b.digest && a.mode === b.mode && a.owner === b.owner;
