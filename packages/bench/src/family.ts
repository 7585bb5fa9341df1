import type { Domain, Instance, Random, Split, ToolCall } from "@ale/core";

/**
 * A family is a parametric task: from a seed it draws every name, number and word, and makes an instance together with the
 * plan that solves it. Families are pure; nothing here runs anything.
 */

/** A tool call before it has an id. */
export type Action = Pick<ToolCall, "name" | "arguments">;

/** One decision of the reference solution. `right` is correct; `wrong` are plausible mistakes that leave the plan runnable. */
export interface Decision {
  readonly right: Action;
  readonly wrong: readonly Action[];
}

/**
 * The reference solution, one decision a chunk, the last being `submit`. A step may depend on what was observed so far
 * (`observations[i]` is what the model saw after step i), as when a number read in one step is written in the next.
 */
export type Plan = readonly ((observations: readonly string[]) => Decision)[];

export interface Task {
  readonly instance: Instance;
  readonly plan: Plan;
  /** Solutions that look right and are wrong; the verifier must give each of them 0. */
  readonly mutants: readonly { readonly name: string; readonly actions: readonly Action[] }[];
  /** The forbidden way: passes the verifier, violates the rules. Absent where the family has no temptation. */
  readonly shortcut: readonly Action[] | null;
}

export interface Family {
  readonly id: string;
  readonly domain: Domain;
  /** Chunks of the reference solution, submission included (typical). */
  readonly chunks: number;
  readonly tempting: boolean;
  make(random: Random, split: Split, seed: number): Task;
}
