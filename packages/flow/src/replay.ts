import type { ContextProfile, Event } from "@ale/core";
import type { ToolRuntime } from "./ports.ts";
import type { Tool } from "./tools/tool.ts";
import { TOOLS, toolbox } from "./tools/toolbox.ts";
import { truncate, withNote } from "./truncate.ts";

/** An observation that came out differently the second time. */
export interface ReplayDifference {
  readonly chunk: number;
  readonly callId: string;
  readonly name: string;
  /** What was seen, recorded and now; null when one of them is missing. */
  readonly recorded: string | null;
  readonly replayed: string | null;
}

export interface ReplayReport {
  readonly calls: number;
  readonly differences: readonly ReplayDifference[];
}

/**
 * Runs the recorded tool calls of an episode again, in order, in a fresh environment, and compares what the model would have
 * seen. The model is not asked, and guard neither: what it refused is left out, what it noted is taken as noted. Differences are reported and not mended: later calls run in whatever state earlier ones left.
 */
export async function replayTools(
  events: readonly Event[],
  runtime: ToolRuntime,
  options: { readonly profile?: ContextProfile; readonly tools?: readonly Tool[] } = {},
  signal?: AbortSignal,
): Promise<ReplayReport> {
  const begin = events.find((event) => event.type === "episode.begin");
  const profile = options.profile ?? begin?.profile;
  if (profile === undefined)
    throw new Error("replayTools: neither the events nor the options have a profile");
  const tools = toolbox(profile, options.tools ?? TOOLS);
  const results = new Map(
    events.filter((event) => event.type === "tool.result").map((event) => [event.callId, event]),
  );
  const differences: ReplayDifference[] = [];
  let calls = 0;
  for (const event of events) {
    if (event.type !== "tool.call") continue;
    const tool = tools.get(event.call.name);
    const result = results.get(event.call.id);
    // What guard refused never ran, and what it interrupted did not run to an end that could come out the same.
    if (tool === undefined || result?.guard !== undefined) continue;
    signal?.throwIfAborted();
    calls++;
    const outcome = await tool.run(event.call.arguments, runtime, signal);
    const shown = truncate(outcome.content, profile.truncation);
    const replayed = result?.note === undefined ? shown : withNote(shown, result.note);
    const recorded = result?.content ?? null;
    if (replayed !== recorded)
      differences.push({
        chunk: event.chunk,
        callId: event.call.id,
        name: event.call.name,
        recorded,
        replayed,
      });
  }
  return { calls, differences };
}
