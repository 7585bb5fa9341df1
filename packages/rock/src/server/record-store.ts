import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AleError } from "@ale/core";
import type { SandboxRecord } from "./record.ts";

/**
 * The server's records on disk, one file a sandbox, replaced as a whole so that a crash leaves the old one or the new one. Readable by
 * the server's user alone: environments hold secrets.
 */
export class RecordStore {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  /** Every record that can be read. A file that cannot is reported by name, never deleted. */
  load(): { readonly records: SandboxRecord[]; readonly unreadable: string[] } {
    const records: SandboxRecord[] = [];
    const unreadable: string[] = [];
    for (const name of readdirSync(this.#directory)) {
      const path = join(this.#directory, name);
      if (name.endsWith(".new")) rmSync(path, { force: true });
      if (!name.endsWith(".json")) continue;
      try {
        records.push(JSON.parse(readFileSync(path, "utf8")) as SandboxRecord);
      } catch {
        unreadable.push(path);
      }
    }
    return { records: records.sort((one, other) => one.createdAtMs - other.createdAtMs), unreadable };
  }

  save(record: SandboxRecord): void {
    const path = join(this.#directory, `${record.id}.json`);
    try {
      writeFileSync(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
      renameSync(`${path}.new`, path);
    } catch (cause) {
      throw new AleError(
        "state-unwritable",
        `the state of sandbox ${record.id} could not be written: ${(cause as Error).message}`,
        { cause, next: `make room on, or repair, the file system of ${this.#directory}` },
      );
    }
  }

  remove(id: string): void {
    rmSync(join(this.#directory, `${id}.json`), { force: true });
  }
}
