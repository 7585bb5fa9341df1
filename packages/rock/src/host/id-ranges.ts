import { closeSync, constants, mkdirSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { tryLock } from "./native.ts";

/**
 * Ranges of user and group numbers of the host, one for every sandbox. They are claimed in blocks, by a lock on a file that all drivers of
 * a host share: the kernel lets go of it when its holder ends, however it ends, so that nothing stale is left to judge.
 */

export interface IdRangeOptions {
  /** First number of the host that may be used. */
  readonly first: number;
  /** How many, a multiple of 2^20 (a block of sixteen ranges). */
  readonly count: number;
}

/** Numbers that a sandbox has: 0 to 65535, as images expect. */
export const RANGE_SIZE = 65_536;
const RANGES_IN_BLOCK = 16;
const BLOCK_SIZE = RANGES_IN_BLOCK * RANGE_SIZE;

/**
 * Above what systemd (524,288 to 1,879,048,191) and useradd (100,000 to 600,100,000) give to containers and users, and below 2^31, from where
 * on some programs see negative numbers. 3,840 sandboxes on a host.
 */
export const DEFAULT_ID_RANGE: IdRangeOptions = { first: 0x7000_0000, count: 0xf00_0000 };
const LOCKS = "/run/ale/ids";

/** Owns its locks. */
export class IdRanges implements Disposable {
  readonly #options: IdRangeOptions;
  readonly #locks: string;
  readonly #taken: readonly Interval[];
  #free: number[] = [];
  #held: number[] = [];
  #closed = false;

  constructor(options: IdRangeOptions = DEFAULT_ID_RANGE, locks = LOCKS, subordinate = subordinateIds()) {
    this.#options = options;
    this.#locks = locks;
    this.#taken = subordinate;
  }

  /** The first number of a range that nobody else on this host has. Throws an AleError where there is none. */
  take(): number {
    if (this.#free.length === 0) this.#claimBlock();
    return this.#free.shift()!;
  }

  /** Once no process runs under it. */
  giveBack(first: number): void {
    if (!this.#closed) this.#free.push(first);
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#free = [];
    for (const fd of this.#held.splice(0)) closeSync(fd);
  }

  /** Beginning anywhere, so that hosts that share a kernel but not /run rarely choose the same. */
  #claimBlock(): void {
    const blocks = Math.floor(this.#options.count / BLOCK_SIZE);
    const start = Math.floor(Math.random() * blocks);
    mkdirSync(this.#locks, { recursive: true, mode: 0o700 });
    for (let step = 0; step < blocks; step++) {
      const first = this.#options.first + ((start + step) % blocks) * BLOCK_SIZE;
      if (this.#taken.some(([from, to]) => first < to && from < first + BLOCK_SIZE)) continue;
      const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants;
      const fd = openSync(join(this.#locks, String(first)), O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
      if (tryLock(fd)) {
        this.#held.push(fd);
        for (let n = 0; n < RANGES_IN_BLOCK; n++) this.#free.push(first + n * RANGE_SIZE);
        return;
      }
      closeSync(fd);
    }
    throw new AleError("ids-exhausted", "every range of user numbers for sandboxes is in use on this host", {
      next: "end other drivers, or give this one another range with the option `idRange`",
    });
  }
}

type Interval = readonly [from: number, to: number];

/** What the host has promised to its own users. */
function subordinateIds(): Interval[] {
  return ["/etc/subuid", "/etc/subgid"].flatMap((path) => parseSubordinate(readIfThere(path)));
}

export function parseSubordinate(text: string): Interval[] {
  return text.split("\n").flatMap((line): Interval[] => {
    const [, first, count] = line.split(":");
    const [from, size] = [Number(first), Number(count)];
    return Number.isInteger(from) && size > 0 ? [[from, from + size]] : [];
  });
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
