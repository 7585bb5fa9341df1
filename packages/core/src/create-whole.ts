import { randomBytes } from "node:crypto";
import { linkSync, unlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** How a file begins to be called that is still being written; a process that was killed leaves one. */
export const DRAFT = ".draft-";

/**
 * Makes a file that appears whole or not at all. False where the name is taken: of several processes
 * exactly one gets it. Throws what writing throws.
 */
export function createWhole(path: string, text: string, mode = 0o600): boolean {
  const draft = join(dirname(path), `${DRAFT}${process.pid}-${randomBytes(6).toString("hex")}`);
  writeFileSync(draft, text, { mode, flag: "wx" });
  try {
    linkSync(draft, path);
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw cause;
  } finally {
    unlinkSync(draft);
  }
}
