import { createReadStream, createWriteStream, existsSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { AleError, type Result } from "@ale/core";
import { type FileError, packDirectory, type SandboxFiles, unpackDirectory } from "@ale/rock";
import type { RockClient } from "@ale/rock/client";
import { defineUsage, parseArguments, usageError } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { makeFolder, outRefusal } from "../out-files.ts";
import { withRock } from "../rock/client.ts";
import { bytes } from "../rock/format.ts";
import { copy } from "../rock/terminal.ts";

const usage = defineUsage({
  positionals: "FROM TO",
  options: {
    user: { type: "string", short: "u", value: "USER", help: "who owns it in the sandbox" },
  },
  notes: `
One of the two is ID:/PATH, the other a path here. Into a directory that is there a copy is put under its own name; otherwise
TO is the copy's name. Links stay links. A - instead of the local path is a tar archive on stdin or stdout.
examples: ale rock cp src ID:/work        ale rock cp ID:/work/out.txt .        ale rock cp ID:/work - | tar -t`,
});

interface Remote {
  readonly id: string;
  readonly path: string;
}

interface Copied {
  readonly bytes: number;
  readonly entries: number;
}

export const rockCp: Action = {
  usage,
  async run(argv, io) {
    const { values, positionals } = parseArguments(usage, argv);
    const [from = "", to = ""] = positionals;
    const source = remoteOf(from);
    const target = remoteOf(to);
    if ((source === undefined) === (target === undefined))
      throw usageError(
        "one of FROM and TO must be in a sandbox, the other here",
        "ale rock cp FILE ID:/PATH",
      );
    if (to === "-" && io.json)
      throw usageError("stdout is the archive, and has no room for --json", "copy into a file instead");
    const owner = values.user === undefined ? {} : { user: values.user };
    const copied = await withRock(io, (client) =>
      source !== undefined ? download(client, source, to) : upload(client, from, target!, owner),
    );
    const count = copied.entries === 1 ? "1 file" : `${copied.entries} entries`;
    io.note(`${count}, ${bytes(copied.bytes)}`);
    io.result(copied);
    return EXIT.ok;
  },
};

/** `ID:/PATH`; a local path may hold a colon where a slash comes before it. */
function remoteOf(text: string): Remote | undefined {
  const match = /^([a-z0-9][a-z0-9-]*):(.*)$/s.exec(text);
  if (match === null) return undefined;
  const path = match[2]!;
  if (!path.startsWith("/")) throw usageError(`${text}: a path in a sandbox begins with /`);
  return { id: match[1]!, path };
}

function must<T>(result: Result<T, FileError>): T {
  if (result.ok) return result.value;
  const { type, path, message } = result.error;
  const what = message ?? type.replaceAll("-", " ");
  throw new AleError(
    `file-${type}`,
    what.includes(path) ? `in the sandbox: ${what}` : `${path} in the sandbox: ${what}`,
    type === "sandbox-gone" ? { next: "ale rock start ID starts one again that was stopped" } : {},
  );
}

async function download(client: RockClient, { id, path }: Remote, to: string): Promise<Copied> {
  const { files } = await client.sandboxes.attach(id);
  const { type, mode } = must(await files.stat(path, { followLinks: true }));
  if (to === "-")
    return { entries: 1, bytes: await counted(must(await files.download(path)), process.stdout) };
  const into = isDirectory(to);
  mayHold(to, into, type === "directory");
  if (type === "directory") {
    const target = into ? to : resolve(to);
    makeFolder(target);
    return unpackDirectory(resolve(target), must(await files.download(path)), { strip: !into });
  }
  const target = into ? join(to, basename(path)) : to;
  return { entries: 1, bytes: await save(must(await files.readStream(path)), target, mode & 0o777) };
}

/** A copy that breaks off leaves no part of a file that was not there before. */
async function save(stream: AsyncIterable<Uint8Array>, target: string, mode: number): Promise<number> {
  const isNew = !existsSync(target);
  let size = 0;
  const counting = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of stream) {
      size += chunk.length;
      yield chunk;
    }
  };
  try {
    await pipeline(counting, createWriteStream(target, { mode }));
  } catch (error) {
    if (isNew) rmSync(target, { force: true });
    throw outRefusal(target, "cannot be written", error);
  }
  return size;
}

async function upload(
  client: RockClient,
  from: string,
  { id, path }: Remote,
  owner: { readonly user?: string },
): Promise<Copied> {
  const { files } = await client.sandboxes.attach(id);
  if (from === "-") return must(await files.upload(path, process.stdin as AsyncIterable<Uint8Array>, owner));
  if (!existsSync(from)) throw usageError(`there is no ${from} here`);
  const into = path.endsWith("/") || (await isRemoteDirectory(files, path));
  const target = into ? `${path.replace(/\/+$/, "")}/${basename(resolve(from))}` : path;
  if (isDirectory(from)) return must(await files.upload(target, packDirectory(resolve(from)), owner));
  const { mode } = statSync(from);
  const written = must(await files.write(target, createReadStream(from), { mode: mode & 0o777, ...owner }));
  return { entries: 1, bytes: written.bytes };
}

const isDirectory = (path: string): boolean =>
  statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

/** Said before anything is asked of the sandbox. */
function mayHold(to: string, into: boolean, directory: boolean): void {
  if (into) return;
  if (!isDirectory(dirname(resolve(to))))
    throw usageError(`there is no directory ${dirname(resolve(to))} here`, "make it first, with mkdir -p");
  if (directory && existsSync(to))
    throw usageError(`${to} is a file here, and a directory cannot take its place`, "choose another name");
  if (!directory && to.endsWith("/"))
    throw usageError(`there is no directory ${to} here`, "make it first, with mkdir -p");
}

async function isRemoteDirectory(files: SandboxFiles, path: string): Promise<boolean> {
  const found = await files.stat(path, { followLinks: true });
  if (!found.ok && found.error.type !== "not-found") must(found);
  return found.ok && found.value.type === "directory";
}

async function counted(stream: AsyncIterable<Uint8Array>, to: NodeJS.WritableStream): Promise<number> {
  let size = 0;
  const counting = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of stream) {
      size += chunk.length;
      yield chunk;
    }
  };
  await copy(counting(), to);
  return size;
}
