import { randomBytes } from "node:crypto";
import { dirname, join } from "node:path/posix";
import { AleError, type Result } from "@ale/core";
import type { FileError, SandboxFiles, WriteOptions } from "../port/files.ts";
import { fileProblem } from "../wire/problem.ts";

/** A body written to a file of a sandbox: the whole of it or nothing. */

/** Bodies up to this are taken whole before the file is touched; larger ones go to a file beside it that then takes its place. */
const SMALL_BYTES = 2 ** 20;

export function taken<T>(
  result: { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: FileError },
): T {
  if (result.ok) return result.value;
  throw fileProblem(result.error);
}

/** An upload that breaks off leaves the file as it was, except where it was appending. */
export async function writeWhole(
  files: SandboxFiles,
  path: string,
  body: AsyncIterable<Uint8Array>,
  options: WriteOptions,
): Promise<{ readonly bytes: number }> {
  if (options.append) return taken(await files.write(path, body, options));
  const source = body[Symbol.asyncIterator]();
  const head: Uint8Array[] = [];
  let bytes = 0;
  for (;;) {
    const next = await source.next();
    if (next.done) return taken(await files.write(path, Buffer.concat(head), options));
    head.push(next.value);
    bytes += next.value.length;
    if (bytes > SMALL_BYTES) break;
  }
  return writeBeside(files, path, resumed(head, source), options);
}

async function writeBeside(
  files: SandboxFiles,
  path: string,
  body: AsyncIterable<Uint8Array>,
  options: WriteOptions,
): Promise<{ readonly bytes: number }> {
  const old = await files.stat(path, { followLinks: true });
  if (old.ok && old.value.type !== "file")
    throw new AleError("not-a-file", `${path} is a ${old.value.type}`, { next: "remove it first" });
  const beside = join(dirname(path), `.ale-upload-${randomBytes(6).toString("hex")}`);
  const kept = old.ok ? { mode: old.value.mode, user: `${old.value.uid}:${old.value.gid}` } : {};
  try {
    const written = taken(about(path, await files.write(beside, body, { ...kept, ...options })));
    taken(about(path, await files.move(beside, path, { overwrite: true })));
    return written;
  } catch (error) {
    await files.remove(beside);
    throw error;
  }
}

/** Nobody asked for the file beside it. */
function about<T>(path: string, result: Result<T, FileError>): Result<T, FileError> {
  return result.ok ? result : { ok: false, error: { ...result.error, path } };
}

async function* resumed(
  head: readonly Uint8Array[],
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  yield* head;
  for (;;) {
    const next = await rest.next();
    if (next.done) return;
    yield next.value;
  }
}
