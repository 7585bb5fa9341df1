import type { ContextProfile, ToolSchema } from "@ale/core";
import type { Codec } from "./codec.ts";
import { compactFormat } from "./compact-format.ts";
import { hermesFormat } from "./hermes-format.ts";
import type { ToolFormat } from "./tool-format.ts";

/** The tool format that a profile names. Throws an AleError when the tokenizer lacks what the format needs. */
export function toolFormat(
  format: ContextProfile["toolFormat"],
  codec: Codec,
  tools: readonly ToolSchema[],
): ToolFormat {
  switch (format) {
    case "compact":
      return compactFormat(codec, tools);
    case "hermes":
      return hermesFormat(codec, tools);
    default:
      return format satisfies never;
  }
}
