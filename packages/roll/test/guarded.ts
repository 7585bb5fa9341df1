import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { type Event, type EventOf, Instance, openEpisodeStore, systemClock, systemIds } from "@ale/core";
import { nanoProfile } from "@ale/flow";
import { codecFrom, nanoTokenizer, scriptedUpstream } from "@ale/gateway";
import { loadRules, type SigmaRule } from "@ale/guard";
import { baseImage, type SandboxDriver } from "@ale/rock";
import { onTestFinished } from "vitest";
import { runEpisode, type Watch, watchEverything } from "../src/index.ts";

/** Episodes in real sandboxes whose model follows a script, watched by guard. */

export const home = process.env.ALE_HOME ?? join(homedir(), ".ale");

/** Why sandboxes cannot run here, or null. */
export function whyNoSandbox(): string | null {
  if (process.getuid?.() !== 0) return "sandboxes need root";
  return existsSync(baseImage(home).rootfs) ? null : `no base image in ${home}`;
}

const { tokenizer, config } = nanoTokenizer(["bash", "submit", " ", "/"]);
const codec = codecFrom({ tokenizer, config });
const nano = nanoProfile(codec.chatTemplateSha256);
const profile = {
  ...nano,
  sampling: { ...nano.sampling, maxTokensPerChunk: 2_000 },
  limits: { ...nano.limits, maxContextTokens: 100_000 },
  truncation: { headChars: 2_000, tailChars: 1_000 },
};

export function instance(fields: Partial<Instance> = {}): Instance {
  return Instance.parse({
    schema: "ale/instance@1",
    id: "guarded/train/0",
    family: "guarded",
    domain: "security",
    split: "train",
    seed: 0,
    instruction: "do it",
    image: "ale/base",
    workdir: "/work",
    files: [],
    limits: { execTimeoutMs: 90_000, lifetimeMs: 300_000, memoryBytes: 512 * 2 ** 20 },
    network: { mode: "none" },
    verifier: {
      files: [
        {
          path: "/tests/test.sh",
          content: "echo 1 > /logs/verifier/reward.txt\n",
          mode: 0o755,
          owner: "root",
        },
      ],
    },
    referenceChunks: 1,
    ...fields,
  });
}

/** Rules of a test's own, in the form in which users write them. */
export function rulesOf(yaml: string): readonly SigmaRule[] {
  const { rules, faults } = loadRules(yaml, "test");
  if (faults.length > 0) throw new Error(JSON.stringify(faults));
  return rules;
}

/** A turn of the model: a command, or what comes before it and then the command. */
export type Turn = string | (() => Promise<string>);

export interface Guarded {
  readonly episode: string;
  readonly events: readonly Event[];
  of<T extends Event["type"]>(type: T): EventOf<T>[];
  readonly results: readonly EventOf<"tool.result">[];
  readonly termination: string | undefined;
  readonly reward: number | null | undefined;
}

/** Plays commands, each a chunk, and then submits. */
export async function guarded(
  driver: SandboxDriver,
  turns: readonly Turn[],
  options: {
    readonly instance?: Instance;
    readonly watch?: Partial<Watch>;
    readonly onEvent?: (event: Event) => void;
    readonly signal?: AbortSignal;
  } = {},
): Promise<Guarded> {
  const directory = await mkdtemp(join(tmpdir(), "ale-guarded-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const write = (command: string): number[] => [
    ...codec.encodeRendered(command === "submit" ? "submit<|end|>" : `bash<|arg|>${command}<|end|>`),
  ];
  const upstream = scriptedUpstream(
    [...turns, "submit"].map((turn) => async () => write(typeof turn === "string" ? turn : await turn())),
  );
  const events: Event[] = [];
  const { trajectory } = await runEpisode(
    {
      driver,
      codec,
      profile,
      store: await openEpisodeStore(directory),
      clock: systemClock,
      ids: systemIds,
    },
    {
      task: { instance: options.instance ?? instance(), plan: [], mutants: [], shortcut: null },
      purpose: "user",
      run: null,
      group: null,
      actor: { type: "policy", upstream, version: 0, seed: 1 },
      watch: { ...watchEverything(), ...options.watch },
      onEvent: (event) => {
        events.push(event);
        options.onEvent?.(event);
      },
    },
    options.signal ?? new AbortController().signal,
  );
  const of = <T extends Event["type"]>(type: T) =>
    events.filter((event): event is EventOf<T> => event.type === type);
  return {
    episode: trajectory.episode,
    events,
    of,
    results: of("tool.result"),
    termination: of("episode.end")[0]?.termination,
    reward: trajectory.verdict?.reward,
  };
}
