#!/usr/bin/env node
import { enableCompileCache } from "node:module";
import { join } from "node:path";
import { EXIT } from "./exit-codes.ts";

/** The process around the CLI: signals, broken pipes, the exit code. Everything else is in cli.ts. */

// Beside the code that it is made from, so that whoever could change it could change that too. Must come before what it is to cache.
enableCompileCache(join(import.meta.dirname, "../../../node_modules/.cache/ale"));
const { runCli } = await import("./cli.ts");

const controller = new AbortController();

/** Somebody has asked for the end, and not only a terminal that was closed. */
let asked = false;

function stop(exitCode: number): void {
  if (asked) {
    process.stderr.write("\nforced; whatever was left behind is cleaned up by the next run\n");
    process.exit(exitCode);
  }
  asked = true;
  end(exitCode);
}

function end(exitCode: number): void {
  if (controller.signal.aborted) return;
  controller.abort(exitCode);
  // Most are over before anybody could wonder.
  if (exitCode !== EXIT.ok)
    setTimeout(() => process.stderr.write("\nstopping (once more to force)\n"), 300).unref();
}
process.on("SIGINT", () => stop(EXIT.interrupted));
process.on("SIGTERM", () => stop(EXIT.terminated));
// A terminal that is closed hangs up more than once, by its shell and by the kernel: that never forces.
process.on("SIGHUP", () => end(EXIT.terminated));
// A reader that has seen enough (`ale episodes ls | head`) is no error, and what was begun comes to its orderly end.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") end(EXIT.ok);
  else unlessClosed(error);
});
process.stderr.on("error", unlessClosed);
process.stdin.on("error", unlessClosed);

/** Of a terminal that is gone nothing is read or written any more; the hang-up says what to do about it. */
function unlessClosed(error: NodeJS.ErrnoException): void {
  if (error.code !== "EIO" && error.code !== "EPIPE") throw error;
}

const exitCode = await runCli(
  {
    argv: process.argv.slice(2),
    env: process.env,
    stdout: process.stdout,
    stderr: process.stderr,
    stdin: process.stdin,
    // A namespace that only a fresh process can enter.
    enterRootless: async () => (await import("@ale/rock/rootless")).enterRootless(),
  },
  controller.signal,
);
await Promise.all([written(process.stdout), written(process.stderr)]);
process.exit(exitCode);

/** What was said may still wait for a slow reader of a pipe; exiting would drop it. One that has gone waits for nothing. */
function written(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => stream.write("", () => resolve()));
}
