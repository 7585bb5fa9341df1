import { accessSync, constants } from "node:fs";
import { listRuns, openIndex } from "./runs.ts";
import { contradiction, goneEpisodes, witnessesOf } from "./witnesses.ts";

/** Logs that say nothing, or that cannot be trusted for what they say. */
export interface UnsoundEpisode {
  readonly run: string;
  readonly id: string;
  /**
   * `unread`: it cannot be read; lists have nothing of it, or what was read before. `damaged`: it is not the log that was read before, or that
   * its run used; lists have of it what was read before. `gone`: its run used it, and it is no longer there.
   */
  readonly state: "unread" | "damaged" | "gone";
  readonly why: string;
}

/** Of the run `only`, or of all. Reads every log; see `EpisodeIndex.changed`. */
export async function unsoundEpisodes(
  home: string,
  only: string | undefined,
  signal: AbortSignal,
): Promise<readonly UnsoundEpisode[]> {
  const unsound: UnsoundEpisode[] = [];
  const witnesses = await witnessesOf(home, only);
  for (const { name: run, ...found } of await listRuns(home, only)) {
    signal.throwIfAborted();
    using index = await openIndex({ name: run, ...found });
    const rows = new Map(index.query().map((row) => [row.id, row]));
    const faults = new Map<string, string>();
    for (const { id, why } of [...index.refreshed.skipped, ...(await index.changed(signal))])
      faults.set(id, why);
    for (const row of rows.values()) {
      const against = contradiction(witnesses.get(row.path), row);
      if (against !== null && !faults.has(row.id)) faults.set(row.id, `${row.path}: ${against}`);
    }
    for (const [id, why] of faults)
      unsound.push({
        run,
        id,
        state: rows.has(id) && isReadable(found.store.path(id)) ? "damaged" : "unread",
        why,
      });
  }
  for (const { run, id } of goneEpisodes(witnesses))
    unsound.push({
      run,
      id,
      state: "gone",
      why: "the run used this episode, and its log is no longer there",
    });
  return unsound;
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
