import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type EpisodeSummary, openEpisodeStore, summaryOf } from "@ale/core";
import { loadRunState } from "@ale/roll";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { removeHome, whyNoLoop, workingHome } from "./support.ts";

/** A run that is killed without warning in the middle of a round, and gone on with. Real engine, real sandboxes. */

const REPOSITORY = resolve(import.meta.dirname, "../../..");
const missing = whyNoLoop();

const RECIPE = `
schema: ale/recipe@1
name: resume-test
seed: 5
model: { directory: ${REPOSITORY}/models/nano-warm }
concurrency: 8
stages:
  - type: rl
    rounds: 3
    instancesPerRound: 4
    episodesPerInstance: 4
    families: [security, count]
    algorithm: { name: ipa }
    safety: { mode: chunk }
    adam: { learningRate: 5.0e-4 }
`;

let home: string;

beforeAll(() => {
  home = workingHome();
  writeFileSync(join(home, "recipe.yaml"), RECIPE);
});
afterAll(() => removeHome(home));

const directory = (): string => join(home, "runs", "killed");
const stepsDone = (): number => loadRunState(directory())?.step ?? 0;

function startTraining(): ChildProcess {
  return spawn(
    process.execPath,
    [
      join(REPOSITORY, "packages/cli/src/main.ts"),
      "train",
      join(home, "recipe.yaml"),
      "--run",
      "killed",
      "--json",
    ],
    {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ALE_HOME: home },
    },
  );
}

function ended(child: ChildProcess): Promise<{ code: number | null; output: string }> {
  let output = "";
  child.stdout?.on("data", (data) => {
    output += data;
  });
  child.stderr?.on("data", (data) => {
    output += data;
  });
  return new Promise((done) => child.on("close", (code) => done({ code, output })));
}

async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  limitMs: number,
): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited ${limitMs} ms for: ${what}`);
    await sleep(50);
  }
}

/** Processes whose command line or directory names our home: engine and sandboxes of this test. */
function processesOfHome(): string[] {
  return readdirSync("/proc")
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(home);
      } catch {
        return false;
      }
    });
}

/** A log that was created and killed before its first line is empty: nothing was recorded, so there is nothing to sum up. */
async function summaries(): Promise<EpisodeSummary[]> {
  const store = await openEpisodeStore(join(directory(), "episodes"));
  const logs = await Promise.all((await store.ids()).map((id) => store.read(id)));
  return logs.filter((log) => log.events.length > 0).map(summaryOf);
}

describe.skipIf(missing !== null)(
  `a run that is killed${missing === null ? "" : ` (skipped: ${missing})`}`,
  () => {
    test("goes on without losing a sealed episode or training on one twice, and leaves nothing running", {
      timeout: 600_000,
    }, async () => {
      const first = startTraining();
      const firstEnd = ended(first);
      await until(() => stepsDone() >= 1, "the first round", 240_000);
      const before = loadRunState(directory())!;
      await until(
        async () => {
          if (first.exitCode !== null) throw new Error((await firstEnd).output);
          const sealed = (await summaries().catch(() => [])).filter((episode) => episode.sealed);
          return sealed.length >= 16 * stepsDone() + 3;
        },
        "episodes of a later round",
        180_000,
      );
      first.kill("SIGKILL");
      await firstEnd;
      const left = loadRunState(directory())!;
      expect(left.step).toBeGreaterThanOrEqual(before.step);
      const sealedBefore = (await summaries().catch(() => []))
        .filter((episode) => episode.sealed)
        .map((episode) => episode.id);

      await until(() => processesOfHome().length === 0, "engine and sandboxes to notice and end", 60_000);

      const second = await ended(startTraining());
      expect(second.output).toContain('"run":"killed"');
      expect(second.code).toBe(0);

      const state = loadRunState(directory())!;
      expect(state.rounds.map((round) => round.round)).toEqual([0, 1, 2]);
      // What was committed before the kill is untouched.
      expect(state.rounds.slice(0, left.rounds.length)).toEqual(left.rounds);

      const trained = state.rounds.flatMap((round) => round.episodes);
      expect(new Set(trained.map(({ episode }) => episode)).size).toBe(trained.length);
      for (const round of state.rounds) expect(round.episodes).toHaveLength(16);
      const all = new Map((await summaries()).map((episode) => [episode.id, episode]));
      for (const { episode, head } of trained) expect(all.get(episode)).toMatchObject({ sealed: true, head });
      // Every episode that was sealed when the process died was used, unless its environment had failed.
      const used = new Set(trained.map(({ episode }) => episode));
      for (const id of sealedBefore) if (all.get(id)!.environmentFault === null) expect(used).toContain(id);
      // Each round's episodes were sampled by the version that the round says.
      for (const round of state.rounds)
        for (const { episode } of round.episodes) expect(all.get(episode)!.version).toBe(round.version);

      expect(processesOfHome()).toEqual([]);
      const sandboxes = join(home, "rock");
      expect(
        existsSync(sandboxes)
          ? readdirSync(sandboxes, { recursive: true }).filter((name) => String(name).includes("sb-"))
          : [],
      ).toEqual([]);
    });
  },
);
