import type { ToolSchema } from "@ale/core";
import { z } from "zod";
import type { Codec } from "./codec.ts";
import { malformed } from "./malformed.ts";
import { type Action, bodyOf, type Parsed, type ToolFormat } from "./tool-format.ts";
import { orderedArguments } from "./tool-order.ts";

/**
 * The tool format of Qwen3 and other Hermes-style models: JSON between `<tool_call>` tags, any number of calls, text only
 * before the first. Tags inside the reasoning are thoughts, not calls.
 */
const OPEN = "<tool_call>";
const CLOSE = "</tool_call>";
const THOUGHT_END = "</think>";

const WrittenCall = z.object({ name: z.string().min(1), arguments: z.record(z.string(), z.unknown()) });

export function hermesFormat(codec: Codec, tools: readonly ToolSchema[]): ToolFormat {
  const json = (action: Action): string =>
    pythonJson({ name: action.name, arguments: orderedArguments(action, tools) });

  return {
    parse(tokens) {
      const { body, complete } = bodyOf(tokens, codec);
      const text = protectedText(body, codec);
      const refuse = (reason: string): Parsed => ({
        text: codec.reveal(text),
        actions: [],
        malformed: reason,
      });
      if (!complete) return refuse(malformed.cutOff);
      const answerFrom = text.lastIndexOf(THOUGHT_END) + 1;
      const first = text.indexOf(OPEN, answerFrom);
      if (first < 0) return refuse(malformed.noCall);
      const actions: Action[] = [];
      let rest = text.slice(first).trimEnd();
      while (rest !== "") {
        if (!rest.startsWith(OPEN)) return refuse(malformed.textAfterCall);
        const end = rest.indexOf(CLOSE);
        if (end < 0) return refuse(malformed.unclosedCall);
        const read = readCall(codec.reveal(rest.slice(OPEN.length, end)));
        if (typeof read === "string") return refuse(read);
        actions.push(read);
        rest = rest.slice(end + CLOSE.length).trimStart();
      }
      // The template puts one newline between text and call; it belongs to neither.
      return { text: codec.reveal(text.slice(0, first)).replace(/\n$/, ""), actions };
    },
    write: (action) => `${OPEN}\n${json(action)}\n${CLOSE}`,
    encode: (action) => codec.encodeRendered(`${OPEN}\n${codec.protect(json(action))}\n${CLOSE}`),
  };
}

/** Decoded so that a tag is seen only where its token was sampled, not where an argument happens to spell it. */
function protectedText(tokens: readonly number[], codec: Codec): string {
  let text = "";
  let from = 0;
  for (let to = 0; to <= tokens.length; to++) {
    if (to < tokens.length && !codec.isControl(tokens[to]!)) continue;
    text += codec.protect(codec.decode(tokens.slice(from, to)));
    if (to < tokens.length) text += codec.decode([tokens[to]!]);
    from = to + 1;
  }
  return text;
}

/** The call, or why it is not one. */
function readCall(text: string): Action | string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return malformed.badJson;
  }
  const call = WrittenCall.safeParse(value);
  return call.success ? call.data : malformed.badCall;
}

/** JSON with the spaces that Python's json.dumps and the templates' `tojson` put, which is what models learnt. */
export function pythonJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(pythonJson).join(", ")}]`;
  if (typeof value === "object" && value !== null)
    return `{${Object.entries(value)
      .map(([key, item]) => `${JSON.stringify(key)}: ${pythonJson(item)}`)
      .join(", ")}}`;
  return JSON.stringify(value);
}
