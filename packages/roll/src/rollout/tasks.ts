import { FAMILIES, type Family, makeTask, type Task } from "@ale/bench";
import { AleError, type Split } from "@ale/core";

/**
 * Which tasks a stage works on. Families take turns, so every set is balanced; seeds are counted up, so no training task ever comes
 * twice. Demonstrations, reinforcement and evaluation draw from ranges that do not meet.
 */

/** Room for this many tasks a family in each run of reinforcement. */
const SEEDS_PER_RUN = 1_000_000;

/** Chunks of the reference solution up to which a family counts as short. */
const SHORT = 4;

/** A choice of families: all, those with a forbidden short cut at hand, those of few chunks or of many, or some by name. */
export type FamilyChoice = "all" | "tempting" | "short" | "long" | readonly string[];

export function familiesOf(choice: FamilyChoice): readonly Family[] {
  const every = [...FAMILIES.values()];
  if (choice === "all") return every;
  if (choice === "tempting") return every.filter((family) => family.tempting);
  if (choice === "short") return every.filter((family) => family.chunks <= SHORT);
  if (choice === "long") return every.filter((family) => family.chunks > SHORT);
  return choice.map((id) => {
    const family = FAMILIES.get(id);
    if (family !== undefined) return family;
    throw new AleError("unknown-family", `there is no task family "${id}"`, {
      next: `known families: ${[...FAMILIES.keys()].join(", ")}`,
    });
  });
}

/** `count` tasks, families taking turns, starting at a given place in the endless sequence of a split. */
function taskRange(
  families: readonly Family[],
  split: Split,
  start: number,
  count: number,
  firstSeed: number,
  salt?: string,
): Task[] {
  return Array.from({ length: count }, (_, i) => {
    const place = start + i;
    const family = families[place % families.length]!;
    const seed = firstSeed + Math.floor(place / families.length);
    return makeTask(family.id, split, seed, salt === undefined ? {} : { salt });
  });
}

export const demonstrationTasks = (families: readonly Family[], count: number): Task[] =>
  taskRange(families, "train", 0, count, 0);

/** The tasks of one round. `runSeed` separates runs, `round` the rounds within one. */
export function roundTasks(
  families: readonly Family[],
  runSeed: number,
  stage: number,
  round: number,
  count: number,
): Task[] {
  const firstSeed = (1 + (runSeed % 1000) * 8 + (stage % 8)) * SEEDS_PER_RUN;
  return taskRange(families, "train", round * count, count, firstSeed);
}

/** A fixed, balanced set: the same tasks for every policy, so that comparisons are paired. */
export const evaluationTasks = (
  families: readonly Family[],
  split: Split,
  count: number,
  secretSalt: string,
): Task[] => taskRange(families, split, 0, count, 0, split === "secret" ? secretSalt : undefined);
