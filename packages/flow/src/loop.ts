import {
  AleError,
  type Clock,
  type ContextProfile,
  type Event,
  err,
  type Message,
  ok,
  type Result,
  type Termination,
  type ToolCall,
} from "@ale/core";
import type { Model, ModelTurn, ToolRuntime } from "./ports.ts";
import { messagesOf, opening } from "./render.ts";
import { texts } from "./texts.ts";
import { refusal, type Tool, type ToolOutcome } from "./tools/tool.ts";
import { TOOLS, toolbox } from "./tools/toolbox.ts";
import { truncate } from "./truncate.ts";

/**
 * The agent: ask the model, run what it calls, write down what came of it, until something ends the episode. It owns the order of
 * events and the limits; it does not know where tokens come from, what a sandbox is, or what an episode is worth.
 */

/** What a tool made of a call, and how long the agent waited for it. */
export type TimedOutcome = ToolOutcome & { readonly durationMs: number };

/** After each tool call and before the next: guard looks at the sandbox here, and may end the episode. */
export type CallHook = (
  chunk: number,
  call: ToolCall,
  outcome: TimedOutcome,
  // biome-ignore lint/suspicious/noConfusingVoidType: a hook that returns nothing is a hook that does not stop
) => Promise<{ readonly stop: boolean } | void>;

export interface AgentOptions {
  readonly model: Model;
  readonly runtime: ToolRuntime;
  readonly profile: ContextProfile;
  readonly instruction: string;
  /** Called for every event, in order, before anything that depends on it happens. */
  readonly emit: (event: Event) => void | Promise<void>;
  readonly clock: Clock;
  readonly onCall?: CallHook;
  /** Default: all that the package has. The profile decides which of them the model sees. */
  readonly tools?: readonly Tool[];
}

export interface AgentOutcome {
  readonly termination: Termination;
  /** Chunks the model wrote. */
  readonly chunks: number;
}

/**
 * Emits `message`, then for every chunk `model.call` and for each of its calls `tool.call` and `tool.result`; on a broken
 * environment a `fault`. `episode.begin` and `episode.end` belong to the caller. Never throws for what model, tools or sandbox
 * do within their contracts; throws what `model`, `emit` and bugs throw, unless `signal` was aborted.
 */
export async function runAgent(options: AgentOptions, signal: AbortSignal): Promise<AgentOutcome> {
  const episode = startEpisode(options);
  try {
    await episode.record({ type: "message", role: "user", content: options.instruction });
    for (;;) {
      const end = await step(episode, options, signal);
      if (end !== null) return { termination: end, chunks: episode.chunks };
    }
  } catch (error) {
    if (signal.aborted) return { termination: "cancelled", chunks: episode.chunks };
    throw error;
  }
}

interface EpisodeState {
  readonly tools: ReadonlyMap<string, Tool>;
  readonly messages: readonly Message[];
  readonly chunks: number;
  /** Chunks in a row, up to now, without a well-formed tool call. */
  malformed: number;
  record(event: Event): Promise<void>;
}

function startEpisode({ profile, emit, tools = TOOLS }: AgentOptions): EpisodeState {
  let messages: readonly Message[] = opening(profile);
  let chunks = 0;
  return {
    tools: toolbox(profile, tools),
    get messages() {
      return messages;
    },
    get chunks() {
      return chunks;
    },
    malformed: 0,
    async record(event) {
      await emit(event);
      if (event.type === "model.call") chunks++;
      messages = [...messages, ...messagesOf(event)];
    },
  };
}

/** One chunk. Returns why the episode ends, or null when it goes on. */
async function step(
  episode: EpisodeState,
  options: AgentOptions,
  signal: AbortSignal,
): Promise<Termination | null> {
  const { model, profile } = options;
  if (signal.aborted) return "cancelled";
  if (episode.chunks >= profile.limits.maxChunks) return "max-chunks";
  const turn = await model.next(episode.messages, signal);
  if ("type" in turn) return "max-context";
  const chunk = episode.chunks;
  await episode.record(callEvent(chunk, turn));
  const end = await act(chunk, turn, episode, options, signal);
  return end ?? (episode.malformed >= profile.limits.maxMalformed ? "malformed" : null);
}

/** Runs the calls of a chunk in order, and writes down what came of each before the next begins. */
async function act(
  chunk: number,
  turn: ModelTurn,
  episode: EpisodeState,
  options: AgentOptions,
  signal: AbortSignal,
): Promise<Termination | null> {
  const known = turn.toolCalls.every((call) => episode.tools.has(call.name));
  episode.malformed = turn.malformed === undefined && known ? 0 : episode.malformed + 1;
  const observe = (call: Pick<ToolCall, "id" | "name">, result: TimedOutcome): Promise<void> =>
    episode.record({
      type: "tool.result",
      chunk,
      callId: call.id,
      name: call.name,
      ...result,
      content: truncate(result.content, options.profile.truncation),
    });
  if (turn.malformed !== undefined) {
    // The sampled text stays in the context as it is; the answer to it comes from a tool named "error".
    const answer = { ...refusal(texts.malformed(turn.malformed)), durationMs: 0 };
    await observe({ id: `malformed_${chunk}`, name: "error" }, answer);
    return null;
  }
  for (const call of turn.toolCalls) {
    if (signal.aborted) return "cancelled";
    await episode.record({ type: "tool.call", chunk, call });
    const result = await inSandbox(
      () => timed(runCall(call, episode, options, signal), options.clock),
      signal,
    );
    if (!result.ok) return fault(chunk, result.error, episode);
    await observe(call, result.value);
    const hook = await inSandbox(async () => options.onCall?.(chunk, call, result.value), signal);
    if (!hook.ok) return fault(chunk, hook.error, episode);
    if (hook.value?.stop) return "stopped-by-guard";
    if (call.name === "submit") return "submitted";
  }
  return null;
}

async function runCall(
  call: ToolCall,
  episode: EpisodeState,
  { runtime }: AgentOptions,
  signal: AbortSignal,
): Promise<ToolOutcome> {
  const tool = episode.tools.get(call.name);
  return tool ? tool.run(call.arguments, runtime, signal) : refusal(texts.unknownTool(call.name));
}

/** An AleError from the sandbox means that the environment failed the agent; anything else that is thrown is a bug, or an abort. */
async function inSandbox<T>(work: () => Promise<T>, signal: AbortSignal): Promise<Result<T, AleError>> {
  try {
    return ok(await work());
  } catch (error) {
    if (error instanceof AleError && !signal.aborted) return err(error);
    throw error;
  }
}

async function fault(chunk: number, error: AleError, episode: EpisodeState): Promise<Termination> {
  await episode.record({ type: "fault", chunk, what: "sandbox", detail: `${error.code}: ${error.message}` });
  return "environment-fault";
}

async function timed(work: Promise<ToolOutcome>, clock: Clock): Promise<TimedOutcome> {
  const started = clock.monotonicMs();
  const outcome = await work;
  return { ...outcome, durationMs: clock.monotonicMs() - started };
}

const callEvent = (chunk: number, turn: ModelTurn): Event => ({
  type: "model.call",
  chunk,
  contextTokens: [...turn.contextTokens],
  tokens: [...turn.tokens],
  logprobs: [...turn.logprobs],
  source: turn.source,
  version: turn.version,
  stopReason: turn.stopReason,
  text: turn.text,
  toolCalls: [...turn.toolCalls],
  ...(turn.malformed === undefined ? {} : { malformed: turn.malformed }),
  ...(turn.forked === undefined ? {} : { forked: turn.forked }),
});
