import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FAMILIES, NANO_WORDS, type Task } from "../../packages/bench/src/index.ts";
import {
  type EpisodeStore,
  type Event,
  Instance,
  lineTimeMs,
  openEpisodeStore,
  readEpisodeLog,
  seededRandom,
  systemClock,
  systemIds,
} from "../../packages/core/src/index.ts";
import { nanoProfile } from "../../packages/flow/src/index.ts";
import { codecFrom, nanoTokenizer, scriptedUpstream } from "../../packages/gateway/src/index.ts";
import { bootstrapImage, defaultHome, type SandboxDriver } from "../../packages/rock/src/index.ts";
import { type Actor, runEpisode, type Watch, watchEverything } from "../../packages/roll/src/index.ts";

/** Real episodes of a scripted policy, with every collector and rule, whose logs are what is measured. */

/** A Debian with what compiles, tests and installs. Made once. */
export const WORK_IMAGE = "ale/bench-guard";
const PACKAGES = [
  "gcc",
  "git",
  "libc6-dev",
  "make",
  "mawk",
  "procps",
  "python3",
  "python3-pip",
  "python3-pytest",
];

export async function ensureWorkImage(): Promise<void> {
  await bootstrapImage(defaultHome(), { name: WORK_IMAGE, packages: PACKAGES, agent: true });
}

const { tokenizer, config } = nanoTokenizer(NANO_WORDS);
const codec = codecFrom({ tokenizer, config });
const nano = nanoProfile(codec.chatTemplateSha256);
const profile = {
  ...nano,
  sampling: { ...nano.sampling, maxTokensPerChunk: 8_000 },
  limits: { ...nano.limits, maxChunks: 400, maxContextTokens: 1_000_000 },
  truncation: { headChars: 2_000, tailChars: 1_000 },
};

export interface Played {
  readonly log: readonly Line[];
  readonly reward: number | null;
}

/** An event, and when it was written. */
export interface Line {
  readonly event: Event;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

export interface Stage extends Disposable {
  /** The reference solution of a task. */
  solve(task: Task): Promise<Played>;
  /** These commands, a chunk each. */
  play(instance: Instance, commands: readonly string[]): Promise<Played>;
}

/** Where episodes are played. What rules ask for is recorded and not done, so that an episode plays to its end. */
export async function openStage(driver: SandboxDriver, signal: AbortSignal): Promise<Stage> {
  const directory = mkdtempSync(join(tmpdir(), "ale-bench-guard-"));
  const store = await openEpisodeStore(directory);
  const watch: Watch = { ...watchEverything(), responses: false };
  const run = (task: Task, actor: Actor, judged: boolean): Promise<Played> =>
    played(store, driver, { task, actor, judged, watch }, signal);
  return {
    solve: (task) =>
      run(task, { type: "expert", noise: 0, shortcutRate: 0, random: seededRandom(task.instance.id) }, true),
    play(instance, commands) {
      const turns = [...commands.map((command) => `bash<|arg|>${command}`), "submit"];
      const upstream = scriptedUpstream(
        turns.map((turn) => async () => [...codec.encodeRendered(`${turn}<|end|>`)]),
      );
      const task = { instance, plan: [], mutants: [], shortcut: null };
      return run(task, { type: "policy", upstream, version: 0, seed: 1 }, false);
    },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}

async function played(
  store: EpisodeStore,
  driver: SandboxDriver,
  request: { task: Task; actor: Actor; judged: boolean; watch: Watch },
  signal: AbortSignal,
): Promise<Played> {
  const { trajectory } = await runEpisode(
    { driver, codec, profile, store, clock: systemClock, ids: systemIds },
    { ...request, purpose: "user", run: null, group: null },
    signal,
  );
  const { entries } = await readEpisodeLog(store.path(trajectory.episode));
  const log = entries.flatMap((entry) =>
    entry.known ? [{ event: entry.event, at: lineTimeMs(entries[0]!, entry) }] : [],
  );
  const fault = log.find(({ event }) => event.type === "fault");
  if (fault !== undefined) throw new Error(`an episode failed: ${JSON.stringify(fault.event)}`);
  return { log, reward: trajectory.verdict?.reward ?? null };
}

export const workInstance = (fields: Partial<Instance>): Instance =>
  Instance.parse({
    schema: "ale/instance@1",
    id: "bench/train/0",
    family: "bench",
    domain: "software-engineering",
    split: "train",
    seed: 0,
    instruction: "work",
    image: WORK_IMAGE,
    workdir: "/work",
    files: [],
    limits: {
      cpus: 2,
      execTimeoutMs: 120_000,
      lifetimeMs: 900_000,
      memoryBytes: 1024 * 2 ** 20,
      diskBytes: 512 * 2 ** 20,
      pids: 256,
    },
    network: { mode: "none" },
    verifier: { files: [] },
    referenceChunks: 1,
    ...fields,
  });

export const families = (): readonly string[] => [...FAMILIES.keys()];
