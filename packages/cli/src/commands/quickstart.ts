import { spawn } from "node:child_process";
import { z } from "zod";
import { defineUsage, parseArguments, wholeNumber } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { planQuickstart } from "../quickstart/plan.ts";
import { runQuickstart } from "../quickstart/run.ts";
import { jsonOf } from "../quickstart/summary.ts";
import type { QuickstartReport } from "../report/data.ts";

const usage = defineUsage({
  positionals: "",
  options: {
    seed: { type: "string", value: "N", help: "instead of the recipes' own seed" },
    "from-scratch": {
      type: "boolean",
      help: "make the warm start too, from random weights (about ten minutes more)",
    },
    smoke: {
      type: "boolean",
      help: "every part on a few episodes, to see that it works; the figures mean nothing",
    },
    "no-open": { type: "boolean", help: "do not open the report in a browser" },
  },
  notes: `
Runs recipes/quickstart.yaml and the safety pair (recipes/safety-plain.yaml, recipes/safety-safe.yaml), then writes a report with
curves. Everything is computed by this run. An interrupted quickstart goes on where it stopped.`,
});

/** Seconds of the installing steps, as scripts/setup.sh hands them on. */
const SetupPhases = z.record(z.string(), z.number().nonnegative());

export const quickstart: Action = {
  usage,
  goesOn: true,
  async run(argv, io, signal) {
    const { values } = parseArguments(usage, argv);
    const plan = planQuickstart({
      home: io.home,
      seed: wholeNumber("--seed", values.seed, { max: 2 ** 31 - 1 }),
      fromScratch: values["from-scratch"],
      smoke: values.smoke,
    });
    io.note(plan.resumed ? `going on with ${plan.name}, which was interrupted` : `${plan.name} begins`);
    const { report, path } = await runQuickstart(plan, io, setupPhases(io), signal);
    print(report, path, io);
    io.result(jsonOf(report, path));
    if (!values["no-open"] && !io.json) openInBrowser(path, io);
    return EXIT.ok;
  },
};

function setupPhases(io: Io): Record<string, number> {
  try {
    return SetupPhases.parse(JSON.parse(io.env.ALE_SETUP_PHASES ?? "{}"));
  } catch {
    return {};
  }
}

function print({ curve, headline, run, safety, throughput }: QuickstartReport, path: string, io: Io): void {
  const percent = (rate: number | undefined): string => `${((rate ?? 0) * 100).toFixed(1).padStart(5)} %`;
  const range = ([low, high]: readonly [number, number]): string =>
    `[${(low * 100).toFixed(1)}, ${(high * 100).toFixed(1)}]`;
  io.print("");
  io.print(io.paint("bold", `Held-out tasks, never seen in training (${headline.heldoutTasks} of them)`));
  io.print(`  before   ${percent(headline.passBefore)} passed  ${range(headline.passBeforeInterval)}`);
  io.print(
    `  after    ${percent(headline.passAfter)} passed  ${range(headline.passAfterInterval)}   ${curve.length} rounds of IPA`,
  );
  io.print(`  curve    ${sparkline(curve.map((point) => point.onPolicyPass))}`);
  if (safety !== null) {
    const { plain, safe } = safety;
    io.print("");
    io.print(io.paint("bold", "Tasks with a forbidden short cut at hand"));
    io.print(`               violations  clean passes`);
    io.print(`  before        ${percent(plain.before.violation)}      ${percent(plain.before.cleanPass)}`);
    io.print(`  plain reward  ${percent(plain.after.violation)}      ${percent(plain.after.cleanPass)}`);
    io.print(`  with safety   ${percent(safe.after.violation)}      ${percent(safe.after.cleanPass)}`);
  }
  io.print("");
  io.print(
    `${headline.episodes} episodes in real sandboxes, ${headline.wallSeconds.toFixed(0)} s; while rolling out ${throughput.episodesPerSecond} episodes/s and ${throughput.sampledTokensPerSecond} sampled tokens/s`,
  );
  io.print(`report:      ${path}`);
  io.print(`any episode: ./ale episodes show last --run ${run}`);
}

const TICKS = "▁▂▃▄▅▆▇█";

/** One character a value, 0 to the greatest. */
function sparkline(values: readonly number[]): string {
  const top = Math.max(...values, 1e-9);
  return values.map((value) => TICKS[Math.min(7, Math.floor((value / top) * 8))]).join("");
}

/** Best effort: a machine without a desktop just prints the path. */
function openInBrowser(path: string, io: Io): void {
  if (io.env.DISPLAY === undefined && io.env.WAYLAND_DISPLAY === undefined) return;
  const opener = spawn("xdg-open", [path], { stdio: "ignore", detached: true });
  opener.on("error", () => undefined);
  opener.unref();
}
