import { randomBytes } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AleError } from "./result.ts";

const PAGE = 4_096;

/**
 * Asked before something is started whose own words about a full disk nobody would read. Writes a page into a directory that is there, and
 * takes it back. Throws an AleError `disk-full`, or what writing throws.
 */
export function refuseFullDisk(directory: string): void {
  const path = join(directory, `.room-${process.pid}-${randomBytes(4).toString("hex")}`);
  try {
    writeFileSync(path, Buffer.alloc(PAGE), { flag: "wx" });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== "ENOSPC" && code !== "EDQUOT") throw cause;
    throw new AleError("disk-full", `there is no room left in ${directory}`, {
      cause,
      next: "make room there (df -h), or choose another place with --home",
    });
  } finally {
    rmSync(path, { force: true });
  }
}
