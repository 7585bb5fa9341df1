import {
  type Alert,
  type Clock,
  ContextProfile,
  EpisodeLogWriter,
  type Event,
  type EventOf,
  Instance,
  type LogOptions,
  profileHash,
} from "../src/index.ts";

/** What the tests of the log are written with: one small valid event of each kind. */

export const profile = ContextProfile.parse({
  schema: "ale/profile@1",
  name: "test",
  systemPrompt: "",
  tools: [],
  toolFormat: "compact",
  chatTemplate: "0".repeat(64),
  truncation: { headChars: 100, tailChars: 100 },
  sampling: { temperature: 1, topP: 1, topK: -1, maxTokensPerChunk: 32 },
  limits: { maxChunks: 8, maxContextTokens: 256, maxMalformed: 2 },
});

export const instance = Instance.parse({
  schema: "ale/instance@1",
  id: "data/train/7",
  family: "data",
  domain: "data-processing",
  split: "train",
  seed: 7,
  instruction: "max of col 3 in moss to mamba",
  image: "ale/base",
  workdir: "/work",
  files: [],
  limits: {},
  network: { mode: "none" },
  verifier: { files: [] },
  referenceChunks: 2,
});

export const begin = (
  episode: string,
  more: Partial<EventOf<"episode.begin">> = {},
): EventOf<"episode.begin"> => ({
  type: "episode.begin",
  episode,
  purpose: "train",
  run: "run_1",
  group: "group_1",
  instance,
  instanceDigest: "1".repeat(64),
  actor: { type: "policy", model: "nano", version: 4 },
  profile,
  profileHash: profileHash(profile),
  startedAt: "2026-03-01T10:00:00.000Z",
  software: { ale: "0.1.0" },
  ...more,
});

export const turn = (chunk: number, tokens: readonly number[] = [5, 6, 7]): EventOf<"model.call"> => ({
  type: "model.call",
  chunk,
  contextTokens: [1, 2],
  tokens: [...tokens],
  logprobs: tokens.map((token) => -0.1 * token),
  source: "policy",
  version: 4,
  stopReason: "stop",
  text: "ls",
  toolCalls: [{ id: `call_${chunk}`, name: "bash", arguments: { command: "ls" } }],
});

export const result = (
  chunk: number,
  more: Partial<EventOf<"tool.result">> = {},
): EventOf<"tool.result"> => ({
  type: "tool.result",
  chunk,
  callId: `call_${chunk}`,
  name: "bash",
  content: "moss\n",
  isError: false,
  exitCode: 0,
  timedOut: false,
  outputBytes: 5,
  durationMs: 3.5,
  ...more,
});

export const alert = (chunk: number, severity: Alert["severity"]): EventOf<"alert"> => ({
  type: "alert",
  chunk,
  alert: {
    rule: "forbidden-service",
    technique: "T1199",
    category: "controllability",
    severity,
    chunk,
    source: "command",
    evidence: { command: "oracle" },
    attribution: "certain",
  },
});

export const verdict = (reward: number | null): EventOf<"verdict"> => ({
  type: "verdict",
  verdict: { reward, tests: [], durationMs: 12 },
});

export const end: Event = { type: "episode.end", termination: "submitted", chunks: 1 };

/** A small whole episode, without its seal. */
export const episodeEvents = (episode: string): Event[] => [
  begin(episode),
  turn(0),
  result(0),
  end,
  verdict(1),
];

export async function writeLog(
  path: string,
  events: readonly Event[],
  options: LogOptions & { readonly seal?: boolean } = {},
): Promise<string> {
  await using writer = await EpisodeLogWriter.create(path, options);
  for (const event of events) writer.append(event);
  if (options.seal ?? true) await writer.seal();
  return writer.head;
}

/** A clock that stands still until it is moved. */
export function handClock(
  startMs = Date.parse("2026-03-01T10:00:00.000Z"),
): Clock & { advance(ms: number): void } {
  let now = startMs;
  let monotonic = 1000;
  return {
    nowMs: () => now,
    monotonicMs: () => monotonic,
    advance: (ms) => {
      now += ms;
      monotonic += ms;
    },
  };
}
