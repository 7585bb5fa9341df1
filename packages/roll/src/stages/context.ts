import type { Family } from "@ale/bench";
import type { EpisodeDeps } from "../rollout/episode.ts";
import type { FamilyChoice } from "../rollout/tasks.ts";
import type { Watch } from "../rollout/watch.ts";
import type { RunState, SftProgress } from "../run/run-state.ts";
import type { Learner } from "./learner.ts";

/** What every stage works with. `commit` makes the state durable; a stage calls it after each unit of work. */
export interface StageContext {
  readonly deps: EpisodeDeps;
  readonly learner: Learner;
  readonly run: string;
  readonly seed: number;
  readonly stageIndex: number;
  readonly concurrency: number;
  /** Salt of the secret split; drawn at random when the run begins. */
  readonly secretSalt: string;
  /** How the episodes of this stage are watched. */
  readonly watch: Watch;
  readonly families: (choice: FamilyChoice) => readonly Family[];
  readonly state: () => RunState;
  readonly commit: (change: Partial<RunState>) => void;
  /** Saves the current weights as the next policy version; the change is for `commit`. */
  readonly checkpoint: (signal: AbortSignal) => Promise<Pick<RunState, "version" | "checkpoint" | "kept">>;
  readonly progress: (event: ProgressEvent) => void;
}

export type ProgressEvent =
  | { readonly type: "stage"; readonly stage: number; readonly label: string; readonly total: number }
  | {
      readonly type: "tick";
      readonly label: string;
      readonly done: number;
      readonly total: number;
      readonly note: string;
    }
  | { readonly type: "sft"; readonly progress: SftProgress };
