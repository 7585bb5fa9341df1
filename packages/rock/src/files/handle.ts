import { closeSync } from "node:fs";
import { AleError } from "@ale/core";
import type { FileError } from "../port/files.ts";
import { fileError, Refusal } from "./errors.ts";
import type { ReadWatch } from "./read-watch.ts";
import type { Tree } from "./tree.ts";

/** What work on a sandbox's files needs. */
export interface Access {
  readonly tree: Tree;
  /** What is read here is not read by the sandbox. */
  readonly reads: Pick<ReadWatch, "unseen">;
  /** Held for as long as work on files lasts: the sandbox is not restarted meanwhile. */
  use?(): Disposable;
}

/**
 * An open descriptor that outlives a call. Its owner closes it, or the tree does when the sandbox ends: an open file would keep the
 * sandbox's disk alive. A descriptor is never closed under a system call that uses it: its number would soon be another file's.
 */
export class Handle implements Disposable {
  readonly #fd: number;
  readonly #access: Access;
  readonly #path: string;
  readonly #forget: () => void;
  #busy = 0;
  #closed = false;

  constructor(access: Access, fd: number, path: string) {
    this.#access = access;
    this.#fd = fd;
    this.#path = path;
    this.#forget = access.tree.onClose(() => this.close());
  }

  /** Throws a Refusal `sandbox-gone` once it is closed. */
  async use<T>(work: (fd: number) => T | Promise<T>): Promise<T> {
    if (this.#closed) throw new Refusal("sandbox-gone", this.#path);
    this.#busy++;
    try {
      return await work(this.#fd);
    } finally {
      this.#busy--;
      if (this.#closed) this.#release();
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#forget();
    this.#release();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #release(): void {
    if (this.#busy === 0) this.#access.reads.unseen(() => closeSync(this.#fd));
  }
}

/**
 * What reads from a sandbox's files in its own time. When the sandbox ends the generator lets go of what it holds, and its reader gets an
 * AleError: what was cut short never looks complete. So do all failures.
 */
export function endedWith<T>(
  tree: Tree,
  path: string,
  generator: AsyncGenerator<T, void, void>,
): AsyncIterable<T> {
  let gone = false;
  const forget = tree.onClose(() => {
    gone = true;
    generator.return().catch(() => {});
  });
  return (async function* () {
    try {
      for (;;) {
        const next = await generator.next();
        if (gone) throw new Refusal("sandbox-gone", path);
        if (next.done === true) return;
        yield next.value;
        if (gone) throw new Refusal("sandbox-gone", path);
      }
    } catch (error) {
      throw thrown(fileError(error, path));
    } finally {
      forget();
      await generator.return();
    }
  })();
}

export function thrown(error: FileError): AleError {
  return new AleError(error.type, `${error.path}: ${error.message ?? error.type}`);
}
