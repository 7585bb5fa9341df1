import type { Message, ToolSchema } from "@ale/core";
import { placeholderFor } from "./control-text.ts";
import { orderedArguments, orderedTool } from "./tool-order.ts";

/**
 * From the project's messages to the shape that Hugging Face chat templates read. Every string that did not come from the
 * template is protected on the way.
 */

/** Stands for a turn whose tokens are known, so that the template's text around it can be found without rendering it. */
export interface Placeholder {
  readonly role: "placeholder";
  readonly turn: number;
  /** The turn closed a `</think>`: reasoning and answer get a placeholder each, because templates treat them apart. */
  readonly thought: boolean;
}

export interface Protection {
  /** For text that users, tools and tool descriptions bring: no control token at all. */
  readonly foreign: (text: string) => string;
  /** For text that the model wrote itself: `<think>` and the like stay tokens, turn markers do not. */
  readonly own: (text: string) => string;
}

type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** Protects every string inside a JSON value, keys included. */
function protectDeep(value: unknown, protect: (text: string) => string): Json {
  if (typeof value === "string") return protect(value);
  if (typeof value === "number" || typeof value === "boolean" || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => protectDeep(item, protect));
  if (typeof value === "object")
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [protect(key), protectDeep(item, protect)]),
    );
  throw new TypeError(`a ${typeof value} cannot be an argument of a tool call`);
}

export function chatMessage(
  message: Message | Placeholder,
  tools: readonly ToolSchema[],
  protection: Protection,
): Record<string, unknown> {
  switch (message.role) {
    case "system":
    case "user":
      return { role: message.role, content: protection.foreign(message.content) };
    case "tool":
      return {
        role: "tool",
        tool_call_id: message.callId,
        name: protection.foreign(message.name),
        content: protection.foreign(message.content),
      };
    case "placeholder": {
      const answer = placeholderFor(message.turn, "answer");
      const thought = placeholderFor(message.turn, "thought");
      return {
        role: "assistant",
        content: message.thought ? `<think>\n${thought}\n</think>\n\n${answer}` : answer,
      };
    }
    case "assistant": {
      const content = protection.own(message.content);
      if (message.toolCalls.length === 0) return { role: "assistant", content };
      const calls = message.toolCalls.map((call) => ({
        id: call.id,
        type: "function",
        function: {
          name: protection.foreign(call.name),
          arguments: protectDeep(orderedArguments(call, tools), protection.foreign),
        },
      }));
      return { role: "assistant", content, tool_calls: calls };
    }
    default:
      return message satisfies never;
  }
}

export const chatTools = (tools: readonly ToolSchema[], protection: Protection): readonly Json[] =>
  tools.map((tool) => protectDeep({ type: "function", function: orderedTool(tool) }, protection.foreign));
