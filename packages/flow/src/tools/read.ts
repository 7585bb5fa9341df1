import { defineTool, outcomeOf, withoutLastNewline } from "./tool.ts";

export const read = defineTool({
  name: "read",
  description: "Show the content of a text file.",
  parameters: { path: "Path of the file, absolute or relative to the task's directory." },
  async run({ path }, runtime, signal) {
    const result = await runtime.exec(["cat", "--", path], {}, signal);
    return outcomeOf(result, withoutLastNewline(result.output));
  },
});
