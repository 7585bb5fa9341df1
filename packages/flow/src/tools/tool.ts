import type { ToolSchema } from "@ale/core";
import { z } from "zod";
import type { CommandResult, ToolRuntime } from "../ports.ts";
import { texts } from "../texts.ts";

/** What a tool made of one call. `content` is whole; the loop cuts it when it writes it down. */
export interface ToolOutcome {
  readonly content: string;
  readonly isError: boolean;
  readonly exitCode: number | null;
  readonly timedOut: boolean;
  /** Bytes that the tool produced, shown or not. */
  readonly outputBytes: number;
}

/**
 * A tool: what the model is told about it, and what it does. `run` never throws for anything the model did; it passes on what
 * the runtime throws, which means that the environment is broken, and aborts.
 */
export interface Tool {
  readonly schema: ToolSchema;
  run(
    args: Readonly<Record<string, unknown>>,
    runtime: ToolRuntime,
    signal?: AbortSignal,
  ): Promise<ToolOutcome>;
}

/** A tool whose arguments are all strings and all required. `parameters` gives their descriptions, in the order of the contract. */
export function defineTool<Name extends string>(definition: {
  readonly name: string;
  readonly description: string;
  readonly parameters: Readonly<Record<Name, string>>;
  run(args: Readonly<Record<Name, string>>, runtime: ToolRuntime, signal?: AbortSignal): Promise<ToolOutcome>;
}): Tool {
  const names = Object.keys(definition.parameters) as Name[];
  const Arguments = z.strictObject(Object.fromEntries(names.map((name) => [name, z.string()])));
  return {
    schema: {
      name: definition.name,
      description: definition.description,
      parameters: {
        type: "object",
        properties: Object.fromEntries(
          names.map((name) => [name, { type: "string", description: definition.parameters[name] }]),
        ),
        required: names,
      },
    },
    async run(args, runtime, signal) {
      const parsed = Arguments.safeParse(args);
      if (!parsed.success) return refusal(argumentError(parsed.error, args));
      return definition.run(parsed.data as Record<Name, string>, runtime, signal);
    },
  };
}

function argumentError(error: z.ZodError, args: Readonly<Record<string, unknown>>): string {
  const issue = error.issues[0]!;
  if (issue.code === "unrecognized_keys") return texts.unknownArguments(issue.keys);
  const name = String(issue.path[0]);
  return args[name] === undefined ? texts.missingArgument(name) : texts.wrongArgument(name);
}

/** The tool did nothing and says why. */
export const refusal = (content: string): ToolOutcome => ({
  content,
  isError: true,
  exitCode: null,
  timedOut: false,
  outputBytes: 0,
});

/** A command that succeeded, or else its output as the error. */
export function outcomeOf(result: CommandResult, success: string): ToolOutcome {
  const { exitCode, timedOut, outputBytes } = result;
  const isError = timedOut || exitCode !== 0;
  const failure = timedOut ? texts.timeout : withoutLastNewline(result.output) || texts.exit(exitCode);
  return { content: isError ? failure : success, isError, exitCode, timedOut, outputBytes };
}

export const withoutLastNewline = (text: string): string => (text.endsWith("\n") ? text.slice(0, -1) : text);
