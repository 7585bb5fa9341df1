import { mkdirSync, renameSync, rmSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { AleError } from "@ale/core/result";

/**
 * Files and folders that a person names. Node's own `mkdir` with `recursive` never returns below a folder that is there and can hold none
 * (/proc): here one folder is made at a time, and what the disk refuses is told with what to do.
 */

/** Makes a folder and those above it. Throws `out-invalid` where there can be none, `out-refused` where the disk says no. */
export function makeFolder(path: string): void {
  try {
    makeWithParents(path);
  } catch (error) {
    throw outRefusal((error as NodeJS.ErrnoException).path ?? path, "cannot be made", error);
  }
}

/** Writes a file whole or not at all, in a folder that is there. Throws like `makeFolder`. */
export function writeWhole(path: string, content: string | Uint8Array): void {
  // A device or a pipe takes what comes; renaming would replace it.
  const isSpecial = statSync(path, { throwIfNoEntry: false })?.isFile() === false;
  const fresh = isSpecial ? path : join(dirname(path), `.${basename(path)}.${process.pid}.part`);
  try {
    writeFileSync(fresh, content);
    if (!isSpecial) renameSync(fresh, path);
  } catch (error) {
    if (!isSpecial) rmSync(fresh, { force: true });
    throw outRefusal(path, "cannot be written", error);
  }
}

/** Said before anything is done in a home that there cannot be. Throws `out-invalid`. */
export function refuseImpossibleHome(home: string): void {
  const next = "choose a folder that can be written: --home DIR";
  const above = nearestThere(home);
  if (above === undefined) return;
  if (!statSync(above).isDirectory())
    throw new AleError("out-invalid", `${home} cannot be a home: ${above} is a file`, { next });
  if (above !== home && statfsSync(above).type === PROC_SUPER_MAGIC)
    throw new AleError("out-invalid", `${home} cannot be a home: nothing can be made in ${above}`, { next });
}

/** linux/magic.h: every name in it is the kernel's, and making one fails as if its folder were not there. */
const PROC_SUPER_MAGIC = 0x9fa0;

/** The longest beginning of a path that is there; undefined where that cannot be seen. */
function nearestThere(path: string): string | undefined {
  try {
    if (statSync(path, { throwIfNoEntry: false }) !== undefined) return path;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOTDIR") return undefined;
  }
  return nearestThere(dirname(path));
}

function makeWithParents(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return;
  if (dirname(path) !== path) makeWithParents(dirname(path));
  try {
    mkdirSync(path);
  } catch (error) {
    // Somebody else may have made it meanwhile.
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) throw error;
  }
}

/** Of a path that is wrong whoever asks. All else is the machine's to refuse. */
const WRONG: Readonly<Record<string, string>> = {
  ENOENT: "nothing can be made there",
  ENOTDIR: "a part of the path is a file",
  EEXIST: "there is a file of that name",
  EISDIR: "there is a folder of that name",
  ENAMETOOLONG: "the name is too long",
  ELOOP: "its links lead in a circle",
  EINVAL: "that file system takes no such name",
};

/** What the machine refuses, wherever it happens. `place`: what to say of choosing another one. */
export function diskRefusal(
  code: string | undefined,
  place: string,
): { readonly why: string; readonly next: string } | undefined {
  switch (code) {
    case "EACCES":
      return { why: "permission denied", next: `make it writable for you, or ${place}` };
    case "EPERM":
      return { why: "not permitted", next: `make it writable for you, or ${place}` };
    case "EROFS":
      return { why: "the file system is mounted read-only", next: place };
    case "ENOSPC":
      return { why: "no space left on the disk", next: "free some space, then run the same command again" };
    case "EDQUOT":
      return {
        why: "your share of the disk is used up",
        next: "free some space, then run the same command again",
      };
    default:
      return undefined;
  }
}

/** A failure while a named file was written, as a person should read it; whatever is of another place comes back as it is. */
export function outRefusal(path: string, what: string, error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof AleError) return error;
  const { code, path: place } = error as NodeJS.ErrnoException;
  const folder = dirname(resolve(path));
  if (place !== undefined && !isAbove(resolve(place), folder) && !isAbove(folder, resolve(place)))
    return error;
  const wrong = WRONG[code ?? ""];
  const next = "choose another place";
  if (wrong !== undefined)
    return new AleError("out-invalid", `${path} ${what}: ${wrong}`, { next, cause: error });
  const refused = diskRefusal(code, next);
  if (refused === undefined) return error;
  return new AleError("out-refused", `${path} ${what}: ${refused.why}`, { next: refused.next, cause: error });
}

const isAbove = (folder: string, path: string): boolean =>
  path === folder || path.startsWith(folder === "/" ? "/" : `${folder}/`);
