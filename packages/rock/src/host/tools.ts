import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/** System directories are searched too: an ordinary user's PATH often lacks them. */
const SYSTEM_PATH = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"];

/** Absolute path of a program, or undefined. */
export function findTool(name: string, path = process.env.PATH ?? ""): string | undefined {
  for (const directory of [...path.split(delimiter), ...SYSTEM_PATH]) {
    if (directory === "") continue;
    const candidate = join(directory, name);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not in this directory.
    }
  }
  return undefined;
}
