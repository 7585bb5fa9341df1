import { AleError, type InstallStep, type Instance } from "@ale/core";
import { policyText, type Sandbox } from "@ale/rock";

/**
 * Runs what an instance wants done before the agent begins. What its commands leave running goes on running, with the network of the phase that
 * follows. The caller has the sandbox in the install phase.
 */

export type OnInstall = (step: InstallStep) => void;

/** Throws an AleError `install-failed` for the first command that does not exit with 0, after it has been told, and what the sandbox throws. */
export async function runInstall(
  sandbox: Sandbox,
  instance: Instance,
  onStep: OnInstall = () => {},
  signal?: AbortSignal,
): Promise<void> {
  const { install, workdir } = instance;
  if (install === undefined) return;
  const deadline = performance.now() + install.timeoutMs;
  for (const [step, { command, user }] of install.commands.entries()) {
    const timeoutMs = Math.max(1, Math.ceil(deadline - performance.now()));
    const result = await sandbox.exec(
      { argv: ["/bin/bash", "-c", command], user, cwd: workdir, env: install.env, timeoutMs },
      signal,
    );
    signal?.throwIfAborted();
    const { exitCode, timedOut, stdout, stderr, outputBytes, durationMs } = result;
    const network = policyText(sandbox.spec.network);
    onStep({
      type: "install",
      step,
      command,
      user,
      network,
      exitCode,
      timedOut,
      stdout,
      stderr,
      outputBytes,
      durationMs,
    });
    if (exitCode === 0) continue;
    const how = timedOut
      ? `was not done within the ${install.timeoutMs} ms that all commands have together`
      : exitCode === null
        ? "was killed"
        : `exited with ${exitCode}`;
    const said = (stderr.trim() || stdout.trim()).split("\n").at(-1) ?? "";
    throw new AleError(
      "install-failed",
      `command ${step + 1} of the install step ${how}${said === "" ? "" : `: ${said.slice(0, 300)}`}`,
      {
        next: "its output is in the episode's log; check the command, `networkPhases.install` and the limits",
      },
    );
  }
}
