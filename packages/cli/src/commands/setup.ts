import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { AleError } from "@ale/core";
import { ensureBaseImage } from "@ale/rock";
import { defineUsage, parseArguments } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { REPOSITORY } from "../versions.ts";

/** The parts that are made on this machine once: the sandboxes' base image and the engine's Python environment. */

const imageUsage = defineUsage({
  positionals: "",
  options: {},
  notes: `
Bootstraps a minimal Debian from this machine's own package sources into $ALE_HOME/images, once; about 120 MB.
Needs root and mmdebstrap (or debootstrap).`,
});

export const image: Action = {
  usage: imageUsage,
  async run(argv, io, signal) {
    parseArguments(imageUsage, argv);
    const startedAt = performance.now();
    const made = await ensureBaseImage(
      io.home,
      {
        onProgress: ({ step, elapsedMs }) =>
          io.progress.status(`${step} (${(elapsedMs / 1000).toFixed(0)} s)`),
      },
      signal,
    );
    const seconds = (performance.now() - startedAt) / 1000;
    io.print(`${made.name} ${made.version}: ${made.rootfs}`);
    io.result({ image: made.name, version: made.version, rootfs: made.rootfs, seconds });
    return EXIT.ok;
  },
};

const engineUsage = defineUsage({
  positionals: "",
  options: { dev: { type: "boolean", help: "with what the engine's tests need" } },
  notes: "Makes $ALE_HOME/engine/venv with engine/setup.sh; what is there already is kept.",
});

export const engine: Action = {
  usage: engineUsage,
  async run(argv, io, signal) {
    const { values } = parseArguments(engineUsage, argv);
    const venv = resolve(io.home, "engine/venv");
    const startedAt = performance.now();
    const exitCode = await runScript(
      resolve(REPOSITORY, "engine/setup.sh"),
      values.dev ? [venv, "--dev"] : [venv],
      signal,
    );
    if (exitCode !== 0 && !signal.aborted)
      throw new AleError("engine-setup", `engine/setup.sh ended with exit code ${exitCode}`, {
        next: "read its last lines above; after mending what they name, run `ale setup engine` again",
      });
    const seconds = (performance.now() - startedAt) / 1000;
    io.print(`engine: ${venv}`);
    io.result({ venv, seconds });
    return EXIT.ok;
  },
};

/** Its output goes to our stderr; stdout is for the result. */
function runScript(script: string, args: readonly string[], signal: AbortSignal): Promise<number> {
  return new Promise((done, fail) => {
    const child = spawn("bash", [script, ...args], { stdio: ["ignore", 2, 2] });
    const end = (): void => {
      child.kill("SIGTERM");
    };
    signal.addEventListener("abort", end, { once: true });
    child.on("error", fail);
    child.on("close", (code) => {
      signal.removeEventListener("abort", end);
      done(code ?? EXIT.environment);
    });
  });
}
