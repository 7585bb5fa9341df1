import { closeSync, constants, fstatSync, lstatSync, readdirSync, type Stats } from "node:fs";
import { errnoOf, Refusal } from "./errors.ts";
import { atBytes, through } from "./located.ts";
import { openUnnoticed } from "./openat2.ts";
import { Pacer } from "./pacer.ts";

/**
 * Goes through all that lies below a directory, while hostile processes change it. It never follows a link and holds one descriptor
 * however deep the tree is: the way back up is `..`, believed only where it leads to the directory that was left. Whatever is moved away
 * meanwhile is left out, as is what vanishes. Names are as the kernel has them, one character a byte.
 */

const FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

export interface Step {
  /** `left`: everything below this directory has been seen. */
  readonly type: "entry" | "left";
  /** What it lies in; open until the next step. */
  readonly directory: number;
  readonly name: string;
  /** From the top, e.g. "a/b". */
  readonly path: string;
  readonly stat: Stats;
}

interface Level {
  /** "" for the top. */
  readonly name: string;
  readonly path: string;
  readonly stat: Stats;
  readonly names: string[];
}

/** A directory comes before what lies in it; siblings are sorted by their bytes. `enter` says which directories are gone through. */
export async function* walk(
  top: number,
  enter: (step: Step) => boolean = () => true,
): AsyncGenerator<Step, void, void> {
  const pacer = new Pacer();
  const levels: Level[] = [];
  let current = openUnnoticed(through(top), FLAGS & ~constants.O_NOFOLLOW);
  try {
    levels.push(level("", "", current));
    for (;;) {
      await pacer.breathe();
      const here = levels[levels.length - 1]!;
      const name = here.names.pop();
      if (name === undefined) {
        levels.pop();
        if (levels.length === 0) return;
        const kept = levels.length;
        const parent = back(top, current, levels);
        closeSync(current);
        current = parent;
        if (levels.length === kept)
          yield { type: "left", directory: current, name: here.name, path: here.path, stat: here.stat };
        continue;
      }
      const step = look(current, here, name);
      if (step === undefined) continue;
      yield step;
      if (!step.stat.isDirectory() || !enter(step)) continue;
      const child = tryOpen(current, name);
      if (child === undefined) continue;
      closeSync(current);
      current = child;
      levels.push(level(name, step.path, current));
    }
  } finally {
    closeSync(current);
  }
}

function level(name: string, path: string, fd: number): Level {
  const names = readdirSync(through(fd), { encoding: "latin1" }).sort().reverse();
  return { name, path, stat: fstatSync(fd), names };
}

function look(directory: number, here: Level, name: string): Step | undefined {
  try {
    const path = here.path === "" ? name : `${here.path}/${name}`;
    return { type: "entry", directory, name, path, stat: lstatSync(atBytes(directory, name)) };
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** Undefined where it is no directory any more. */
function tryOpen(directory: number, name: string): number | undefined {
  try {
    return openUnnoticed(atBytes(directory, name), FLAGS);
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "ELOOP"].includes(errnoOf(error))) return undefined;
    throw error;
  }
}

const isSame = (fd: number, expected: Stats): boolean => {
  const { dev, ino } = fstatSync(fd);
  return dev === expected.dev && ino === expected.ino;
};

/** The deepest of the levels that can be reached. Those below it are dropped. */
function back(top: number, current: number, levels: Level[]): number {
  const parent = tryOpen(current, "..");
  if (parent !== undefined) {
    if (isSame(parent, levels[levels.length - 1]!.stat)) return parent;
    closeSync(parent);
  }
  let fd = openUnnoticed(through(top), FLAGS & ~constants.O_NOFOLLOW);
  if (!isSame(fd, levels[0]!.stat)) {
    closeSync(fd);
    throw new Refusal("sandbox-gone", "/");
  }
  for (let depth = 1; depth < levels.length; depth++) {
    const { name, stat } = levels[depth]!;
    const next = tryOpen(fd, name);
    if (next === undefined || !isSame(next, stat)) {
      if (next !== undefined) closeSync(next);
      levels.length = depth;
      break;
    }
    closeSync(fd);
    fd = next;
  }
  return fd;
}
