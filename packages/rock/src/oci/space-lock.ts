import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { tryLock } from "../host/native.ts";
import { self } from "../host/owner.ts";

/** Who owns a durable space: the process that holds the lock on a file in it. The lock goes with the process, however that ends. */

const { O_RDWR, O_CREAT } = constants;

const lockFile = (space: string): string => join(space, ".owner");

/** Throws an AleError `space-in-use` that names the process. */
export function lockSpace(space: string): Disposable {
  const fd = openSync(lockFile(space), O_RDWR | O_CREAT, 0o600);
  if (!tryLock(fd)) {
    closeSync(fd);
    const owner = ownerOf(space);
    throw new AleError(
      "space-in-use",
      `the sandboxes under ${space} belong to ${owner === undefined ? "another process" : `process ${owner}`}`,
      { next: "talk to that server, end it, or give this one another name or home" },
    );
  }
  ftruncateSync(fd);
  writeSync(fd, JSON.stringify(self()), 0);
  return { [Symbol.dispose]: () => closeSync(fd) };
}

/** Whether a process owns it now. */
export function isOwned(space: string): boolean {
  try {
    const fd = openSync(lockFile(space), O_RDWR);
    const free = tryLock(fd);
    closeSync(fd);
    return !free;
  } catch {
    return false;
  }
}

function ownerOf(space: string): number | undefined {
  try {
    const { pid } = JSON.parse(readFileSync(lockFile(space), "utf8")) as { pid?: unknown };
    return typeof pid === "number" ? pid : undefined;
  } catch {
    return undefined;
  }
}
