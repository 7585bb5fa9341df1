import { existsSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { AleError, suggest } from "@ale/core";
import { type MergedNode, MergedTree, namesOfPath } from "./merged.ts";

/** What COPY and ADD can take: a directory of the user with its .dockerignore, or the files of another stage or image. */

export interface CopySource {
  readonly tree: MergedTree;
  /** By the names from the top of the tree. */
  ignores(names: readonly string[]): boolean;
}

interface Ignore {
  add(patterns: string): Ignore;
  ignores(path: string): boolean;
}

// The package's types speak of a default export that its code, which is CommonJS, has under another name.
const ignore = createRequire(import.meta.url)("@balena/dockerignore") as () => Ignore;

/** Throws an AleError where there is no such directory. */
export function contextSource(directory: string, dockerfile: string): CopySource {
  if (!statSync(directory, { throwIfNoEntry: false })?.isDirectory())
    throw new AleError("context-missing", `the build context ${directory} is no directory`);
  const own = `${dockerfile}.dockerignore`;
  const path = existsSync(own) ? own : join(directory, ".dockerignore");
  const rules = existsSync(path) ? ignore().add(readFileSync(path, "utf8")) : undefined;
  return {
    tree: new MergedTree([directory]),
    ignores: (names) => names.length > 0 && (rules?.ignores(names.join("/")) ?? false),
  };
}

export const layerSource = (layers: readonly string[]): CopySource => ({
  tree: new MergedTree(layers),
  ignores: () => false,
});

/** What a source of COPY names: a path, or a pattern with * ? [ ]. Links to it are followed inside the tree. */
export function find(source: CopySource, pattern: string): MergedNode[] {
  const names = namesOfPath(pattern);
  if (names.includes(".."))
    throw new AleError("copy-outside", `${pattern} lies outside the build context`, {
      next: "copy the file into the context, or build with a directory further up",
    });
  const found = isPattern(pattern) ? match(source, names) : exact(source, pattern);
  const kept = found.filter((node) => !source.ignores(node.names));
  if (kept.length > 0) return kept;
  if (found.length > 0)
    throw new AleError("copy-missing", `${pattern} is excluded by .dockerignore`, {
      next: `add a line !${names.join("/")} to it`,
    });
  const { root } = source.tree;
  const top = root === undefined ? [] : source.tree.children(root).map((node) => node.names.join("/"));
  const meant = suggest(names.join("/"), top);
  throw new AleError("copy-missing", `${pattern} does not exist in what is copied from`, {
    ...(meant === undefined ? {} : { next: `did you mean ${meant}?` }),
  });
}

const isPattern = (text: string): boolean => /[*?[]/.test(text);

function exact(source: CopySource, path: string): MergedNode[] {
  const { node } = source.tree.resolve(path, { followLast: true });
  return node === undefined ? [] : [node];
}

function match({ tree }: CopySource, names: readonly string[]): MergedNode[] {
  let level = tree.root === undefined ? [] : [tree.root];
  for (const name of names) {
    const pattern = globToRegExp(name);
    level = level.flatMap((node) =>
      node.stat.isDirectory() ? tree.children(node).filter((child) => pattern.test(child.names.at(-1)!)) : [],
    );
  }
  return level;
}

/** Of one name: `*` any characters, `?` one, `[a-z]` one of these. */
function globToRegExp(glob: string): RegExp {
  let source = "";
  for (let at = 0; at < glob.length; at++) {
    const char = glob[at]!;
    const end = char === "[" ? glob.indexOf("]", at + 2) : -1;
    if (char === "*") source += "[^/]*";
    else if (char === "?") source += "[^/]";
    else if (end > 0) {
      const inner = glob.slice(at + 1, end).replace(/[\\[\]]/g, "\\$&");
      source += `[${inner.replace(/^!/, "^")}]`;
      at = end;
    } else if (char === "\\" && at + 1 < glob.length) source += escaped(glob[++at]!);
    else source += escaped(char);
  }
  return new RegExp(`^${source}$`, "s");
}

const escaped = (char: string): string => char.replace(/[.*+?^${}()|[\]\\/]/, "\\$&");
