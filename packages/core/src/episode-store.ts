import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { EpisodeLogWriter, type LogOptions, type OpenedLog, openEpisodeLog } from "./episode-log.ts";
import {
  type EpisodeLog,
  readEpisodeLog,
  tailEpisodeLog,
  type Verification,
  verifyEpisodeLog,
} from "./episode-reader.ts";
import type { LogEntry } from "./log-line.ts";
import { AleError } from "./result.ts";

/** A folder of episode logs, one file `<id>.jsonl` each. It keeps nothing in memory: the folder is the truth. */
export interface EpisodeStore {
  readonly dir: string;
  path(id: string): string;
  /** Ids of all episodes, sealed or not, sorted (which is by creation time for generated ids). */
  ids(): Promise<string[]>;
  create(id: string, options?: LogOptions): Promise<EpisodeLogWriter>;
  reopen(id: string, options?: LogOptions): Promise<OpenedLog>;
  read(id: string): Promise<EpisodeLog>;
  verify(id: string): Promise<Verification>;
  tail(id: string, signal?: AbortSignal): AsyncGenerator<LogEntry, void>;
}

const SUFFIX = ".jsonl";
const SAFE_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/;

/** Makes the folder when it is not there. Methods throw `episode.bad-id` for ids that could leave the folder. */
export async function openEpisodeStore(dir: string): Promise<EpisodeStore> {
  await mkdir(dir, { recursive: true });
  const path = (id: string): string => {
    if (!SAFE_ID.test(id)) throw new AleError("episode.bad-id", `${JSON.stringify(id)} is not an episode id`);
    return join(dir, id + SUFFIX);
  };
  return {
    dir,
    path,
    ids: async () =>
      (await readdir(dir))
        .filter((name) => name.endsWith(SUFFIX) && SAFE_ID.test(name.slice(0, -SUFFIX.length)))
        .map((name) => name.slice(0, -SUFFIX.length))
        .sort(),
    create: async (id, options) => EpisodeLogWriter.create(path(id), options),
    reopen: async (id, options) => openEpisodeLog(path(id), options),
    read: async (id) => readEpisodeLog(path(id)),
    verify: async (id) => verifyEpisodeLog(path(id)),
    tail: (id, signal) => tailEpisodeLog(path(id), signal),
  };
}
