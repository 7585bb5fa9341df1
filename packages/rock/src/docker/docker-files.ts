import { AleError, type SandboxFile } from "@ale/core";
import { components, UNREAD_ATIME_S } from "../files/tree.ts";
import { gone, type InitClient } from "../oci/init-client.ts";
import type { Bytes, FileChange, FileResult, FileStat, SandboxFiles, WriteOptions } from "../port/files.ts";
import type { Fingerprint } from "../port/sandbox.ts";
import { fingerprintsOf } from "./docker-fingerprint.ts";
import { downloadTar, type Uploaded, uploadInput } from "./docker-tar.ts";
import {
  chunk,
  conversation,
  END,
  type Fields,
  FileFault,
  type Frame,
  type Input,
  order,
  settled,
} from "./file-agent.ts";

/**
 * Files of a sandbox whose root filesystem only the engine can reach: PID 1 works on them. Unlike the engine's own archive requests that
 * takes milliseconds, follows no link where none may be followed, and leaves no trace of reading.
 */

const DEFAULT_MAX_READ = 16 * 2 ** 20;
const DEFAULT_LIMIT = 10_000;

/** Owner as numbers, from the sandbox's own /etc/passwd. Throws an AleError `user-unknown`. */
export type Identify = (user: string | undefined) => Promise<{ readonly uid: number; readonly gid: number }>;

const flag = (is: boolean | undefined): string => (is ? "1" : "");

export class DockerFiles implements SandboxFiles {
  readonly #client: InitClient;
  readonly #identify: Identify;
  readonly #planted = new Map<string, number>();
  /** Readings from outside that are going on: they do not count as readings. */
  #unseen = 0;

  constructor(client: InitClient, identify: Identify) {
    this.#client = client;
    this.#identify = identify;
  }

