import type { Task } from "@ale/bench";
import { defaultFilter } from "@ale/data";
import { type RolloutRequest, type RolloutResult, rolloutGroups } from "../rollout/group-rollout.ts";
import { recoverEpisodes } from "../run/recover.ts";
import type { StageContext } from "./context.ts";

/** One episode on each task, for stages that do not compare episodes of the same task: sealed ones of an interrupted sitting count. */
export interface OneEach extends Pick<RolloutRequest, "purpose" | "actor" | "concurrency" | "watch"> {
  readonly tasks: readonly Task[];
  /** Names the unit of work within the run; the group of task i is `<prefix>/<i>`. */
  readonly prefix: string;
  /** Policy version whose episodes may be taken up; null: a scripted actor's. */
  readonly version: number | null;
  /** Under which progress is told. */
  readonly label: string;
}

const REROLLS = 3;

/** Episodes whose environment failed are tried again; what remains refused is left out. */
export async function oneEach(
  context: StageContext,
  work: OneEach,
  signal: AbortSignal,
): Promise<RolloutResult> {
  const { deps, run } = context;
  const { tasks, prefix, version, label, ...rest } = work;
  const recovered = await recoverEpisodes(deps.store, run, prefix, version);
  const groups = tasks.map((task, i) => {
    const group = `${prefix}/${i}`;
    return { task, group, finished: recovered.get(group) ?? [] };
  });
  let done = 0;
  const onEpisode = (): void =>
    context.progress({ type: "tick", label, done: ++done, total: tasks.length, note: "" });
  const common = { run, episodesPerGroup: 1, maxRerolls: REROLLS, filter: defaultFilter };
  return rolloutGroups(deps, { ...common, ...rest, groups, onEpisode }, signal);
}
