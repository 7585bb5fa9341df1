import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CommandResult, ToolRuntime } from "../src/index.ts";

/** A real bash and real files in a temporary directory, for tests of trusted commands only: there is no containment. */
export interface LocalRuntime extends ToolRuntime, AsyncDisposable {
  readonly directory: string;
}

export async function localRuntime(timeoutMs = 5_000): Promise<LocalRuntime> {
  const directory = await mkdtemp(join(tmpdir(), "flow-test-"));
  // What persists in the shell is kept in a file between commands.
  const state = join(directory, ".state");
  const run = (argv: readonly string[], stdin: string, signal?: AbortSignal): Promise<CommandResult> =>
    new Promise((resolve, reject) => {
      const started = performance.now();
      const child = spawn(argv[0]!, argv.slice(1), { cwd: directory, detached: true });
      const chunks: Buffer[] = [];
      let timedOut = false;
      const kill = (): boolean => process.kill(-child.pid!, "SIGKILL");
      const timer = setTimeout(() => {
        timedOut = true;
        kill();
      }, timeoutMs);
      signal?.addEventListener("abort", kill);
      child.stdout.on("data", (data: Buffer) => chunks.push(data));
      child.stderr.on("data", (data: Buffer) => chunks.push(data));
      child.stdin.on("error", () => {});
      child.stdin.end(stdin);
      child.on("error", reject);
      child.on("close", (exitCode) => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", kill);
        if (signal?.aborted) return reject(signal.reason);
        const bytes = Buffer.concat(chunks);
        resolve({
          exitCode,
          output: bytes.toString("utf8"),
          outputBytes: bytes.length,
          timedOut,
          durationMs: performance.now() - started,
        });
      });
    });
  return {
    directory,
    shell: (command, signal) =>
      run(
        [
          "bash",
          "-c",
          '[ -e "$1" ] && . "$1"; eval "$2"; code=$?; { declare -p | grep -v "^declare -[^ ]*r"; printf "cd %q\\n" "$PWD"; } > "$1" 2>/dev/null; exit $code',
          "bash",
          state,
          command,
        ],
        "",
        signal,
      ),
    exec: (argv, options, signal) => run(argv, options.stdin ?? "", signal),
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}
