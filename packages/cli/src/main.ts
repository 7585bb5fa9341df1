#!/usr/bin/env node
import { runCli } from "./cli.ts";
import { EXIT } from "./exit-codes.ts";

/** The process around the CLI: signals, broken pipes, the exit code. Everything else is in cli.ts. */

// An ordinary user can have sandboxes in a namespace that only a fresh process can enter.
if (process.getuid?.() !== 0) (await import("@ale/rock")).enterRootless();

const controller = new AbortController();

function stop(exitCode: number): void {
  if (controller.signal.aborted) {
    process.stderr.write("\nforced; whatever was left behind is cleaned up by the next run\n");
    process.exit(exitCode);
  }
  process.stderr.write("\nstopping (once more to force)\n");
  controller.abort(exitCode);
}
process.on("SIGINT", () => stop(EXIT.interrupted));
process.on("SIGTERM", () => stop(EXIT.terminated));
process.on("SIGHUP", () => stop(EXIT.terminated));
// A reader that has seen enough (`ale episodes ls | head`) is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(EXIT.ok);
  throw error;
});

process.exit(
  await runCli(
    { argv: process.argv.slice(2), env: process.env, stdout: process.stdout, stderr: process.stderr },
    controller.signal,
  ),
);
