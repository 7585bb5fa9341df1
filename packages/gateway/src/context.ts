import { canonicalJson, type Message, type ToolSchema } from "@ale/core";
import type { Placeholder } from "./chat-messages.ts";
import type { Codec } from "./codec.ts";
import { placeholderFor } from "./control-text.ts";

/**
 * The exact token sequence of one conversation: what was given to the model and what it sampled, never tokenised twice.
 *
 * Each new prompt is rendered with a placeholder in the place of every turn sampled so far. What the template writes between
 * two placeholders must be what it wrote before; then only the text after the last one is new, and only that is encoded.
 * If not, the template (or the caller) has rewritten history, and the sequence is forked: everything is tokenised afresh.
 */
export interface Increment {
  /** To be appended to the sequence; in a fork, the whole new sequence. */
  readonly tokens: readonly number[];
  readonly forked: boolean;
}

/** A sampled turn, as the next contexts must show it. */
export interface OwnTurn {
  readonly message: Message & { readonly role: "assistant" };
  readonly tokens: readonly number[];
  readonly thought: boolean;
}

export interface TokenContext {
  /** Everything so far, sampled turns included. */
  readonly tokens: readonly number[];
  readonly forks: number;
  /** What must be added before the next turn can be sampled. Changes nothing. */
  extend(messages: readonly Message[]): Increment;
  /** The increment was used, and this turn followed it. */
  commit(messages: readonly Message[], increment: Increment, turn: OwnTurn): void;
}

export function tokenContext(codec: Codec, tools: readonly ToolSchema[]): TokenContext {
  let tokens: number[] = [];
  let forks = 0;
  /** Messages of the last prompt, and the turns among them (and right after) whose tokens are ours, by message index. */
  let seen: readonly Message[] = [];
  let own: ReadonlyMap<number, OwnTurn> = new Map();
  /** Rendered text before the first own turn and between one own turn and the next. */
  let between: readonly string[] = [];
  /** Text of the last increment, computed by `extend` and kept by `commit`. */
  let pending: { readonly increment: Increment; readonly between: readonly string[] } | undefined;

  const render = (messages: readonly (Message | Placeholder)[]): string =>
    codec.render(messages, tools, { addGenerationPrompt: true });

  function continues(messages: readonly Message[]): boolean {
    const last = own.get(seen.length);
    const echoed = messages[seen.length];
    return (
      last !== undefined &&
      echoed !== undefined &&
      sameMessage(echoed, last.message) &&
      seen.every((message, i) => sameMessage(message, messages[i]!))
    );
  }

  /** The text after the last own turn, or undefined if what comes before is not what it was. */
  function newText(messages: readonly Message[]): string | undefined {
    if (!continues(messages)) return undefined;
    const rendered = render(
      messages.map((message, i) => {
        const turn = own.get(i);
        return turn === undefined ? message : { role: "placeholder", turn: i, thought: turn.thought };
      }),
    );
    let at = 0;
    let nth = 0;
    for (const [index, turn] of own) {
      const text = between[nth++]!;
      if (!rendered.startsWith(text, at)) return undefined;
      at += text.length;
      const answer = placeholderFor(index, "answer");
      const from = rendered.indexOf(answer, at);
      const thought = rendered.indexOf(placeholderFor(index, "thought"), at);
      // A turn with reasoning brings template text of its own (`<think>`), which the model sampled; others bring nothing.
      const kept = turn.thought ? thought >= at && thought < from : from === at;
      if (!kept) return undefined;
      at = from + answer.length;
    }
    return rendered.slice(at);
  }

  function extend(messages: readonly Message[]): Increment {
    const text = tokens.length === 0 ? undefined : newText(messages);
    if (text === undefined) {
      const rendered = render(messages);
      const increment = { tokens: codec.encodeRendered(rendered), forked: tokens.length > 0 };
      pending = { increment, between: [rendered] };
      return increment;
    }
    // The sampled stop token already stands for the template's end of turn; a turn cut off by length lacks it.
    const stop = own.get(seen.length)?.tokens.at(-1);
    const closing = stop !== undefined && codec.stopTokens.includes(stop) ? codec.decode([stop]) : "";
    const rest = text.startsWith(closing) ? text.slice(closing.length) : text;
    const increment = { tokens: codec.encodeRendered(rest), forked: false };
    pending = { increment, between: [...between, text] };
    return increment;
  }

  return {
    get tokens() {
      return tokens;
    },
    get forks() {
      return forks;
    },
    extend,
    commit(messages, increment, turn) {
      if (pending?.increment !== increment)
        throw new Error("commit: the increment is not the last one that extend gave");
      if (increment.forked) forks++;
      tokens = (increment.forked ? [] : tokens).concat(increment.tokens, turn.tokens);
      own = new Map([...(increment.forked ? [] : own), [messages.length, turn]]);
      between = pending.between;
      seen = [...messages];
      pending = undefined;
    },
  };
}

const sameMessage = (a: Message, b: Message): boolean => a === b || canonicalJson(a) === canonicalJson(b);
