import { spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { AleError, refuseFullDisk } from "@ale/core";
import { findServer, type RockServer } from "@ale/rock/server";
import { z } from "zod";
import { EXIT } from "../exit-codes.ts";

/**
 * `ale rock serve` in the background. What it says goes to a log; where it listens, and the first token, which belongs in no file, it
 * tells the command that started it over a channel of their own.
 */

const Started = z.object({
  url: z.string(),
  token: z.string().optional(),
  /** What sandboxes of this server will lack. */
  warning: z.string().optional(),
});

export interface DetachedServer extends z.infer<typeof Started> {
  readonly pid: number;
  readonly log: string;
}

/** In the server's process. False where nobody waits to be told, as in a terminal. */
export function tellStarter({ url, firstToken }: RockServer, warning: string | undefined): boolean {
  if (process.send === undefined) return false;
  process.send(
    { url, token: firstToken, warning } satisfies z.infer<typeof Started>,
    undefined,
    undefined,
    () => {
      process.disconnect();
    },
  );
  return true;
}

const START_MS = 60_000;

/** `argv` are its own options. Throws an AleError: `already-served`, `server-start-failed` in the server's own words. */
export async function startDetached(
  home: string,
  argv: readonly string[],
  signal: AbortSignal,
): Promise<DetachedServer> {
  const running = findServer(home);
  if (running?.url != null)
    throw new AleError("already-served", `a server works on ${home} already: ${running.url}`, {
      next: "use it, or end it: ale rock serve --stop",
    });
  mkdirSync(join(home, "logs"), { recursive: true });
  // What it says about that would not get into its log.
  refuseFullDisk(join(home, "logs"));
  const log = join(home, "logs", "rock-serve.log");
  const fd = openSync(log, "a", 0o600);
  const main = join(import.meta.dirname, "..", "main.ts");
  const child = spawn(
    process.execPath,
    [...process.execArgv, main, "--home", home, "rock", "serve", ...argv],
    { detached: true, stdio: ["ignore", fd, fd, "ipc"] },
  );
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(START_MS)]);
  const outcome = await new Promise<DetachedServer | AleError>((resolve) => {
    child.once("message", (message) => resolve({ ...Started.parse(message), pid: child.pid!, log }));
    child.once("error", (error) => resolve(startFailure(log, String(error))));
    child.once("exit", (code) =>
      resolve(startFailure(log, `it ended with exit code ${code ?? EXIT.environment}`)),
    );
    deadline.addEventListener("abort", () => {
      child.kill("SIGTERM");
      resolve(
        new AleError("server-start-failed", "the server did not start in time", { next: `read ${log}` }),
      );
    });
  });
  if (child.connected) child.disconnect();
  child.unref();
  if (outcome instanceof AleError) throw outcome;
  return outcome;
}

/** In its own words, which end its log. */
function startFailure(log: string, otherwise: string): AleError {
  const lines = readFileSync(log, "utf8").trimEnd().split("\n");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes begin with one
  const plain = lines.map((line) => line.replace(/\u001b\[[0-9;]*m/g, ""));
  const message = plain.findLast((line) => line.startsWith("error: "))?.slice("error: ".length);
  const next = plain
    .findLast((line) => line.startsWith("next:"))
    ?.slice("next:".length)
    .trim();
  return new AleError("server-start-failed", message ?? `the server did not start: ${otherwise}`, {
    next: next ?? `read ${log}`,
  });
}
