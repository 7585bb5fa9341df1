import { EpisodeIndex, type EpisodeStore, trajectoryOf } from "@ale/core";
import { defaultFilter, rejectionOf } from "@ale/data";
import type { FinishedEpisode } from "../rollout/episode.ts";

/** Sealed episodes of an interrupted sitting, by group. */
export type Recovered = ReadonlyMap<string, readonly FinishedEpisode[]>;

/**
 * Finds the sealed episodes that an interrupted sitting left for a unit of work, so that they are used and not rolled out again.
 * Only episodes of the given policy version count (null: of a scripted actor); unsealed ones stay on disk, untouched and unused.
 */
export async function recoverEpisodes(
  store: EpisodeStore,
  run: string,
  groupPrefix: string,
  version: number | null,
): Promise<Recovered> {
  const groups = new Map<string, FinishedEpisode[]>();
  if ((await store.ids()).length === 0) return groups;
  using index = await EpisodeIndex.open(`${store.dir}/../index.sqlite`, store);
  for (const row of index.query({ run, sealed: true })) {
    if (!row.group?.startsWith(`${groupPrefix}/`) || row.version !== version) continue;
    const log = await store.read(row.id);
    const trajectory = trajectoryOf(log.events);
    if (rejectionOf(trajectory, defaultFilter) !== null) continue;
    const members = groups.get(row.group) ?? [];
    members.push({ trajectory, head: log.head });
    groups.set(row.group, members);
  }
  return groups;
}
