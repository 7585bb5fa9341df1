import { AleError } from "@ale/core/result";

/** The exit codes of every `ale` command, of ./quickstart and of ./test: docs/reference/exit-codes.md. */
export const EXIT = {
  ok: 0,
  /** A check said no: a broken log, a replay that differs, a failed test. */
  failed: 1,
  /** The command line, a recipe or another input is wrong. */
  usage: 2,
  /** Something the machine must have is missing; the message says what and how to get it. */
  missing: 3,
  /** The machine or a part of it failed: disk, network, engine, sandbox. */
  environment: 4,
  /** A fault in ALE itself; the stack is in the log that the message names. */
  internal: 70,
  /** Ctrl-C (128 + SIGINT). */
  interrupted: 130,
  /** Asked to end (128 + SIGTERM). */
  terminated: 143,
} as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Codes of AleErrors that are not environment failures. `prefix-*` stands for every code with that prefix. */
const BY_CODE: Readonly<Record<string, ExitCode>> = {
  usage: EXIT.usage,
  "recipe-*": EXIT.usage,
  "episode-unknown": EXIT.usage,
  "incident-unknown": EXIT.usage,
  "import-*": EXIT.usage,
  "run-unknown": EXIT.usage,
  "rule-*": EXIT.usage,
  "rules-*": EXIT.usage,
  "evidence-unknown": EXIT.usage,
  "evidence-released": EXIT.usage,
  "evidence-open": EXIT.failed,
  "image-held": EXIT.usage,
  "approval-unknown": EXIT.usage,
  "approval-over": EXIT.failed,
  "approval-abandoned": EXIT.failed,
  "files-too-large": EXIT.usage,
  "unknown-tool": EXIT.usage,
  "unknown-family": EXIT.usage,
  "bad-seed": EXIT.usage,
  "model-missing": EXIT.usage,
  "image-unknown": EXIT.usage,
  "sandbox-unknown": EXIT.usage,
  "snapshot-unknown": EXIT.usage,
  "user-unknown": EXIT.usage,
  "token-unknown": EXIT.usage,
  "id-invalid": EXIT.usage,
  "id-taken": EXIT.usage,
  "reference-invalid": EXIT.usage,
  "request-invalid": EXIT.usage,
  "target-*": EXIT.usage,
  "dockerfile-*": EXIT.usage,
  "archive-*": EXIT.usage,
  "tar-invalid": EXIT.usage,
  "copy-*": EXIT.usage,
  "out-invalid": EXIT.usage,
  "key-invalid": EXIT.usage,
  "context-missing": EXIT.usage,
  "stage-unknown": EXIT.usage,
  "build-failed": EXIT.failed,
  "image-in-use": EXIT.usage,
  "image-reserved": EXIT.usage,
  "limits-above-host": EXIT.usage,
  "limits-unenforced": EXIT.missing,
  "url-invalid": EXIT.usage,
  "bind-refused": EXIT.usage,
  "already-served": EXIT.usage,
  "file-not-found": EXIT.usage,
  "file-not-a-directory": EXIT.usage,
  "file-not-a-file": EXIT.usage,
  "file-unsafe-path": EXIT.usage,
  "server-missing": EXIT.missing,
  "episode.bad-id": EXIT.usage,
  "log.missing": EXIT.usage,
  "log.damaged": EXIT.failed,
  "log.version": EXIT.failed,
  "network-unsupported": EXIT.missing,
  "network-too-wide": EXIT.usage,
  "network-refused": EXIT.usage,
  "need-root": EXIT.missing,
  "tool-missing": EXIT.missing,
  "runtime-missing": EXIT.missing,
  "image-missing": EXIT.missing,
  "engine-missing": EXIT.missing,
  "index.no-sqlite": EXIT.missing,
  "host-*": EXIT.missing,
};

export function exitCodeOf(error: unknown): ExitCode {
  if (!(error instanceof AleError)) return EXIT.internal;
  const exact = BY_CODE[error.code];
  if (exact !== undefined) return exact;
  const family = Object.keys(BY_CODE).find(
    (key) => key.endsWith("*") && error.code.startsWith(key.slice(0, -1)),
  );
  return family === undefined ? EXIT.environment : BY_CODE[family]!;
}
