export { type AgentOptions, type AgentOutcome, type CallHook, runAgent, type TimedOutcome } from "./loop.ts";
export type { CommandResult, Model, ModelTurn, ToolRuntime } from "./ports.ts";
export { nanoProfile, standardProfile } from "./profiles.ts";
export { messagesOf, opening, render } from "./render.ts";
export { type ReplayDifference, type ReplayReport, replayTools } from "./replay.ts";
export { texts } from "./texts.ts";
export { defineTool, type Tool, type ToolOutcome } from "./tools/tool.ts";
export { TOOLS, toolbox } from "./tools/toolbox.ts";
export { truncate } from "./truncate.ts";
