import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  type Stats,
} from "node:fs";
import type { FileStat } from "../port/files.ts";
import { errnoOf, Refusal } from "./errors.ts";
import { O_PATH, openat2, RESOLVE_IN_ROOT } from "./openat2.ts";
import { components, type Tree } from "./tree.ts";

/**
 * Paths of a sandbox, found as its own processes would find them: links are followed, but never out of its root. What is found is a
 * handle (O_PATH), so that nothing is opened, waited for or copied up before it is known to be what is wanted. Everything here throws a
 * `Refusal` or a system call's error.
 */

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;

/** Mounted inside, so that from outside only empty directories are there. */
const NOT_ON_DISK = new Set(["dev", "proc", "sys"]);

export interface Ids {
  readonly uid: number;
  readonly gid: number;
}

/**
 * An entry of an open directory, for calls that do not follow a link at the end: lstat, unlink, rmdir, mkdir, rename, link, symlink,
 * readlink, lchown, lutimes, and open with O_NOFOLLOW. No others.
 */
export const at = (directory: number, name: string): string => `/proc/self/fd/${directory}/${name}`;
/** The same for a name as the kernel has it, one character a byte. */
export const atBytes = (directory: number, name: string): Buffer =>
  Buffer.from(at(directory, name), "latin1");
/** What an O_PATH handle is a handle to, for calls that take a path. */
export const through = (fd: number): string => `/proc/self/fd/${fd}`;

export function namesOf(path: string): string[] {
  const names = components(path);
  if (names === undefined)
    throw new Refusal("unsafe-path", path, "a path must be absolute, without `..` and without NUL");
  if (NOT_ON_DISK.has(names[0] ?? "")) throw notOnDisk(path);
  return names;
}

const notOnDisk = (path: string): Refusal =>
  new Refusal("unsafe-path", path, "it is not on the sandbox's disk: reach it with a command inside");

/** A handle to what the path leads to. The caller closes it. */
export function find(tree: Tree, path: string): number {
  const names = namesOf(path);
  const fd = openat2(tree.root, names.length === 0 ? "." : names.join("/"), {
    flags: O_PATH,
    resolve: RESOLVE_IN_ROOT,
  });
  try {
    refuseNotOnDisk(tree, fd, path);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** A link of the sandbox may lead there as well. */
function refuseNotOnDisk(tree: Tree, fd: number, path: string): void {
  const root = readlinkSync(through(tree.root));
  const [name] = readlinkSync(through(fd))
    .slice(root.length + 1)
    .split("/");
  if (NOT_ON_DISK.has(name ?? "")) throw notOnDisk(path);
}

export function withFound<T>(tree: Tree, path: string, use: (fd: number, stat: Stats) => T): T {
  const fd = find(tree, path);
  return closing(fd, () => use(fd, fstatSync(fd)));
}

/** Closes when the work is done, also where it is a promise. */
export function closing<T>(fd: number, work: () => T): T {
  let result: T | undefined;
  try {
    result = work();
  } finally {
    if (!(result instanceof Promise)) closeSync(fd);
  }
  return result instanceof Promise ? (result.finally(() => closeSync(fd)) as T) : result;
}

/** The directory that the last name of the path lies in; the name itself may be a link, or not be there. */
export function withParent<T>(tree: Tree, path: string, use: (directory: number, name: string) => T): T {
  const names = namesOf(path);
  const name = names.pop();
  if (name === undefined) throw new Refusal("unsafe-path", path, "not possible for the root directory");
  const directory = find(tree, `/${names.join("/")}`);
  return closing(directory, () => {
    if (!fstatSync(directory).isDirectory()) throw new Refusal("not-a-directory", path);
    return use(directory, name);
  });
}

/**
 * Until it is finished a new directory has these permissions, by which it is known: in a directory of the agent's own, the agent could put
 * another one in its place, which must not be given away. Only its owner, who is unpacking, can enter it.
 */
const UNFINISHED = 0o1700;

/** A handle to a directory that is made where it is missing, with its parents. The caller closes it. */
export function findOrMakeDirectory(tree: Tree, path: string, ids: Ids, mode: number): number {
  const fd = reach(namesOf(path), (names) => find(tree, `/${names.join("/")}`), ids, mode);
  if (fstatSync(fd).isDirectory()) return fd;
  closeSync(fd);
  throw new Refusal("not-a-directory", path);
}

/** `look` opens what lies that many names down, the start for none of them; what is missing is made. */
export function reach(
  names: readonly string[],
  look: (names: readonly string[]) => number,
  ids: Ids,
  mode: number,
): number {
  // From the end, because most of the path is there.
  for (let there = names.length; ; there--) {
    let fd: number;
    try {
      fd = look(names.slice(0, there));
    } catch (error) {
      if (errnoOf(error) === "ENOENT" && there > 0) continue;
      throw error;
    }
    for (const name of names.slice(there)) fd = closing(fd, () => makeOrEnter(fd, name, ids, mode));
    return fd;
  }
}

function makeOrEnter(directory: number, name: string, ids: Ids, mode: number): number {
  const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  try {
    mkdirSync(at(directory, name), UNFINISHED);
  } catch (error) {
    // Somebody was quicker, or it is a link that leads nowhere.
    if (errnoOf(error) === "EEXIST") return openSync(at(directory, name), flags);
    throw error;
  }
  const fd = openSync(at(directory, name), flags);
  const stat = fstatSync(fd);
  if ((stat.mode & 0o7777) === UNFINISHED && stat.uid === process.geteuid?.()) {
    fchownSync(fd, ids.uid, ids.gid);
    fchmodSync(fd, mode);
  }
  return fd;
}

export function fileStat(tree: Tree, path: string, stat: Stats, target?: string): FileStat {
  return {
    path,
    type: typeOf(stat),
    size: stat.size,
    mode: stat.mode & 0o7777,
    uid: tree.ids.toSandbox(stat.uid),
    gid: tree.ids.toSandbox(stat.gid),
    modifiedMs: stat.mtimeMs,
    ...(target === undefined ? {} : { target }),
  };
}

function typeOf(stat: Stats): FileStat["type"] {
  if (stat.isFile()) return "file";
  if (stat.isDirectory()) return "directory";
  if (stat.isSymbolicLink()) return "symlink";
  if (stat.isFIFO()) return "fifo";
  return stat.isSocket() ? "socket" : "device";
}

/** Of the entry itself, with the target of a link. `name` is as the kernel has it. */
export function statEntry(tree: Tree, path: string, directory: number, name: string): FileStat {
  const entry = atBytes(directory, name);
  const stat = lstatSync(entry);
  return fileStat(tree, path, stat, stat.isSymbolicLink() ? readlinkSync(entry) : undefined);
}
