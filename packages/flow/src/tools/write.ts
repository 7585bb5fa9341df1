import type { CommandResult, ToolRuntime } from "../ports.ts";
import { texts } from "../texts.ts";
import { defineTool, outcomeOf } from "./tool.ts";

export const write = defineTool({
  name: "write",
  description: "Write a file. An existing file is replaced; missing directories are made.",
  parameters: {
    path: "Path of the file, absolute or relative to the task's directory.",
    content: "The whole new content of the file.",
  },
  async run({ path, content }, runtime, signal) {
    return outcomeOf(await writeFile(path, content, runtime, signal), texts.done);
  },
});

/** Overwrites in place, so that the file keeps its owner and permissions. The path is an argument, never part of the script. */
export function writeFile(
  path: string,
  content: string,
  runtime: ToolRuntime,
  signal?: AbortSignal,
): Promise<CommandResult> {
  const script = 'mkdir -p -- "$(dirname -- "$1")" && cat > "$1"';
  return runtime.exec(["sh", "-c", script, "sh", path], { stdin: content }, signal);
}
