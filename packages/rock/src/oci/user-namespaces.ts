import { closeSync, openSync } from "node:fs";
import { type IdRanges, RANGE_SIZE } from "../host/id-ranges.ts";
import { shifted } from "../host/idmap.ts";
import type { Launcher } from "./launcher.ts";
import type { SandboxUsers } from "./sandbox-users.ts";

/** User numbers of sandboxes and the namespaces through which their layers are seen. A namespace serves one sandbox after another. */

/** Owns the namespaces and their numbers. */
export class UserNamespaces implements Disposable {
  readonly #launcher: Launcher;
  readonly #ranges: IdRanges;
  readonly #free: SandboxUsers[] = [];
  readonly #all = new Set<number>();
  #closed = false;

  constructor(launcher: Launcher, ranges: IdRanges) {
    this.#launcher = launcher;
    this.#ranges = ranges;
  }

  /** Throws an AleError. */
  async take(): Promise<SandboxUsers> {
    const ready = this.#free.shift();
    if (ready !== undefined) return ready;
    const first = this.#ranges.take();
    try {
      const map = `0 ${first} ${RANGE_SIZE}\n${RANGE_SIZE} 0 1\n`;
      const mountNamespace = await this.#launcher.userNamespace(map, (path) => openSync(path, "r"));
      this.#all.add(mountNamespace);
      return { first, size: RANGE_SIZE, ids: shifted(first, RANGE_SIZE), mountNamespace };
    } catch (error) {
      this.#ranges.giveBack(first);
      throw error;
    }
  }

  /** Once no process of the sandbox is left. */
  giveBack(users: SandboxUsers): void {
    if (!this.#closed) this.#free.push(users);
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    for (const fd of this.#all) closeSync(fd);
    this.#all.clear();
    this.#ranges[Symbol.dispose]();
  }
}
