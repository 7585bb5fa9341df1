import { lstatSync, readdirSync, readFileSync, readlinkSync, type Stats, statSync } from "node:fs";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { getAttribute } from "./native-image.ts";

/** Layers seen as one tree, without mounting them. Links are followed inside the tree; nothing outside it is ever read. */

export interface MergedNode {
  /** Names from the top, links resolved. */
  readonly names: readonly string[];
  readonly stat: Stats;
  /** On this machine: of a file or link the thing itself, of a directory its uppermost part. */
  readonly path: string;
  /** The parts of a directory, uppermost first. */
  readonly parts: readonly string[];
}

export interface Resolved {
  /** The path with its links resolved as far as it exists. */
  readonly names: readonly string[];
  /** Undefined where there is nothing. */
  readonly node: MergedNode | undefined;
}

const MOST_LINKS = 40;
const OPAQUE = ["trusted.overlay.opaque", "user.overlay.opaque"];

export const namesOfPath = (path: string): string[] =>
  path.split("/").filter((name) => name !== "" && name !== ".");

export class MergedTree {
  readonly #layers: readonly string[];

  /** Directories in overlayfs form, uppermost first. One plain directory is a tree, too. */
  constructor(layers: readonly string[]) {
    this.#layers = layers;
  }

  get root(): MergedNode | undefined {
    const [top] = this.#layers;
    return top === undefined
      ? undefined
      : // The top may be a link to where a layer really lies.
        { names: [], stat: statSync(top), path: top, parts: this.#layers };
  }

  child(parent: MergedNode, name: string): MergedNode | undefined {
    let top: { path: string; stat: Stats } | undefined;
    const parts: string[] = [];
    for (const part of parent.parts) {
      const path = join(part, name);
      const stat = lstatSync(path, { throwIfNoEntry: false });
      if (stat === undefined) continue;
      // Removed here, whatever lies below.
      if (stat.isCharacterDevice() && stat.rdev === 0) break;
      if (!stat.isDirectory()) {
        if (top === undefined) return { names: [...parent.names, name], stat, path, parts: [] };
        break;
      }
      top ??= { path, stat };
      parts.push(path);
      if (OPAQUE.some((attribute) => getAttribute(path, attribute)?.toString("latin1") === "y")) break;
    }
    return top && { names: [...parent.names, name], ...top, parts };
  }

  /** Sorted by name. */
  children(parent: MergedNode): MergedNode[] {
    const names = new Set(parent.parts.flatMap((part) => readdirSync(part)));
    return [...names].sort().flatMap((name) => this.child(parent, name) ?? []);
  }

  /** `..` at the top stays there; an absolute link begins at the top. Throws an AleError for a circle of links. */
  resolve(path: string, options: { readonly followLast: boolean }): Resolved {
    const todo = namesOfPath(path).reverse();
    let trail = this.root === undefined ? [] : [this.root];
    let missing: string[] = [];
    let links = 0;
    for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
      if (name === "..") {
        if (missing.length > 0) missing.pop();
        else if (trail.length > 1) trail.pop();
        continue;
      }
      const here = trail.at(-1);
      const node = missing.length > 0 || here === undefined ? undefined : this.child(here, name);
      if (node === undefined) {
        missing.push(name);
        continue;
      }
      if (node.stat.isSymbolicLink() && (todo.length > 0 || options.followLast)) {
        if (++links > MOST_LINKS)
          throw new AleError("path-circular", `${path} runs through a circle of links`);
        const target = readlinkSync(node.path);
        if (target.startsWith("/")) {
          trail = trail.slice(0, 1);
          missing = [];
        }
        todo.push(...namesOfPath(target).reverse());
        continue;
      }
      trail.push(node);
    }
    const last = trail.at(-1);
    return missing.length > 0
      ? { names: [...(last?.names ?? []), ...missing], node: undefined }
      : { names: last?.names ?? [], node: last };
  }

  /** A small regular file as text; undefined where there is none. */
  read(path: string, maxBytes = 1 << 20): string | undefined {
    const { node } = this.resolve(path, { followLast: true });
    if (!node?.stat.isFile() || node.stat.size > maxBytes) return undefined;
    return readFileSync(node.path, "utf8");
  }
}

export interface Ids {
  readonly uid: number;
  readonly gid: number;
}

/** "name[:group]" or "uid[:gid]" as the tree's own files have them. Throws an AleError `user-unknown`. */
export function idsOf(tree: MergedTree, text: string): Ids {
  const [user = "", group] = text.split(":");
  const passwd = (tree.read("/etc/passwd") ?? "").split("\n").map((line) => line.split(":"));
  const isNumber = (word: string): boolean => /^\d{1,10}$/.test(word);
  const entry = passwd.find((fields) => (isNumber(user) ? fields[2] === user : fields[0] === user));
  const unknown = (kind: string, name: string): AleError =>
    new AleError("user-unknown", `the image has no ${kind} ${JSON.stringify(name)}`, {
      next: "create it with RUN useradd or RUN groupadd before, or use a number",
    });
  const uid = isNumber(user) ? Number(user) : Number(entry?.[2] ?? Number.NaN);
  if (!Number.isInteger(uid)) throw unknown("user", user);
  if (group === undefined || group === "")
    return { uid, gid: Number(entry?.[3] ?? (isNumber(user) ? uid : 0)) };
  if (isNumber(group)) return { uid, gid: Number(group) };
  const groups = (tree.read("/etc/group") ?? "").split("\n").map((line) => line.split(":"));
  const found = groups.find((fields) => fields[0] === group);
  if (found === undefined) throw unknown("group", group);
  return { uid, gid: Number(found[2]) };
}
