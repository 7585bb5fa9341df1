import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type EpisodeLog, type Trajectory, trajectoryOf } from "@ale/core";
import { penaltyOf } from "@ale/guard";
import { chunkReturns, effectiveReward, parseRecipe, type Recipe } from "@ale/roll";

/** What learning made of an episode: the return of each chunk (Eq. 7, with safety in it), worked out again from the run's recipe. */
export type Returns = ReadonlyMap<number, number>;

/** null where there is no such thing: not a training episode, no verdict, no recipe beside the log, or another algorithm. */
export async function returnsOf(log: EpisodeLog): Promise<Returns | null> {
  const trajectory = trajectoryOf(log.events);
  if (trajectory.purpose !== "train" || trajectory.verdict?.reward == null) return null;
  const recipe = await recipeBeside(log.path);
  return recipe === null ? null : returnsUnder(recipe, trajectory);
}

export function returnsUnder(recipe: Recipe, trajectory: Trajectory): Returns | null {
  const stage = recipe.stages.find((candidate) => candidate.type === "rl");
  const reward = trajectory.verdict?.reward;
  if (stage === undefined || stage.algorithm.name !== "ipa" || reward == null) return null;
  const { gamma, failReward } = stage.algorithm;
  const chunks = trajectory.chunks.length;
  const penalty = penaltyOf(stage.safety, trajectory.alerts, chunks);
  const rFinal = penalty.kind === "override" ? penalty.terminalReward : effectiveReward(reward, failReward);
  const usual = chunkReturns(chunks, rFinal, gamma);
  const judged = penalty.kind === "unchanged" ? null : penalty.chunkReturns;
  return new Map(trajectory.chunks.map((chunk, i) => [chunk.index, judged?.[i] ?? usual[i]!]));
}

/** runs/<run>/episodes/<id>.jsonl → runs/<run>/recipe.json */
async function recipeBeside(logPath: string): Promise<Recipe | null> {
  try {
    const text = await readFile(join(dirname(logPath), "..", "recipe.json"), "utf8");
    const parsed = parseRecipe(JSON.parse(text));
    return parsed.ok ? parsed.value : null;
  } catch {
    return null; // A log on its own, or a recipe of another version: the episode can be read all the same.
  }
}
