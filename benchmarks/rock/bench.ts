import { runParts } from "../benchmark.ts";
import { commands } from "./commands.ts";
import { density } from "./density.ts";
import { forks } from "./forks.ts";
import { pool } from "./pool.ts";
import { sdk } from "./sdk.ts";
import { start } from "./start.ts";

export const title =
  "sandboxes: start against a bare crun and podman, commands against a bare pipe and ROCK's rocklet, forks, density, churn";

/** Each part stands in its own file and reports figures of its own. `density` is first: it measures the memory of sandboxes, not that of a process that has done all the rest. */
export const run = runParts({ density, start, pool, commands, forks, sdk });
