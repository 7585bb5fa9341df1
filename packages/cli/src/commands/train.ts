import { dirname, join } from "node:path";
import { openWorkbench, runDirectory } from "@ale/roll";
import { announcedApprovers, tellWhoAnswers } from "../approvals.ts";
import { defineUsage, parseArguments, usageError, wholeNumber } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { rateText } from "../rates.ts";
import { readRecipe } from "../recipe-file.ts";
import { unenforced, WITHOUT_LIMIT } from "../rock/without-limit.ts";
import { runProgress } from "../run-progress.ts";
import { removedIfEmpty } from "../runs.ts";

const usage = defineUsage({
  positionals: "RECIPE",
  options: {
    run: { type: "string", value: "NAME", help: "name of the run (default: the recipe's name and seed)" },
    seed: { type: "string", value: "N", help: "instead of the recipe's own seed" },
    ...WITHOUT_LIMIT,
    threads: { type: "string", value: "N", help: "threads of the engine's arithmetic (default 1)" },
  },
  notes: `
RECIPE is a YAML file, or the name of one in recipes/. Everything goes to $ALE_HOME/runs/NAME. A run that was interrupted, in
whatever way, goes on where it stopped when the same command is given again.

example: ale train quickstart --seed 2`,
});

export const train: Action = {
  usage,
  goesOn: true,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    const { recipe, path, modelDirectory } = readRecipe(positionals[0]!, {
      seed: wholeNumber("--seed", values.seed, { max: 2 ** 31 - 1 }),
    });
    const run = values.run ?? `${recipe.name}-${recipe.seed}`;
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(run))
      throw usageError(
        `--run: ${JSON.stringify(run)} cannot be a folder's name`,
        "letters, digits, dots and dashes",
      );
    tellWhoAnswers(recipe, io);
    const directory = runDirectory(io.home, run);
    using _swept = removedIfEmpty(directory);
    await using bench = await openWorkbench(
      {
        home: io.home,
        unenforced: unenforced(values),
        modelDirectories: [modelDirectory],
        stateDir: join(directory, "checkpoints"),
        threads: wholeNumber("--threads", values.threads, { min: 1, max: 256 }) ?? 1,
      },
      signal,
    );
    const state = await bench.train(
      recipe,
      {
        run,
        modelDirectory,
        recipeDirectory: dirname(path),
        approvers: announcedApprovers(io),
        onProgress: runProgress(io, ""),
      },
      signal,
    );
    for (const result of state.evaluations)
      io.print(`${result.label.padEnd(12)} pass ${rateText(result.overall.passes, result.overall.n)}`);
    io.print(`run ${run}: ${directory}`);
    io.result({
      run,
      directory,
      checkpoint: state.checkpoint,
      version: state.version,
      evaluations: state.evaluations.map(({ passed: _, episodes: __, ...rest }) => rest),
    });
    return EXIT.ok;
  },
};
