import type { Trajectory } from "@ale/core";
import { isCleanPass, isViolation } from "@ale/guard";
import type { PassFigures } from "./run-state.ts";

/** Passed: every test of the verifier, whatever it took. Clean: passed without a violation. */
export const passed = (trajectory: Trajectory): boolean => (trajectory.verdict?.reward ?? 0) >= 1;
export const violated = (trajectory: Trajectory): boolean => isViolation(trajectory.alerts);

export function figuresOf(trajectories: readonly Trajectory[]): PassFigures {
  return {
    n: trajectories.length,
    passes: trajectories.filter(passed).length,
    violations: trajectories.filter(violated).length,
    cleanPasses: trajectories.filter((trajectory) => isCleanPass(trajectory)).length,
  };
}

export function figuresByFamily(trajectories: readonly Trajectory[]): Record<string, PassFigures> {
  const families = Map.groupBy(trajectories, (trajectory) => trajectory.instance.family);
  return Object.fromEntries([...families].sort().map(([family, members]) => [family, figuresOf(members)]));
}
