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
  type ToolResult,
  type Turn,
} from "@ale/core";
import type { Model, ToolRuntime } from "./ports.ts";
import { messagesOf, opening } from "./render.ts";
import type { CallDecision, Supervisor, TimedOutcome } from "./supervisor.ts";
import { texts } from "./texts.ts";
import { refusal, type Tool, type ToolOutcome } from "./tools/tool.ts";
import { TOOLS, toolbox } from "./tools/toolbox.ts";
import { truncate, withNote } from "./truncate.ts";

/**
 * The agent: ask the model, run what it calls, write down what came of it, until something ends the episode. It owns the order of
 * events and the limits; it does not know where tokens come from, what a sandbox is, what is forbidden, or what an episode is worth.
 */

export interface AgentOptions {
  readonly model: Model;
  readonly runtime: ToolRuntime;
  readonly profile: ContextProfile;
  readonly instruction: string;
  /** Called for every event, in order, before anything that depends on it happens. */
  readonly emit: (event: Event) => void | Promise<void>;
  readonly clock: Clock;
  readonly supervisor?: Supervisor;
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
  const stop = options.supervisor?.stop;
  const ends = {
    cancel: signal,
    stop,
    either: stop === undefined ? signal : AbortSignal.any([signal, stop]),
  };
  try {
    await episode.record({ type: "message", role: "user", content: options.instruction });
    for (;;) {
      const end = await step(episode, options, ends);
      if (end !== null) return { termination: end, chunks: episode.chunks };
    }
  } catch (error) {
    if (signal.aborted) return { termination: "cancelled", chunks: episode.chunks };
    throw error;
  }
}

/** The two ways in which an episode is ended from outside. */
interface Ends {
  readonly cancel: AbortSignal;
  readonly stop: AbortSignal | undefined;
  /** What is running now ends with either. */
  readonly either: AbortSignal;
}

/** Whether something was thrown because the supervisor stopped the episode. */
const isStopped = ({ cancel, stop }: Ends, error: unknown): boolean =>
  stop?.aborted === true && !cancel.aborted && (error === stop.reason || error instanceof AleError);

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
async function step(episode: EpisodeState, options: AgentOptions, ends: Ends): Promise<Termination | null> {
  const { profile } = options;
  if (ends.cancel.aborted) return "cancelled";
  if (ends.stop?.aborted) return "stopped-by-guard";
  if (episode.chunks >= profile.limits.maxChunks) return "max-chunks";
  const turn = await sample(episode, options, ends);
  if (typeof turn === "string") return turn;
  const chunk = episode.chunks;
  await episode.record(callEvent(chunk, turn));
  const end = await act(chunk, turn, episode, options, ends);
  return end ?? (episode.malformed >= profile.limits.maxMalformed ? "malformed" : null);
}

async function sample(
  episode: EpisodeState,
  { model }: AgentOptions,
  ends: Ends,
): Promise<Turn | Termination> {
  try {
    const turn = await model.next(episode.messages, ends.either);
    return "type" in turn ? "max-context" : turn;
  } catch (error) {
    if (isStopped(ends, error)) return "stopped-by-guard";
    throw error;
  }
}

/** Runs the calls of a chunk in order, and writes down what came of each before the next begins. */
async function act(
  chunk: number,
  turn: Turn,
  episode: EpisodeState,
  options: AgentOptions,
  ends: Ends,
): Promise<Termination | null> {
  const known = turn.toolCalls.every((call) => episode.tools.has(call.name));
  episode.malformed = turn.malformed === undefined && known ? 0 : episode.malformed + 1;
  if (turn.malformed !== undefined) {
    // The sampled text stays in the context as it is; the answer to it comes from a tool named "error".
    const answer = { ...refusal(texts.malformed(turn.malformed)), durationMs: 0 };
    await observe(chunk, { id: `malformed_${chunk}`, name: "error" }, answer, {}, episode, options);
    return null;
  }
  for (const call of turn.toolCalls) {
    if (ends.cancel.aborted) return "cancelled";
    if (ends.stop?.aborted) return "stopped-by-guard";
    await episode.record({ type: "tool.call", chunk, call });
    const done = await inSandbox(() => supervised(chunk, call, episode, options, ends), ends.cancel);
    if (!done.ok) return fault(chunk, done.error, episode);
    const { outcome, marks, stop } = done.value;
    await observe(chunk, call, outcome, marks, episode, options);
    if (stop || ends.stop?.aborted) return "stopped-by-guard";
    if (call.name === "submit" && marks.guard === undefined) return "submitted";
  }
  return null;
}

