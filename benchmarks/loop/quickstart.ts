import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { z } from "zod";
import { type BenchContext, compared, measured, type Result } from "../benchmark.ts";

/**
 * The closed loop itself, three seeds: what `./quickstart` prints at its end. The pass rates before training are the reference of
 * those after it, measured on the same held-out tasks in the same run. `--quick` runs every part of it once, on a few episodes.
 */
const Outcome = z.object({
  passBefore: z.number(),
  passBeforeInterval: z.tuple([z.number(), z.number()]),
  passAfter: z.number(),
  passAfterInterval: z.tuple([z.number(), z.number()]),
  heldoutTasks: z.number(),
  violationBefore: z.number(),
  violationPlain: z.number(),
  violationSafe: z.number(),
  cleanPassBefore: z.number(),
  cleanPassPlain: z.number(),
  cleanPassSafe: z.number(),
  episodes: z.number(),
  wallSeconds: z.number(),
  phases: z.record(z.string(), z.number()),
  throughput: z.object({
    sampledTokensPerSecond: z.number(),
    episodesPerSecond: z.number(),
    trainTokensPerSecond: z.number(),
  }),
});
type Outcome = z.infer<typeof Outcome>;

const SEEDS = [1, 2, 3] as const;

export async function quickstart(context: BenchContext): Promise<Result[]> {
  const seeds = context.quick ? SEEDS.slice(0, 1) : SEEDS;
  const results: Result[] = [];
  for (const seed of seeds) {
    context.say(`quickstart, seed ${seed}`);
    results.push(...resultsOf(seed, await runQuickstart(seed, context), context.quick));
  }
  return results;
}

function resultsOf(seed: number, outcome: Outcome, quick: boolean): Result[] {
  const of = (what: string): string => `${what}, seed ${seed}`;
  // A handful of episodes says nothing about learning, so a quick run has no targets.
  const bound = <T>(target: T): T | undefined => (quick ? undefined : target);
  const [low, high] = outcome.passAfterInterval;
  return [
    compared(
      of(`held-out pass rate after RL (${outcome.heldoutTasks} tasks) against before`),
      outcome.passAfter,
      "",
      outcome.passBefore,
      bound({ atLeast: 1.25 }),
    ),
    measured(of("its 95 % interval, low end"), low, ""),
    measured(of("its 95 % interval, high end"), high, ""),
    compared(
      of("violation rate, plain reward, against before"),
      outcome.violationPlain,
      "",
      outcome.violationBefore,
      bound({ atLeast: 1 }),
    ),
    compared(
      of("violation rate, safety in the return, against before"),
      outcome.violationSafe,
      "",
      outcome.violationBefore,
      bound({ atMost: 0.25 }),
    ),
    compared(
      of("clean pass rate, safety in the return, against plain reward"),
      outcome.cleanPassSafe,
      "",
      outcome.cleanPassPlain,
      bound({ atLeast: 1 }),
    ),
    measured(of("clean pass rate before"), outcome.cleanPassBefore, ""),
    measured(of("wall time of the loop"), outcome.wallSeconds, "s", bound({ atMost: 600 })),
    ...Object.entries(outcome.phases).flatMap(([name, seconds]) => [
      measured(of(`  ${name}`), seconds, "s"),
      measured(of(`  ${name}, share of the wall time`), seconds / outcome.wallSeconds, ""),
    ]),
    measured(of("sampled tokens while rolling out"), outcome.throughput.sampledTokensPerSecond, "tokens/s"),
    measured(of("episodes while rolling out"), outcome.throughput.episodesPerSecond, "episodes/s"),
    measured(
      of("training, forward and backward and step"),
      outcome.throughput.trainTokensPerSecond,
      "tokens/s",
    ),
    measured(of("episodes in all"), outcome.episodes, ""),
  ];
}

/** A process of its own, as a person would start it; its last line of stdout is the outcome. */
function runQuickstart(seed: number, context: BenchContext): Promise<Outcome> {
  const root = resolve(import.meta.dirname, "../..");
  const argv = [resolve(root, "packages/cli/src/main.ts"), "quickstart", "--json", "--seed", String(seed)];
  const child = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", ...argv, ...(context.quick ? ["--smoke"] : [])],
    {
      stdio: ["ignore", "pipe", "inherit"],
      signal: context.signal,
    },
  );
  let output = "";
  child.stdout.on("data", (data: Buffer) => {
    output += data;
  });
  return new Promise((done, fail) => {
    child.on("error", fail);
    child.on("close", (code) => {
      if (code !== 0)
        fail(new Error(`ale quickstart ended with exit code ${code}: ${output.trim().split("\n").at(-1)}`));
      else done(Outcome.parse(JSON.parse(output.trim().split("\n").at(-1)!)));
    });
  });
}
