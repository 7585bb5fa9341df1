import { fstatSync } from "node:fs";
import { AleError, err, ok } from "@ale/core";
import type { Bytes, FileChange, FileResult, FileStat, SandboxFiles, WriteOptions } from "../port/files.ts";
import { changeModeAt, changeOwnerAt, moveAt, removeAt } from "./changes.ts";
import { readAll, readPart, writeWhole } from "./content.ts";
import { archiveOf } from "./download.ts";
import { fileError, Refusal } from "./errors.ts";
import { type Access, thrown } from "./handle.ts";
import {
  closing,
  fileStat,
  find,
  findOrMakeDirectory,
  type Ids,
  namesOf,
  statEntry,
  withFound,
  withParent,
} from "./located.ts";
import { unpackInto } from "./upload.ts";
import { resolveUser } from "./users.ts";
import { walk } from "./walk.ts";
import { changesBelow } from "./watch.ts";

/** A sandbox's files through its merged root: the one translation from system calls to the port's results. */

/** Waits for a restart's end. Undefined when the sandbox has ended. Another one when it was restarted. */
export type CurrentAccess = () => Promise<Access | undefined>;

const DEFAULT_LIMIT = 10_000;

export class TreeFiles implements SandboxFiles {
  readonly #current: CurrentAccess;
  readonly #user: string;

  /** `user` owns what is new, unless a call says otherwise. */
  constructor(current: CurrentAccess, user: string) {
    this.#current = current;
    this.#user = user;
  }

  stat(path: string, options: { readonly followLinks?: boolean } = {}): FileResult<FileStat> {
    return this.#do(path, ({ tree }) => {
      if (options.followLinks === true || namesOf(path).length === 0)
        return withFound(tree, path, (_, stat) => fileStat(tree, path, stat));
      return withParent(tree, path, (directory, name) =>
        statEntry(tree, path, directory, Buffer.from(name).toString("latin1")),
      );
    });
  }

  list(
    path: string,
    options: { readonly recursive?: boolean; readonly limit?: number } = {},
  ): FileResult<{ readonly entries: readonly FileStat[]; readonly more: boolean }> {
    return this.#do(path, ({ tree }) => {
      const found = find(tree, path);
      return closing(found, async () => {
        if (!fstatSync(found).isDirectory()) throw new Refusal("not-a-directory", path);
        const entries: FileStat[] = [];
        const top = path.replace(/\/+$/, "");
        for await (const step of walk(found, () => options.recursive === true)) {
          if (step.type === "left") continue;
          if (entries.length >= (options.limit ?? DEFAULT_LIMIT)) return { entries, more: true };
          const shown = `${top}/${Buffer.from(step.path, "latin1").toString("utf8")}`;
          const entry = present(() => statEntry(tree, shown, step.directory, step.name));
          if (entry !== undefined) entries.push(entry);
        }
        return { entries, more: false };
      });
    });
  }

  read(
    path: string,
    options: { readonly offset?: number; readonly length?: number; readonly maxBytes?: number } = {},
  ): FileResult<Uint8Array> {
    return this.#do(path, (access) => readPart(access, path, options));
  }

  readStream(path: string): FileResult<AsyncIterable<Uint8Array>> {
    return this.#do(path, (access) => readAll(access, path));
  }

  write(path: string, data: Bytes, options: WriteOptions = {}): FileResult<{ readonly bytes: number }> {
    return this.#do(path, async (access) => {
      const { user, ...how } = options;
      return { bytes: await writeWhole(access, path, data, { ...how, ids: this.#idsOf(access, user) }) };
    });
  }

  makeDirectory(
    path: string,
    options: { readonly mode?: number; readonly user?: string } = {},
  ): FileResult<void> {
    return this.#do(path, (access) => {
      const ids = this.#idsOf(access, options.user);
      closing(findOrMakeDirectory(access.tree, path, ids, options.mode ?? 0o755), () => {});
    });
  }

  remove(path: string, options: { readonly recursive?: boolean } = {}): FileResult<void> {
    return this.#do(path, ({ tree }) => removeAt(tree, path, options.recursive === true));
  }

  move(from: string, to: string, options: { readonly overwrite?: boolean } = {}): FileResult<void> {
    return this.#do(from, ({ tree }) => moveAt(tree, from, to, options.overwrite === true));
  }

  changeOwner(path: string, user: string, options: { readonly recursive?: boolean } = {}): FileResult<void> {
    return this.#do(path, (access) =>
      changeOwnerAt(access.tree, path, this.#idsOf(access, user), options.recursive === true),
    );
  }

  changeMode(path: string, mode: number, options: { readonly recursive?: boolean } = {}): FileResult<void> {
    return this.#do(path, ({ tree }) => changeModeAt(tree, path, mode & 0o7777, options.recursive === true));
  }

  upload(
    directory: string,
    tar: AsyncIterable<Uint8Array>,
    options: { readonly user?: string } = {},
  ): FileResult<{ readonly entries: number; readonly bytes: number }> {
    return this.#do(directory, (access) =>
      unpackInto(access, directory, tar, this.#idsOf(access, options.user)),
    );
  }

  download(path: string): FileResult<AsyncIterable<Uint8Array>> {
    return this.#do(path, (access) => archiveOf(access, path));
  }

  async *watch(
    path: string,
    options: { readonly recursive?: boolean },
    signal: AbortSignal,
  ): AsyncGenerator<FileChange, void, void> {
    try {
      const recursive = options.recursive === true;
      yield* changesBelow(await this.#access(path), path, { recursive }, signal);
    } catch (error) {
      throw thrown(fileError(error, path));
    }
  }

  async #access(path: string): Promise<Access> {
    const access = await this.#current();
    if (access === undefined) throw new Refusal("sandbox-gone", path);
    return access;
  }

  async #do<T>(path: string, work: (access: Access) => T | Promise<T>): FileResult<T> {
    try {
      const access = await this.#access(path);
      using _use = access.use?.();
      return ok(await work(access));
    } catch (error) {
      return err(fileError(error, path));
    }
  }

  /** On the host. Throws an AleError `user-unknown`. */
  #idsOf({ tree, reads }: Access, user = this.#user): Ids {
    const { uid, gid } = reads.unseen(() => resolveUser(tree, user));
    try {
      return { uid: tree.ids.toHost(uid), gid: tree.ids.toHost(gid) };
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new AleError("user-unknown", message, { next: "use a smaller number, or a name", cause });
    }
  }
}

/** Undefined where it vanished meanwhile. */
function present<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (fileError(error, "").type === "not-found") return undefined;
    throw error;
  }
}
