import {
  AleError,
  type ContextFull,
  type ContextProfile,
  type Ids,
  type Message,
  type Turn,
} from "@ale/core";
import type { Codec } from "./codec.ts";
import { type Increment, tokenContext } from "./context.ts";
import type { Action } from "./tool-format.ts";
import { toolFormat } from "./tool-formats.ts";
import type { Upstream } from "./upstream.ts";

/**
 * One episode's line to a model: chat messages in, chunks out, with the exact tokens of both kept from turn to turn. It
 * satisfies flow's `Model`. It owns the tokens and issues the tool-call ids; it decides nothing and runs nothing.
 */
export interface Conversation {
  /** Samples the next chunk. After an error or an abort nothing has changed, and the call may be repeated. */
  next(messages: readonly Message[], signal?: AbortSignal): Promise<Turn | ContextFull>;
  /** Writes the next chunk for a scripted expert: the same context, the action's tokens, no log-probabilities. */
  force(messages: readonly Message[], action: Action): Turn | ContextFull;
  /** Prompt and sampled tokens so far; the next prompt begins with exactly these, unless it forks. */
  readonly tokens: readonly number[];
  readonly stats: ConversationStats;
}

export interface ConversationStats {
  readonly turns: number;
  /** Prompts that did not continue the tokens before them. */
  readonly forks: number;
  /** Tokens that came from the template and from observations, each counted once, and again in every fork. */
  readonly contextTokens: number;
  readonly sampledTokens: number;
}

export interface ConversationOptions {
  readonly codec: Codec;
  readonly profile: ContextProfile;
  /** null when only `force` will be used, as for scripted experts. */
  readonly upstream: Upstream | null;
  readonly ids: Ids;
  /** Turn n is sampled with seed + n. Without it the upstream draws as it likes. */
  readonly seed?: number;
}

export function openConversation(options: ConversationOptions): Conversation {
  const { codec, profile, upstream, ids, seed } = options;
  if (profile.chatTemplate !== codec.chatTemplateSha256)
    throw new AleError(
      "profile-template-mismatch",
      `profile ${profile.name} was made for another chat template than the model's`,
      { next: "Make the profile with the model's codec.chatTemplateSha256." },
    );
  const format = toolFormat(profile.toolFormat, codec, profile.tools);
  const context = tokenContext(codec, profile.tools);
  const { maxTokensPerChunk, temperature, topP, topK } = profile.sampling;
  const stats = { turns: 0, contextTokens: 0, sampledTokens: 0 };
  let busy = false;

  /** The next prompt, or undefined when a whole chunk no longer fits after it. */
  function prompt(messages: readonly Message[]): { increment: Increment; tokens: number[] } | undefined {
    const increment = context.extend(messages);
    const tokens = (increment.forked ? [] : [...context.tokens]).concat(increment.tokens);
    return tokens.length + maxTokensPerChunk > profile.limits.maxContextTokens
      ? undefined
      : { increment, tokens };
  }

  function finish(
    messages: readonly Message[],
    increment: Increment,
    chunk: Pick<Turn, "tokens" | "logprobs" | "source" | "version" | "stopReason">,
  ): Turn {
    const parsed = format.parse(chunk.tokens);
    const toolCalls = parsed.actions.map((action) => ({ id: ids.next("call"), ...action }));
    context.commit(messages, increment, {
      message: { role: "assistant", content: parsed.text, toolCalls },
      tokens: chunk.tokens,
      thought: parsed.text.includes("</think>"),
    });
    stats.turns++;
    stats.contextTokens += increment.tokens.length;
    stats.sampledTokens += chunk.tokens.length;
    return {
      contextTokens: increment.tokens,
      ...chunk,
      text: parsed.text,
      toolCalls,
      ...(parsed.malformed === undefined ? {} : { malformed: parsed.malformed }),
      ...(increment.forked ? { forked: true } : {}),
    };
  }

  return {
    async next(messages, signal) {
      if (upstream === null) throw new Error("next: this conversation was opened without an upstream");
      if (busy) throw new Error("next: this conversation is still sampling its last chunk");
      const ready = prompt(messages);
      if (ready === undefined) return { type: "context-full" };
      busy = true;
      try {
        const { tokens, logprobs, stopReason, version } = await upstream.sample(
          {
            prompt: ready.tokens,
            maxTokens: maxTokensPerChunk,
            temperature,
            topP,
            topK,
            stop: codec.stopTokens,
            ...(seed === undefined ? {} : { seed: seed + stats.turns }),
          },
          signal,
        );
        return finish(messages, ready.increment, { tokens, logprobs, source: "policy", version, stopReason });
      } finally {
        busy = false;
      }
    },
    force(messages, action) {
      if (busy) throw new Error("force: this conversation is still sampling its last chunk");
      const ready = prompt(messages);
      if (ready === undefined) return { type: "context-full" };
      const tokens = [...format.encode(action), codec.stopTokens[0]!];
      return finish(messages, ready.increment, {
        tokens,
        logprobs: [],
        source: "expert",
        version: null,
        stopReason: "stop",
      });
    },
    get tokens() {
      return context.tokens;
    },
    get stats() {
      return { ...stats, forks: context.forks };
    },
  };
}