interface Supervised {
  readonly outcome: TimedOutcome;
  readonly marks: Pick<ToolResult, "guard" | "note">;
  readonly stop: boolean;
}

/** One call with what the supervisor has to say before and after it. */
async function supervised(
  chunk: number,
  call: ToolCall,
  episode: EpisodeState,
  options: AgentOptions,
  ends: Ends,
): Promise<Supervised> {
  const { supervisor } = options;
  const decision = await decided(chunk, call, supervisor, ends);
  const refused = decision.type === "refuse";
  const ran = refused
    ? { outcome: { ...refusal(decision.content), durationMs: 0 }, guard: "refused" as const }
    : await runCall(call, episode, options, ends);
  const review = await supervisor?.after?.(chunk, call, ran.outcome, ends.cancel);
  return {
    outcome: ran.outcome,
    marks: {
      ...(ran.guard === undefined ? {} : { guard: ran.guard }),
      ...(review?.note === undefined ? {} : { note: review.note }),
    },
    stop: (refused && decision.stop === true) || review?.stop === true,
  };
}

async function decided(
  chunk: number,
  call: ToolCall,
  supervisor: Supervisor | undefined,
  ends: Ends,
): Promise<CallDecision> {
  try {
    return (await supervisor?.before?.(chunk, call, ends.either)) ?? { type: "proceed" };
  } catch (error) {
    if (isStopped(ends, error)) return { type: "refuse", content: texts.stopped, stop: true };
    throw error;
  }
}

interface Ran {
  readonly outcome: TimedOutcome;
  readonly guard?: "interrupted";
}

async function runCall(
  call: ToolCall,
  episode: EpisodeState,
  { runtime, clock }: AgentOptions,
  ends: Ends,
): Promise<Ran> {
  const tool = episode.tools.get(call.name);
  const started = clock.monotonicMs();
  const within = (outcome: ToolOutcome): TimedOutcome => ({
    ...outcome,
    durationMs: clock.monotonicMs() - started,
  });
  if (tool === undefined) return { outcome: within(refusal(texts.unknownTool(call.name))) };
  try {
    const outcome = within(await tool.run(call.arguments, runtime, ends.either));
    const isCut = ends.stop?.aborted === true && outcome.exitCode === null && call.name !== "submit";
    return isCut ? { outcome, guard: "interrupted" } : { outcome };
  } catch (error) {
    if (isStopped(ends, error)) return { outcome: within(refusal(texts.stopped)), guard: "interrupted" };
    throw error;
  }
}

/** What the tool said is cut to the profile's length; what guard adds to it is not. */
function observe(
  chunk: number,
  call: Pick<ToolCall, "id" | "name">,
  outcome: TimedOutcome,
  marks: Supervised["marks"],
  episode: EpisodeState,
  { profile }: AgentOptions,
): Promise<void> {
  const shown = truncate(outcome.content, profile.truncation);
  return episode.record({
    type: "tool.result",
    chunk,
    callId: call.id,
    name: call.name,
    ...outcome,
    content: marks.note === undefined ? shown : withNote(shown, marks.note),
    ...marks,
  });
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

const callEvent = (chunk: number, turn: Turn): Event => ({
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
