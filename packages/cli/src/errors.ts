import { accessSync, constants, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { AleError } from "@ale/core/result";
import { EXIT, exitCodeOf } from "./exit-codes.ts";
import type { Io } from "./io.ts";
import { diskRefusal } from "./out-files.ts";
import { printable } from "./printable.ts";

/** The one place where failures become text for people, JSON for machines and an exit code. */
export function reportError(thrown: unknown, io: Io, verbose: boolean): number {
  const error = fromSystem(rootOf(thrown), io.home);
  const exitCode = exitCodeOf(error);
  if (error instanceof AleError) {
    reportFailure(error, io);
    if (verbose) io.note(printable(stackOf(error)));
    return exitCode;
  }
  const message = error instanceof Error ? error.message : String(error);
  const log = keepStack(error, io.home);
  io.note(`${io.paint("red", "error:")} a fault in ALE itself: ${printable(message)}`);
  if (verbose || log === undefined) io.note(printable(stackOf(error)));
  const next =
    log === undefined
      ? "report it with the stack above"
      : `report it with ${log}, or run it again with --verbose`;
  io.note(`${io.paint("cyan", "next: ")} ${next}`);
  io.result({ ok: false, exitCode, error: { code: "internal", message, next } });
  return exitCode;
}

/**
 * A failure that a person can act on, and its exit code. What they typed may stand in it, and so may a file's name: nothing of it is the terminal's
 * to obey. `beside`: what else the answer for machines has.
 */
export function reportFailure(error: AleError, io: Io, beside: object = {}): number {
  const { code, message, next } = error;
  const exitCode = exitCodeOf(error);
  io.note(`${io.paint("red", "error:")} ${printable(message)}`);
  if (next !== undefined) io.note(`${io.paint("cyan", "next: ")} ${printable(next)}`);
  io.result({ ...beside, ok: false, exitCode, error: { code, message, next } });
  return exitCode;
}

/** When releasing something fails too, as on a full disk, the first failure is the one to tell. */
function rootOf(error: unknown): unknown {
  return error instanceof SuppressedError ? rootOf(error.suppressed) : error;
}

/** What the disk refuses is the machine's fault, not ours, wherever it happens. */
function fromSystem(error: unknown, home: string): unknown {
  if (!(error instanceof Error) || error instanceof AleError) return error;
  const { path, syscall } = error as NodeJS.ErrnoException;
  let { code } = error as NodeJS.ErrnoException;
  let message = error.message;
  if (code === "ENOENT" && syscall === "mkdir" && path !== undefined) {
    // What Node says of directories that are to be made with their parents on a disk that refuses.
    code = refusalOf(home);
    message = `${path} cannot be made: ${code === "EROFS" ? "read-only file system" : "permission denied"}`;
  }
  const inHome = path === undefined || path === home || path.startsWith(`${home}/`);
  const refused = diskRefusal(code, `choose another ${inHome ? "home: --home DIR" : "place"}`);
  // A write that finds the disk full knows a descriptor and no path.
  if (refused === undefined || (path === undefined && code !== "ENOSPC" && code !== "EDQUOT")) return error;
  return new AleError(`disk-${code!.toLowerCase()}`, message, { next: refused.next, cause: error });
}

/** Why nothing can be written there; undefined where something can. */
function refusalOf(directory: string): string | undefined {
  if (!existsSync(directory))
    return dirname(directory) === directory ? undefined : refusalOf(dirname(directory));
  try {
    accessSync(directory, constants.W_OK);
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}

export function reportInterrupt(exitCode: number, goesOn: boolean, io: Io): number {
  if (exitCode === EXIT.ok) return exitCode;
  const message = exitCode === EXIT.interrupted ? "interrupted" : "asked to end";
  const after = goesOn ? "goes on from there" : "begins anew";
  io.note(`${message}; what was recorded is kept, and the same command ${after}`);
  io.result({ ok: false, exitCode, error: { code: "interrupted", message } });
  return exitCode;
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const own = error.stack ?? `${error.name}: ${error.message}`;
  return error.cause === undefined ? own : `${own}\ncaused by: ${stackOf(error.cause)}`;
}

function keepStack(error: unknown, home: string): string | undefined {
  try {
    const folder = join(home, "logs");
    mkdirSync(folder, { recursive: true });
    const path = join(folder, `crash-${new Date().toISOString().replace(/[:.]/g, "-")}.log`);
    writeFileSync(path, `${process.argv.join(" ")}\nnode ${process.version}\n\n${stackOf(error)}\n`);
    return path;
  } catch {
    return undefined; // The disk may be what failed; the stack is then shown instead.
  }
}
