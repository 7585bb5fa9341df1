import { readFileSync } from "node:fs";
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

/** Detaches every mount at `path` or below, newest first, so that removing the directory never reaches into a mount. */
export function unmountUnder(path: string): void {
  for (const target of mountsUnder(path).reverse()) unmount(target);
}