  stat(path: string, options: { readonly followLinks?: boolean } = {}): FileResult<FileStat> {
    return settled(async () => statOf(await this.#order("stat", [path, flag(options.followLinks)])));
  }

  list(
    path: string,
    options: { readonly recursive?: boolean; readonly limit?: number } = {},
  ): FileResult<{ readonly entries: readonly FileStat[]; readonly more: boolean }> {
    return settled(async () => {
      const entries: FileStat[] = [];
      const frames = this.#converse("list", [path, flag(options.recursive), options.limit ?? DEFAULT_LIMIT]);
      for (;;) {
        const { done, value } = await frames.next();
        if (done) return { entries, more: String(value[0]) === "1" };
        entries.push(statOf(value.slice(1) as Buffer[]));
      }
    });
  }

  read(
    path: string,
    options: { readonly offset?: number; readonly length?: number; readonly maxBytes?: number } = {},
  ): FileResult<Uint8Array> {
    return this.#read(path, false, options);
  }

  /** Follows no link. */
  readStrictly(path: string, maxBytes = DEFAULT_MAX_READ, signal?: AbortSignal): FileResult<Uint8Array> {
    return this.#read(path, true, { maxBytes }, signal);
  }

  #read(
    path: string,
    strict: boolean,
    options: { readonly offset?: number; readonly length?: number; readonly maxBytes?: number },
    signal?: AbortSignal,
  ): FileResult<Uint8Array> {
    const { offset = 0, length, maxBytes = DEFAULT_MAX_READ } = options;
    return settled(async () => {
      for (const [name, number] of Object.entries({ offset, length: length ?? 0, maxBytes }))
        if (!Number.isSafeInteger(number) || number < 0) throw rangeInvalid(name, number);
      const parts: Buffer[] = [];
      const args = [path, flag(strict), offset, length ?? "", length === undefined ? maxBytes : ""];
      for await (const [, bytes] of this.#unseenFrames("read", args, signal)) if (bytes) parts.push(bytes);
      return new Uint8Array(Buffer.concat(parts));
    });
  }

  readStream(path: string): FileResult<AsyncIterable<Uint8Array>> {
    return settled(async () => {
      const frames = this.#unseenFrames("read", [path, "", 0, "", ""]);
      return streamed(bytesOf(await begun(frames)));
    });
  }

  write(path: string, data: Bytes, options: WriteOptions = {}): FileResult<{ readonly bytes: number }> {
    return settled(async () => {
      const { uid, gid } = await this.#identify(options.user);
      const args = [path, options.mode ?? "", uid, gid, flag(options.append)];
      const [bytes] = await this.#order("write", args, chunksOf(data));
      return { bytes: Number(bytes) };
    });
  }

  /** Whole files, following no link. `watched`: whoever reads them from now on is noticed. */
  plant(files: readonly SandboxFile[], watched: boolean, signal?: AbortSignal): FileResult<void> {
    return settled(async () => {
      const agent = await this.#identify(undefined);
      const args = files.flatMap(({ path, mode, owner }) => {
        const { uid, gid } = owner === "root" ? { uid: 0, gid: 0 } : agent;
        return [path, mode, uid, gid];
      });
      const input = files.flatMap(({ content }) => [...chunksOfText(content), END]);
      const frames = this.#converse("plant", [UNREAD_ATIME_S, flag(watched), ...args], input, signal);
      for await (const [, path, watch] of frames) if (watched) this.#planted.set(String(path), Number(watch));
    });
  }

  makeDirectory(
    path: string,
    options: { readonly mode?: number; readonly user?: string; readonly strict?: boolean } = {},
  ): FileResult<void> {
    return settled(async () => {
      const { uid, gid } = await this.#identify(options.user);
      await this.#order("mkdir", [path, flag(options.strict), options.mode ?? "", uid, gid]);
    });
  }

  remove(path: string, options: { readonly recursive?: boolean } = {}): FileResult<void> {
    return settled(async () => void (await this.#order("remove", [path, flag(options.recursive)])));
  }

  move(from: string, to: string, options: { readonly overwrite?: boolean } = {}): FileResult<void> {
    return settled(async () => void (await this.#order("move", [from, to, flag(options.overwrite)])));
  }

  changeOwner(path: string, user: string, options: { readonly recursive?: boolean } = {}): FileResult<void> {
    return settled(async () => {
      const { uid, gid } = await this.#identify(user);
      await this.#order("chown", [path, uid, gid, flag(options.recursive)]);
    });
  }

  changeMode(path: string, mode: number, options: { readonly recursive?: boolean } = {}): FileResult<void> {
    return settled(async () => void (await this.#order("chmod", [path, mode, flag(options.recursive)])));
  }

  upload(
    directory: string,
    tar: AsyncIterable<Uint8Array>,
    options: { readonly user?: string } = {},
  ): FileResult<Uploaded> {
    return settled(async () => {
      const { uid, gid } = await this.#identify(options.user);
      const count = { entries: 0, bytes: 0 };
      await this.#order("upload", [directory, uid, gid], uploadInput(directory, tar, count));
      return count;
    });
  }

  download(path: string): FileResult<AsyncIterable<Uint8Array>> {
    return settled(async () => streamed(downloadTar(await begun(this.#unseenFrames("download", [path])))));
  }

  async *watch(
    path: string,
    options: { readonly recursive?: boolean },
    signal: AbortSignal,
  ): AsyncGenerator<FileChange> {
    if (this.#client.container.control.gone) throw gone(this.#client.container.id);
    const frames = this.#converse("watch", [path, flag(options.recursive)], [], signal);
    try {
      for await (const [frame, type, changed] of frames)
        if (frame === "change") yield { type: String(type) as FileChange["type"], path: String(changed) };
    } catch (reason) {
      const isOver = reason instanceof FileFault && reason.error.type === "sandbox-gone";
      if (!signal.aborted && !isOver) throw reason;
    }
  }

  /** The files are those of another time: nothing is known of their readers. */
  forget(): void {
    this.#planted.clear();
  }

  async fingerprint(paths: readonly string[], signal?: AbortSignal): Promise<readonly Fingerprint[]> {
    return fingerprintsOf(this.#unseenFrames("fingerprint", paths, signal), this.#planted);
  }

  #order(operation: string, args: Fields, input?: Input): Promise<readonly Buffer[]> {
    refuseUnsafe(operation, args);
    return order(this.#client, operation, args, input);
  }

  #converse(
    operation: string,
    args: Fields,
    input?: Input,
    signal?: AbortSignal,
  ): ReturnType<typeof conversation> {
    refuseUnsafe(operation, args);
    return conversation(this.#client, operation, args, input, signal);
  }

  async *#unseenFrames(operation: string, args: Fields, signal?: AbortSignal): AsyncGenerator<Frame, void> {
    refuseUnsafe(operation, args);
    if (this.#unseen++ === 0) this.#client.send("reads-pause");
    try {
      yield* conversation(this.#client, operation, args, [], signal);
    } finally {
      if (--this.#unseen === 0) this.#client.send("reads-resume");
    }
  }
}

/** Which arguments of an operation are paths. */
const PATHS: Readonly<Record<string, (args: Fields) => Fields>> = {
  move: (args) => args.slice(0, 2),
  plant: (args) => args.filter((_, index) => index >= 2 && (index - 2) % 4 === 0),
  // A path that cannot be is one that does not exist.
  fingerprint: () => [],
};

/** Throws a FileFault for a path that is not absolute, climbs, holds a NUL, or names what is the kernel's. */
function refuseUnsafe(operation: string, args: Fields): void {
  const paths = PATHS[operation]?.(args) ?? args.slice(0, 1);
  for (const path of paths.map(String))
    if (components(path) === undefined || /^\/+(dev|proc|sys)(\/|$)/.test(path))
      throw new FileFault({ type: "unsafe-path", path });
}

function statOf(fields: readonly Buffer[]): FileStat {
  const [path = "", type, size, mode, uid, gid, modifiedMs, target] = fields.map(String);
  return {
    path,
    type: type as FileStat["type"],
    size: Number(size),
    mode: Number(mode),
    uid: Number(uid),
    gid: Number(gid),
    modifiedMs: Number(modifiedMs),
    ...(type === "symlink" ? { target: target ?? "" } : {}),
  };
}

/** The same frames, once the first is there: until then a refusal is a value. */
async function begun(frames: AsyncGenerator<Frame, void>): Promise<AsyncGenerator<Frame, void>> {
  const first = await frames.next();
  return (async function* () {
    try {
      if (first.done) return;
      yield first.value;
      yield* frames;
    } finally {
      await frames.return();
    }
  })();
}

async function* bytesOf(frames: AsyncIterable<Frame>): AsyncGenerator<Uint8Array> {
  for await (const [, bytes] of frames) if (bytes !== undefined) yield bytes;
}

/** What is read in its reader's own time: failures are exceptions, so that what was cut short never looks complete. */
async function* streamed(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* bytes;
  } catch (reason) {
    if (!(reason instanceof FileFault)) throw reason;
    const { type, path, message } = reason.error;
    throw new AleError(type, `${path}: ${message ?? type}`);
  }
}

const rangeInvalid = (name: string, number: number): AleError =>
  new AleError("range-invalid", `${name} of a read must be a whole number from 0, not ${number}`);

const PART_BYTES = 64 * 1024;

function* chunksOfText(data: string | Uint8Array): Generator<Uint8Array> {
  const bytes = typeof data === "string" ? Buffer.from(data) : data;
  for (let at = 0; at < bytes.length; at += PART_BYTES) yield* chunk(bytes.subarray(at, at + PART_BYTES));
}

async function* chunksOf(data: Bytes): AsyncGenerator<Uint8Array> {
  if (typeof data === "string" || data instanceof Uint8Array) yield* chunksOfText(data);
  else for await (const bytes of data) yield* chunksOfText(bytes);
  yield END;
}
