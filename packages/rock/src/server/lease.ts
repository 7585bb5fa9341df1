import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createWhole } from "@ale/core/create-whole";
import { AleError } from "@ale/core/result";
import { z } from "zod";
import { isAlive, self } from "../host/owner.ts";

/**
 * `serve.json`: that a server works on this home, where it listens, and the token of the local command line. One server a home: who
 * made the file owns the home until its process is gone.
 */

const Served = z.object({
  schema: z.literal("ale/rock-serve@1"),
  url: z.string().nullable(),
  /** PEM of the certificate, where the server has a certificate of its own making. */
  ca: z.string().nullable(),
  token: z.string().nullable(),
  startedAtMs: z.number(),
  owner: z.object({ pid: z.number(), startTime: z.number(), bootId: z.string() }),
});
export type Served = z.infer<typeof Served>;

export const serveFile = (home: string): string => join(home, "rock", "serve.json");

/** The living server of a home; undefined where there is none, or only what a crashed one left. */
export function findServer(home: string): Served | undefined {
  const path = serveFile(home);
  const served = readServed(path);
  return served !== undefined && isAlive(served.owner) ? served : undefined;
}

export class ServeLease {
  readonly #path: string;
  #served: Served;

  private constructor(path: string, served: Served) {
    this.#path = path;
    this.#served = served;
  }

  /** Throws an AleError `already-served` that names the process. */
  static take(home: string): ServeLease {
    const path = serveFile(home);
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const served: Served = {
      schema: "ale/rock-serve@1",
      url: null,
      ca: null,
      token: null,
      startedAtMs: Date.now(),
      owner: self(),
    };
    for (let attempt = 0; attempt < 3; attempt++) {
      if (createWhole(path, JSON.stringify(served))) return new ServeLease(path, served);
      refuseIfServed(home);
      // A crashed server's. Two that find it at once both remove it, and one of them is then first.
      rmSync(path, { force: true });
    }
    throw new AleError("already-served", `another server is just starting on ${home}`, {
      next: "wait for it, or use another home",
    });
  }

  publish(what: { readonly url: string; readonly token: string | null; readonly ca: string | null }): void {
    this.#served = { ...this.#served, ...what };
    const fresh = `${this.#path}.new`;
    writeFileSync(fresh, JSON.stringify(this.#served), { mode: 0o600 });
    renameSync(fresh, this.#path);
  }

  release(): void {
    rmSync(this.#path, { force: true });
  }
}

function refuseIfServed(home: string): void {
  const served = findServer(home);
  if (served === undefined) return;
  const { owner, url } = served;
  throw new AleError(
    "already-served",
    `process ${owner.pid} serves ${home} already${url ? ` at ${url}` : ""}`,
    {
      next: "use that server, end it (ale rock serve --stop), or choose another home",
    },
  );
}

function readServed(path: string): Served | undefined {
  try {
    return Served.safeParse(JSON.parse(readFileSync(path, "utf8"))).data;
  } catch {
    return undefined;
  }
}
