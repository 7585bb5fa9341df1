import { AleError, type ToolSchema } from "@ale/core";
import type { Codec } from "./codec.ts";
import { malformed } from "./malformed.ts";
import { type Action, bodyOf, type Parsed, type ToolFormat } from "./tool-format.ts";
import { argumentOrder, orderedArguments } from "./tool-order.ts";

/**
 * The tool format of nano models, one call a chunk: the tool's name, then each value after an `<|arg|>` token, in the order
 * of the tool's schema. No quoting is needed, because a value can hold no control token.
 */
const ARGUMENT = "<|arg|>";

/** U+FFFD: what bytes that are not UTF-8 decode to. */
const REPLACEMENT = "\uFFFD";

export function compactFormat(codec: Codec, tools: readonly ToolSchema[]): ToolFormat {
  const separator = codec.controlToken(ARGUMENT);
  if (separator === undefined)
    throw new AleError("no-argument-token", `the tokenizer has no ${ARGUMENT} token`, {
      next: "Use the hermes tool format, or a tokenizer built for the compact one.",
    });

  const values = (action: Action): string[] =>
    Object.values(orderedArguments(action, tools)).map((value) =>
      typeof value === "string" ? value : JSON.stringify(value),
    );

  return {
    parse(tokens) {
      const { body, complete } = bodyOf(tokens, codec);
      const refuse = (reason: string): Parsed => ({
        text: codec.decode(body),
        actions: [],
        malformed: reason,
      });
      if (!complete) return refuse(malformed.cutOff);
      const pieces = splitAt(body, separator);
      if (pieces.some((piece) => piece.some(codec.isControl))) return refuse(malformed.controlToken);
      const [name = "", ...written] = pieces.map((piece) => codec.decode(piece));
      const tool = tools.find((candidate) => candidate.name === name);
      if (tool === undefined) return refuse(malformed.unknownTool);
      if (written.some((value) => value.includes(REPLACEMENT))) return refuse(malformed.notText);
      const order = argumentOrder(tool);
      const missing = tool.parameters.required[written.length];
      if (missing !== undefined) return refuse(malformed.missingValue(missing));
      if (written.length > order.length) return refuse(malformed.tooManyValues);
      const args: Record<string, unknown> = {};
      for (const [i, text] of written.entries()) {
        const key = order[i]!;
        const type = tool.parameters.properties[key]?.type ?? "string";
        const value = readValue(text, type);
        if (value === undefined) return refuse(malformed.badValue(key, type));
        args[key] = value;
      }
      return { text: "", actions: [{ name, arguments: args }] };
    },
    write: (action) => [action.name, ...values(action)].join(ARGUMENT),
    encode: (action) =>
      [action.name, ...values(action)].flatMap((piece, i) =>
        i === 0 ? codec.encode(piece) : [separator, ...codec.encode(piece)],
      ),
  };
}

/** A value of the schema's type, or undefined when the text is not one. Strings are taken as they are. */
function readValue(text: string, type: string): unknown {
  if (type === "string") return text;
  try {
    const value: unknown = JSON.parse(text);
    const actual = Array.isArray(value) ? "array" : typeof value;
    return actual === type || (type === "integer" && Number.isInteger(value)) ? value : undefined;
  } catch {
    return undefined;
  }
}

function splitAt(tokens: readonly number[], separator: number): number[][] {
  const pieces: number[][] = [[]];
  for (const token of tokens) {
    if (token === separator) pieces.push([]);
    else pieces.at(-1)!.push(token);
  }
  return pieces;
}
