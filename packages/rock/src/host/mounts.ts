import { existsSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { unmount } from "./native.ts";

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

/**
 * Removes a directory with everything in it, and nothing that is only mounted there: what a killed program leaves mounted may be the
 * host's own. Throws, and removes nothing, where a mount cannot be detached.
 */
export function removeTree(path: string): void {
  if (!existsSync(path)) return;
  // The kernel knows mounts by their real path.
  const real = realpathSync(path);
  for (const target of mountsUnder(real).reverse()) unmount(target);
  const left = mountsUnder(real);
  if (left.length > 0) throw new Error(`${left[0]} is still mounted, so ${path} is not removed`);
  rmSync(real, { recursive: true, force: true });
}
