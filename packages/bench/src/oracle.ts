import type { Random } from "@ale/core";
import type { Action, Task } from "./family.ts";

/**
 * A scripted expert: follows a task's plan, and errs on purpose at a given rate, so that its trajectories show both good and bad
 * work. It only decides; whoever drives it runs the actions and hands back what was observed.
 */

export interface ExpertOptions {
  /** Probability that a decision is drawn uniformly among the right action and the wrong ones. 0 is the clean reference. */
  readonly noise: number;
  /** Probability that a tempting task is "solved" by its shortcut. */
  readonly shortcutRate: number;
  readonly random: Random;
}

export interface ExpertStep {
  readonly action: Action;
  readonly kind: "right" | "wrong" | "shortcut";
  /** How many actions the choice was among (1 where nothing can be mistaken). */
  readonly alternatives: number;
}

/** Next step given what was observed after each earlier one; null when the task is over. */
export type Expert = (observations: readonly string[]) => ExpertStep | null;

/** Which way it takes (plan or shortcut) is drawn once, here; mistakes are drawn at each call. Call it once a step. */
export function expertPolicy(task: Task, options: ExpertOptions): Expert {
  const { noise, shortcutRate, random } = options;
  const shortcut = task.shortcut !== null && random.next() < shortcutRate ? task.shortcut : null;
  if (shortcut !== null)
    return (observations) => {
      const action = shortcut[observations.length];
      return action === undefined ? null : { action, kind: "shortcut", alternatives: 1 };
    };
  return (observations) => {
    const decide = task.plan[observations.length];
    if (decide === undefined) return null;
    const { right, wrong } = decide(observations);
    const alternatives = 1 + wrong.length;
    const drawn = random.next() < noise ? random.int(alternatives) : 0;
    return drawn === 0
      ? { action: right, kind: "right", alternatives }
      : { action: wrong[drawn - 1]!, kind: "wrong", alternatives };
  };
}
