import { posix } from "node:path";
import type { Instance, SandboxFile, TestResult, Verdict } from "@ale/core";
import type { Sandbox } from "@ale/rock";

/**
 * Says what an episode was worth. What the agent left running is ended first; only then are the verifier's files put into the
 * sandbox, where only root can see them, and run as root by a program that shares nothing with the agent's shell. The reward is read
 * as Harbor reads it: one number from the reward file, the exit code being ignored; no file, an empty one or no number means that
 * nothing can be said of the agent.
 */

/** Makes the verifier's directories unreadable for everyone else, then becomes the verifier. One process start less than two. */
const PROLOGUE = 'if [ $# -gt 0 ]; then chmod 700 "$@"; fi; eval "$COMMAND"';

const MAX_REWARD_BYTES = 4096;

/**
 * Runs the instance's verifier in the sandbox. Never throws for what the sandbox does: every failure of the environment is a verdict
 * with `environmentFault` and reward null. Throws only when `signal` is aborted. Can be repeated on the same sandbox.
 */
export async function verify(sandbox: Sandbox, instance: Instance, signal?: AbortSignal): Promise<Verdict> {
  const beganAt = performance.now();
  const { verifier } = instance;
  const verdict = (reward: number | null, tests: TestResult[], environmentFault?: string): Verdict => ({
    reward,
    tests,
    ...(environmentFault === undefined ? {} : { environmentFault }),
    durationMs: performance.now() - beganAt,
  });
  // Otherwise an agent could turn every failure into a fault of the environment by filling its disk.
  const noRoom = (): Verdict =>
    verdict(0, [{ name: "room-for-verifier", passed: false, message: "the sandbox's disk is full" }]);
  const fault = (what: string, tests: TestResult[] = []): Verdict => verdict(null, tests, what);

  try {
    await sandbox.killAgentProcesses(signal);
    // Empty, so that a verifier which dies early is told apart from one that says 0, and an earlier verdict is not read again.
    const rewardFile: SandboxFile = { path: verifier.rewardPath, content: "", mode: 0o600, owner: "root" };
    const uploaded = await sandbox.writeFiles([...verifier.files, rewardFile], signal);
    if (!uploaded.ok) return fault(`verifier not uploaded: ${uploaded.error.type} ${uploaded.error.path}`);

    const result = await sandbox.exec(
      {
        argv: [
          "/bin/bash",
          "-c",
          PROLOGUE,
          "verifier",
          ...privateDirectories([...verifier.files, rewardFile]),
        ],
        user: "root",
        cwd: "/",
        env: { COMMAND: verifier.command },
        timeoutMs: verifier.timeoutMs,
      },
      signal,
    );
    signal?.throwIfAborted();
    const tests = testResults(result.stdout);
    if (result.timedOut) return fault(`verifier ran longer than ${verifier.timeoutMs} ms`, tests);
    if (result.exitCode === null) return fault("verifier was killed", tests);

    const file = await sandbox.readFile(verifier.rewardPath, { maxBytes: MAX_REWARD_BYTES }, signal);
    if (!file.ok) return fault(`no reward: ${file.error.type} ${file.error.path}`, tests);
    const text = new TextDecoder().decode(file.value).trim();
    if (text === "")
      return (await isOwnDiskFull(sandbox, signal))
        ? noRoom()
        : fault(`no reward: ${verifier.rewardPath} is empty`, tests);
    const reward = rewardOf(text);
    if (reward === null)
      return fault(`no reward: ${JSON.stringify(text.slice(0, 80))} is not a number`, tests);
    if (reward < 0 || reward > 1) return fault(`reward ${reward} is outside 0 to 1`, tests);
    return verdict(reward, tests);
  } catch (error) {
    signal?.throwIfAborted();
    if (isNoSpace(error) && (await isOwnDiskFull(sandbox, signal))) return noRoom();
    return fault(`sandbox failed while verifying: ${error instanceof Error ? error.message : String(error)}`);
  }
}

const isNoSpace = (error: unknown): boolean =>
  error instanceof Error && ((error as NodeJS.ErrnoException).code === "ENOSPC" || isNoSpace(error.cause));

/** Whether the disk that the instance's limits grant is full (of bytes or of files), as opposed to the host's. */
async function isOwnDiskFull(sandbox: Sandbox, signal?: AbortSignal): Promise<boolean> {
  const request = { argv: ["df", "-B1", "--output=size,pcent,ipcent", "/"], user: "root" } as const;
  const result = await sandbox.exec(request, signal).catch(() => null);
  const [size, bytesUsed, filesUsed] = (result?.stdout.match(/\d+/g) ?? []).slice(-3).map(Number);
  const isOwn = size !== undefined && size <= sandbox.spec.limits.diskBytes * 1.1;
  return isOwn && (bytesUsed === 100 || filesUsed === 100);
}

/** The verifier's own directories among those of its files: Harbor's two, and what lies below them. */
function privateDirectories(files: readonly SandboxFile[]): string[] {
  const directories = files.map(({ path }) => posix.dirname(path));
  return [...new Set(directories)].filter((path) => /^\/(tests|logs\/verifier)(\/|$)/.test(path));
}

/** One finite decimal number, as Python's float() reads it; null for anything else. */
export function rewardOf(text: string): number | null {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : null;
}

/** Lines `PASS name` and `FAIL name` of the verifier's output, in order. Other lines mean nothing. */
export function testResults(output: string): TestResult[] {
  return [...output.matchAll(/^(PASS|FAIL) (\S.*)$/gm)].map((match) => ({
    name: match[2]!.trim(),
    passed: match[1] === "PASS",
  }));
}
