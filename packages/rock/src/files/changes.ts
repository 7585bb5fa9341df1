import {
  chmod,
  chown,
  constants,
  fstatSync,
  lchown,
  lstatSync,
  openSync,
  rename,
  rmdirSync,
  unlinkSync,
} from "node:fs";
import { promisify } from "node:util";
import { errnoOf, Refusal } from "./errors.ts";
import { at, atBytes, closing, find, type Ids, through, withParent } from "./located.ts";
import { O_PATH, renameToNew } from "./openat2.ts";
import type { Tree } from "./tree.ts";
import { walk } from "./walk.ts";

/**
 * Removing, renaming, owners and permissions. Calls that may copy a file of the image first, which takes time in proportion to its size,
 * do not run on the event loop.
 */

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
const chownAsync = promisify(chown);
const chmodAsync = promisify(chmod);
const lchownAsync = promisify(lchown);
const renameAsync = promisify(rename);

/** How often a directory is emptied again that somebody keeps filling. */
const ROUNDS = 16;

export async function removeAt(tree: Tree, path: string, recursive: boolean): Promise<void> {
  await withParent(tree, path, async (directory, name) => {
    const entry = at(directory, name);
    if (!lstatSync(entry).isDirectory()) return unlinkSync(entry);
    if (!recursive) return rmdirSync(entry);
    for (let round = 0; round < ROUNDS; round++) {
      const top = openSync(entry, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      await closing(top, () => empty(top));
      if (removed(() => rmdirSync(entry))) return;
    }
    throw new Refusal("not-empty", path, "something keeps making files in it: end it first");
  });
}

async function empty(top: number): Promise<void> {
  for await (const step of walk(top)) {
    const entry = atBytes(step.directory, step.name);
    if (step.type === "left") removed(() => rmdirSync(entry));
    else if (!step.stat.isDirectory()) removed(() => unlinkSync(entry));
  }
}

/** False where something came in between; the next round sees what. */
function removed(work: () => void): boolean {
  try {
    work();
    return true;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return true;
    if (["ENOTEMPTY", "EISDIR", "ENOTDIR", "EEXIST"].includes(errnoOf(error))) return false;
    throw error;
  }
}

export async function moveAt(tree: Tree, from: string, to: string, overwrite: boolean): Promise<void> {
  await withParent(tree, from, (fromDirectory, fromName) =>
    withParent(tree, to, async (toDirectory, toName) => {
      const source = { directory: fromDirectory, name: fromName };
      const target = { directory: toDirectory, name: toName };
      try {
        if (overwrite) await renameAsync(at(fromDirectory, fromName), at(toDirectory, toName));
        else renameToNew(source, target);
      } catch (error) {
        throw moveError(error, from, to);
      }
    }),
  );
}

function moveError(error: unknown, from: string, to: string): unknown {
  switch (errnoOf(error)) {
    case "EEXIST":
      return new Refusal("exists", to);
    case "ENOTEMPTY":
      return new Refusal("not-empty", to);
    case "EISDIR":
      return new Refusal("not-a-file", to, "a directory is replaced by a directory only");
    case "ENOTDIR":
      return new Refusal("not-a-directory", to, "a directory replaces a directory only");
    case "EINVAL":
      return new Refusal("unsafe-path", to, "a directory cannot be moved into itself");
    case "EXDEV":
      return new Refusal(
        "unsafe-path",
        from,
        "a directory of the image cannot be renamed: copy it with a command inside, then remove it",
      );
    default:
      return error;
  }
}

/** Links below the path get the owner themselves; what they lead to is not touched. */
export async function changeOwnerAt(tree: Tree, path: string, ids: Ids, recursive: boolean): Promise<void> {
  const { uid, gid } = ids;
  await change(tree, path, recursive, {
    top: (found) => chownAsync(through(found), uid, gid),
    entry: (entry) => lchownAsync(entry, uid, gid),
  });
}

/** Links below the path have no permissions of their own and are passed over. */
export async function changeModeAt(
  tree: Tree,
  path: string,
  mode: number,
  recursive: boolean,
): Promise<void> {
  await change(tree, path, recursive, {
    top: (found) => chmodAsync(through(found), mode),
    entry: async (entry) => {
      const handle = openSync(entry, O_PATH | O_NOFOLLOW);
      await closing(handle, async () => {
        if (!fstatSync(handle).isSymbolicLink()) await chmodAsync(through(handle), mode);
      });
    },
  });
}

interface Change {
  readonly top: (found: number) => Promise<void>;
  readonly entry: (entry: Buffer) => Promise<void>;
}

async function change(tree: Tree, path: string, recursive: boolean, { top, entry }: Change): Promise<void> {
  const found = find(tree, path);
  await closing(found, async () => {
    await top(found);
    if (!recursive || !fstatSync(found).isDirectory()) return;
    for await (const step of walk(found)) {
      if (step.type === "left") continue;
      try {
        await entry(atBytes(step.directory, step.name));
      } catch (error) {
        if (errnoOf(error) !== "ENOENT") throw error;
      }
    }
  });
}
