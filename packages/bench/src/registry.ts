import { randomBytes } from "node:crypto";
import { AleError, digestOf, type Instance, type Split, seededRandom } from "@ale/core";
import { bisect } from "./families/bisect.ts";
import { climb } from "./families/climb.ts";
import { count } from "./families/count.ts";
import { data } from "./families/data.ts";
import { debug } from "./families/debug.ts";
import { games } from "./families/games.ts";
import { holdout } from "./families/holdout.ts";
import { migrate } from "./families/migrate.ts";
import { ml } from "./families/ml.ts";
import { sci } from "./families/sci.ts";
import { security } from "./families/security.ts";
import { swe } from "./families/swe.ts";
import { sysadmin } from "./families/sysadmin.ts";
import { vault } from "./families/vault.ts";
import type { Family, Task } from "./family.ts";

/**
 * All families, and the only way to a task: family, split and seed. The same three (and, for the secret split, the same salt)
 * always give the same task.
 */

const ALL: readonly Family[] = [
  data,
  count,
  games,
  vault,
  debug,
  bisect,
  sysadmin,
  sci,
  climb,
  swe,
  migrate,
  ml,
  holdout,
  security,
];

export const FAMILIES: ReadonlyMap<string, Family> = new Map(ALL.map((family) => [family.id, family]));

/** SHA-256 of everything in an instance but its name: two tasks with the same digest are the same task. */
export function contentDigest(instance: Instance): string {
  return digestOf({ ...instance, id: "", split: "train", seed: 0 });
}

/**
 * The split to which a task belongs by its content, whatever the seed that made it. Of 16 tasks 12 are for training, 2 are held
 * out and 2 are secret. So no task of one split can ever turn up in another, not even in a small family.
 */
export function splitOf(instance: Instance): Split {
  const bucket = Number.parseInt(contentDigest(instance).slice(0, 1), 16);
  return bucket < 12 ? "train" : bucket < 14 ? "heldout" : "secret";
}

let processSalt: string | undefined;

/** The salt of secret tasks: `ALE_SECRET_SALT`, or a random one that lives as long as the process. */
export function secretSalt(): string {
  processSalt ??= process.env.ALE_SECRET_SALT || randomBytes(16).toString("hex");
  return processSalt;
}

/** Chance that a family with at least 2 ** 14 tasks has none of the wanted split among so many draws: below 1e-23. */
const MAX_DRAWS = 400;

/**
 * Makes a task. Draws from the random stream `<split>/<family>/<seed>` (with the salt, for `secret`) until the content belongs to
 * the split. Throws an AleError for an unknown family or a seed that is no non-negative integer.
 */
export function makeTask(
  familyId: string,
  split: Split,
  seed: number,
  options: { readonly salt?: string } = {},
): Task {
  const family = FAMILIES.get(familyId);
  if (family === undefined)
    throw new AleError("unknown-family", `There is no task family "${familyId}".`, {
      next: `Choose one of: ${[...FAMILIES.keys()].join(", ")}.`,
    });
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new AleError("bad-seed", `A seed is a non-negative integer, not ${seed}.`);
  const salted = split === "secret" ? `/${options.salt ?? secretSalt()}` : "";
  for (let draw = 0; draw < MAX_DRAWS; draw++) {
    const random = seededRandom(`${split}/${familyId}/${seed}${salted}/${draw}`);
    const task = family.make(random, split, seed);
    if (splitOf(task.instance) === split) return task;
  }
  throw new Error(`${familyId}/${split}/${seed}: no task of this split in ${MAX_DRAWS} draws`);
}

/** The first `count` held-out tasks, families in turn. Always the same list. */
export function heldoutSet(count: number, families: readonly string[] = [...FAMILIES.keys()]): Task[] {
  return Array.from({ length: count }, (_, i) =>
    makeTask(families[i % families.length]!, "heldout", Math.floor(i / families.length)),
  );
}
