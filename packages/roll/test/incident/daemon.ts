import { createInterface } from "node:readline";
import { Instance, openEpisodeStore, type SandboxFile, systemClock, systemIds } from "@ale/core";
import { nanoProfile } from "@ale/flow";
import { codecFrom, nanoTokenizer, scriptedUpstream } from "@ale/gateway";
import { OciDriver, type Sandbox } from "@ale/rock";
import { HOST_UPSTREAM } from "../../../rock/src/egress/upstream.ts";
import { runEpisode, watchEverything } from "../../src/index.ts";
import { ATTACK_IMAGE } from "./image.ts";
import { ATTACK_LIMITS, attackSpec, PLACES } from "./world.ts";

/**
 * Run by incident.test.ts in the network of a host of its own: owns driver, sandboxes and gateway, obeys orders on stdin, one JSON a line, and
 * may be killed at any moment. Names lead where the world has them; all else is as in production.
 */

export type Order =
  | { readonly order: "open"; readonly files: readonly SandboxFile[] }
  | { readonly order: "shell"; readonly box: string; readonly command: string }
  | {
      readonly order: "episode";
      readonly files: readonly SandboxFile[];
      readonly commands: readonly string[];
      /** Whether guard does what its rules say, or records alone. */
      readonly responses: boolean;
      /** Where the log is written. */
      readonly directory: string;
    };

/** The default of a task that needs a network. */
const NETWORK = { mode: "allowlist", hosts: [{ name: "files.test" }] } as const;

const driver = new OciDriver({
  home: process.argv[2]!,
  egress: {
    upstream: { ...HOST_UPSTREAM, resolve: async (name) => (name === "files.test" ? [PLACES.files] : []) },
  },
});
const boxes = new Map<string, Sandbox>();

async function obey(order: Order): Promise<unknown> {
  switch (order.order) {
    case "open": {
      const { network } = episodeInstance(order.files);
      const box = await driver.create(attackSpec({ files: order.files, network }));
      boxes.set(box.id, box);
      return { box: box.id, address: await addressOf(box) };
    }
    case "shell": {
      const { output } = await boxes.get(order.box)!.shell.run(order.command);
      return { output };
    }
    case "episode":
      return play(order);
    default:
      return order satisfies never;
  }
}

const episodeInstance = (files: readonly SandboxFile[]): Instance =>
  Instance.parse({
    schema: "ale/instance@1",
    id: "incident/train/0",
    family: "incident",
    domain: "security",
    split: "train",
    seed: 0,
    instruction: "do what you came for",
    image: ATTACK_IMAGE,
    workdir: "/work",
    files,
    limits: ATTACK_LIMITS,
    network: NETWORK,
    verifier: { files: [] },
    referenceChunks: 1,
  });

/** As a quick model takes for a chunk. Processes' starts are told in ticks of 10 ms, which must not meet in two chunks. */
const THINKING_MS = 100;

const { tokenizer, config } = nanoTokenizer(["bash", "submit", " ", "/"]);
const codec = codecFrom({ tokenizer, config });
const nano = nanoProfile(codec.chatTemplateSha256);
const profile = {
  ...nano,
  sampling: { ...nano.sampling, maxTokensPerChunk: 4_000 },
  limits: { ...nano.limits, maxContextTokens: 200_000 },
  truncation: { headChars: 2_000, tailChars: 1_000 },
};

/** A policy that says one command a chunk, in an episode like any other. */
async function play({
  files,
  commands,
  responses,
  directory,
}: Order & { order: "episode" }): Promise<unknown> {
  const write = (text: string): number[] => [...codec.encodeRendered(`${text}<|end|>`)];
  const turns = [...commands.map((command) => `bash<|arg|>${command}`), "submit"];
  const store = await openEpisodeStore(directory);
  const { trajectory } = await runEpisode(
    { driver, codec, profile, store, clock: systemClock, ids: systemIds },
    {
      task: { instance: episodeInstance(files), plan: [], mutants: [], shortcut: null },
      purpose: "user",
      run: null,
      group: null,
      judged: false,
      actor: {
        type: "policy",
        upstream: scriptedUpstream(
          turns.map((turn) => async () => {
            await new Promise((resolve) => setTimeout(resolve, THINKING_MS));
            return write(turn);
          }),
        ),
        version: 0,
        seed: 1,
      },
      watch: { ...watchEverything(), responses },
    },
    new AbortController().signal,
  );
  return { log: store.path(trajectory.episode), termination: trajectory.termination };
}

/** The other end of the cable that its resolver is at. */
async function addressOf(box: Sandbox): Promise<string> {
  const { stdout } = await box.exec({ argv: ["cat", "/etc/resolv.conf"] });
  return stdout.replace(
    /^nameserver (.*)\.(\d+)\n$/,
    (_line, network, gateway) => `${network}.${Number(gateway) + 1}`,
  );
}

const answer = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
createInterface({ input: process.stdin }).on("line", (line) => {
  obey(JSON.parse(line) as Order).then(answer, (error: unknown) => answer({ error: String(error) }));
});
answer({ ready: true });
