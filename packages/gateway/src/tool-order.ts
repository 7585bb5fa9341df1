import type { ToolCall, ToolSchema } from "@ale/core";

/**
 * The order of a tool's arguments is part of what the model sees, and a log that was written as canonical JSON has lost the
 * order of object keys. So the order comes from the `required` array, which survives; optional properties follow by name.
 */
export function argumentOrder(tool: ToolSchema): readonly string[] {
  const required = tool.parameters.required;
  return [
    ...required,
    ...Object.keys(tool.parameters.properties)
      .filter((name) => !required.includes(name))
      .sort(),
  ];
}

/** Arguments in the tool's order; names that the tool does not have come last, by name. */
export function orderedArguments(
  call: Pick<ToolCall, "name" | "arguments">,
  tools: readonly ToolSchema[],
): Readonly<Record<string, unknown>> {
  const tool = tools.find((candidate) => candidate.name === call.name);
  const known = tool === undefined ? [] : argumentOrder(tool);
  const others = Object.keys(call.arguments)
    .filter((name) => !known.includes(name))
    .sort();
  return Object.fromEntries(
    [...known, ...others]
      .filter((name) => call.arguments[name] !== undefined)
      .map((name) => [name, call.arguments[name]]),
  );
}

/** The same schema with its keys in the order above. */
export function orderedTool(tool: ToolSchema): ToolSchema {
  const properties = Object.fromEntries(
    argumentOrder(tool).flatMap((name) => {
      const property = tool.parameters.properties[name];
      if (property === undefined) return [];
      const { type, description } = property;
      return [[name, description === undefined ? { type } : { type, description }]];
    }),
  );
  return {
    name: tool.name,
    description: tool.description,
    parameters: { type: "object", properties, required: tool.parameters.required },
  };
}
