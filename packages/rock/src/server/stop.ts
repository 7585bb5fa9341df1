import { setTimeout as sleep } from "node:timers/promises";
import { AleError } from "@ale/core";
import { isAlive } from "../host/owner.ts";
import { findServer, type Served } from "./lease.ts";

/** A server has its streams and its sandboxes to end. */
const LONGEST_END_MS = 60_000;

/**
 * Ends the server of a home as Ctrl-C does, and resolves when its process is gone: its sandboxes stop and keep their files. Undefined where
 * there was none. Throws an AleError `server-not-ended`.
 */
export async function stopServer(home: string, signal?: AbortSignal): Promise<Served | undefined> {
  const served = findServer(home);
  if (served === undefined) return undefined;
  const { pid } = served.owner;
  try {
    process.kill(pid, "SIGTERM");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EPERM")
      throw new AleError("server-not-ended", `process ${pid} is another user's`, {
        cause,
        next: "end it as that user, or as root",
      });
    // It was just ending.
  }
  const deadline = performance.now() + LONGEST_END_MS;
  while (isAlive(served.owner)) {
    if (performance.now() > deadline)
      throw new AleError("server-not-ended", `process ${pid} was told to end, and has not after a minute`, {
        next: `end it by force: kill -9 ${pid}; the next server or ale rock gc clears up`,
      });
    await sleep(20, undefined, signal ? { signal } : {});
  }
  return served;
}
