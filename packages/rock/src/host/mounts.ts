import { existsSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { rm } from "node:fs/promises";
import koffi from "koffi";
import { Limiter } from "./limiter.ts";
import { MNT_DETACH, unmount } from "./native.ts";

/** What is mounted where, as this process sees it. */

const octal = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

/** Mount points at `path` or below it, deepest last. */
export function mountsUnder(
  path: string,
  mountinfo = readFileSync("/proc/self/mountinfo", "utf8"),
): string[] {
  return mountinfo
    .split("\n")
    .map((line) => octal(line.split(" ")[4] ?? ""))
    .filter((target) => target === path || target.startsWith(`${path}/`));
}

/** By its real path. */
export function isMountPoint(path: string): boolean {
  if (!existsSync(path)) return false;
  const real = realpathSync(path);
  return mountsUnder(real).includes(real);
}

/**
 * Removes a directory with everything in it, and nothing that is only mounted there: what a killed program leaves mounted may be the
 * host's own. Throws, and removes nothing, where a mount cannot be detached.
 */
export function removeTree(path: string): void {
  const real = detachTree(path);
  if (real !== undefined) rmSync(real, { recursive: true, force: true });
}

/** The same beside the event loop, for trees of many files. */
export async function removeTreeAside(path: string): Promise<void> {
  const real = detachTree(path);
  if (real !== undefined) await rm(real, { recursive: true, force: true });
}

function detachTree(path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  // The kernel knows mounts by their real path.
  const real = realpathSync(path);
  for (const target of mountsUnder(real).reverse()) unmount(target);
  const left = mountsUnder(real);
  if (left.length > 0) throw new Error(`${left[0]} is still mounted, so ${path} is not removed`);
  return real;
}

let umount2: ReturnType<ReturnType<typeof koffi.load>["func"]> | undefined;

/** Detaches a mount beside the event loop: the last user of a file system in memory gives back all of it. False where nothing was mounted. */
export function unmountAside(target: string): Promise<boolean> {
  umount2 ??= koffi.load("libc.so.6").func("int umount2(const char *target, int flags)");
  const call = umount2;
  return asides.run(
    () =>
      new Promise((resolve, reject) => {
        call.async(target, MNT_DETACH, (error: unknown, result: number) => {
          if (error) reject(error);
          else resolve(result === 0);
        });
      }),
  );
}

/** A thousand sandboxes may end at once, and there are not as many threads. */
const asides = new Limiter(16);
