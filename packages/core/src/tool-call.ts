import { z } from "zod";

/** One call of a tool as the model asked for it. `arguments` is already parsed; the exact text lives in the sampled tokens. */
export const ToolCall = z.object({
  id: z.string(),
  name: z.string(),
  arguments: z.record(z.string(), z.unknown()),
});
export type ToolCall = z.infer<typeof ToolCall>;

/** Messages of a context, in the shape that chat templates expect. */
export const Message = z.discriminatedUnion("role", [
  z.object({ role: z.literal("system"), content: z.string() }),
  z.object({ role: z.literal("user"), content: z.string() }),
  z.object({
    role: z.literal("assistant"),
    /** Text beside the tool calls; the raw sampled text when it could not be parsed. */
    content: z.string(),
    toolCalls: z.array(ToolCall),
  }),
  z.object({ role: z.literal("tool"), callId: z.string(), name: z.string(), content: z.string() }),
]);
export type Message = z.infer<typeof Message>;

/** A tool as the model sees it. `parameters` is JSON Schema; the order of its properties is part of the contract. */
export const ToolSchema = z.object({
  name: z.string(),
  description: z.string(),
  parameters: z.object({
    type: z.literal("object"),
    properties: z.record(z.string(), z.object({ type: z.string(), description: z.string().optional() })),
    required: z.array(z.string()),
  }),
});
export type ToolSchema = z.infer<typeof ToolSchema>;
