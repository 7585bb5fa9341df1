import type { Alert, Event, EventOf, Purpose, Termination, Verdict } from "./event.ts";

/**
 * A trajectory is what training reads: the chunks of one episode with the tokens between them. It is derived from the log
 * and from nothing else, so a recorded episode can always be trained on again.
 */
export interface Chunk {
  readonly index: number;
  /** Tokens before this chunk that the policy did not write; the whole prompt when `forked`. */
  readonly contextTokens: readonly number[];
  readonly tokens: readonly number[];
  /** One log-probability a token under the sampling policy; empty for experts. */
  readonly logprobs: readonly number[];
  readonly source: "policy" | "expert";
  readonly version: number | null;
  /** The text was not a well-formed tool call. */
  readonly malformed: boolean;
  /** A tool call of this chunk failed (non-zero exit, unknown tool, bad arguments, timeout). */
  readonly failed: boolean;
  /** Does not continue the tokens of the chunks before it: a new sequence begins here. */
  readonly forked?: boolean;
}

export interface Trajectory {
  readonly episode: string;
  readonly run: string | null;
  readonly group: string | null;
  readonly purpose: Purpose;
  readonly instance: EventOf<"episode.begin">["instance"];
  readonly chunks: readonly Chunk[];
  readonly alerts: readonly Alert[];
  readonly verdict: Verdict | null;
  readonly termination: Termination | null;
  readonly faults: readonly EventOf<"fault">[];
}

/**
 * Reads a trajectory out of the events of one episode. Throws when they do not start with `episode.begin`; only the record of a
 * repair may come before it (a crash tore the very first line).
 */
export function trajectoryOf(events: readonly Event[]): Trajectory {
  const begin = events.find((event) => event.type !== "log.repair");
  if (begin?.type !== "episode.begin") throw new Error("trajectoryOf: a log starts with episode.begin");
  const failedChunks = new Set<number>();
  const calls: EventOf<"model.call">[] = [];
  const alerts: Alert[] = [];
  const faults: EventOf<"fault">[] = [];
  let verdict: Verdict | null = null;
  let termination: Termination | null = null;
  for (const event of events) {
    switch (event.type) {
      case "model.call":
        calls.push(event);
        break;
      case "tool.result":
        if (event.isError) failedChunks.add(event.chunk);
        break;
      case "alert":
        alerts.push(event.alert);
        break;
      case "fault":
        faults.push(event);
        break;
      case "verdict":
        verdict = event.verdict;
        break;
      case "episode.end":
        termination = event.termination;
        break;
      default:
        break;
    }
  }
  const chunks = calls.map(
    (call): Chunk => ({
      index: call.chunk,
      contextTokens: call.contextTokens,
      tokens: call.tokens,
      logprobs: call.logprobs,
      source: call.source,
      version: call.version,
      malformed: call.malformed !== undefined,
      failed: failedChunks.has(call.chunk),
      ...(call.forked === undefined ? {} : { forked: call.forked }),
    }),
  );
  return {
    episode: begin.episode,
    run: begin.run,
    group: begin.group,
    purpose: begin.purpose,
    instance: begin.instance,
    chunks,
    alerts,
    verdict,
    termination,
    faults,
  };
}

/**
 * Runs of chunks that continue one another token for token: what may be laid out as one sequence. A trajectory has one, unless its
 * history was rewritten, which a forked chunk says; that chunk's context is a whole prompt and begins a new one.
 */
export function segmentsOf(chunks: readonly Chunk[]): Chunk[][] {
  const segments: Chunk[][] = [];
  for (const chunk of chunks) {
    const last = segments.at(-1);
    if (last === undefined || chunk.forked === true) segments.push([chunk]);
    else last.push(chunk);
  }
  return segments;
}

/** The tokens of one segment in order: context, chunk, context, chunk. */
export const tokensOf = (segment: readonly Chunk[]): number[] =>
  segment.flatMap((chunk) => [...chunk.contextTokens, ...chunk.tokens]);
