import type { Sandbox } from "../../port/sandbox.ts";
import type { Session } from "../../port/session.ts";
import type { NohupSubmission } from "./nohup.ts";

/**
 * Programs that the SDK started in the background of a session. The SDK asks every few seconds whether the process lives, which makes
 * every job last as long; so a question is answered when the process ends, or after a while that no client gives up in. And its exit code,
 * which the SDK cannot ask for, is fetched from the shell whose child it is.
 */

export interface NohupJob {
  readonly pid: number;
  readonly command: string;
  readonly outputFile: string;
  /** undefined while it runs; null where the shell has lost it. */
  exitCode: number | null | undefined;
  /** The client has been told of the exit code, or cannot be told any more. */
  told: boolean;
}

const REMEMBERED = 256;
const POLL_SECONDS = 0.02;

export class NohupJobs {
  readonly #jobs = new Map<number, NohupJob>();

  /** Whether one may still run: one whose end nobody asked for counts. */
  get running(): boolean {
    return [...this.#jobs.values()].some(({ exitCode }) => exitCode === undefined);
  }

  add(pid: number, { command, outputFile }: NohupSubmission): NohupJob {
    const job: NohupJob = { pid, command, outputFile, exitCode: undefined, told: false };
    this.#jobs.delete(pid);
    this.#jobs.set(pid, job);
    if (this.#jobs.size > REMEMBERED) this.#jobs.delete(this.#jobs.keys().next().value!);
    return job;
  }

  get(pid: number): NohupJob | undefined {
    return this.#jobs.get(pid);
  }

  /** The latest that wrote there. */
  byOutput(file: string): NohupJob | undefined {
    return [...this.#jobs.values()].findLast(({ outputFile }) => outputFile === file);
  }
}

/** Waits at most so long for its end, without holding up the session. Then `job.exitCode` says whether it ended. */
export async function awaitEnd(
  job: NohupJob,
  sandbox: Sandbox,
  session: Session,
  waitMs: number,
  signal: AbortSignal,
): Promise<void> {
  if (job.exitCode !== undefined) return;
  // The shell reaps a child as soon as it ends, and its entry goes with it.
  const script = `exec {t}<> <(:); for ((i = 0; i < $2; i++)); do [ -e /proc/$1 ] || exit 0; read -rt ${POLL_SECONDS} -u $t; done; exit 1`;
  const rounds = Math.max(1, Math.round(waitMs / 1_000 / POLL_SECONDS));
  const request = {
    argv: ["/bin/bash", "-c", script, "wait", String(job.pid), String(rounds)],
    user: "root",
    cwd: "/",
    timeoutMs: waitMs + 2_000,
  };
  const { exitCode } = await sandbox.exec(request, signal);
  if (exitCode !== 0) return;
  const { exitCode: status } = await session.run(`wait ${job.pid}`, { timeoutMs: 5_000 }, signal);
  // 127: not a child of this shell. A job may end with 127 itself; then the shell says nothing.
  job.exitCode = status;
}
