import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** Writes a file under a name that nobody looks for, to be given its own as a whole. Returns its path. Only the owner can read it. */
export function writeDraft(directory: string, value: unknown): string {
  const path = join(directory, `.draft-${process.pid}-${randomBytes(6).toString("hex")}`);
  writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600, flag: "wx" });
  return path;
}
