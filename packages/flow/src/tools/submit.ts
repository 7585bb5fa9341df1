import { texts } from "../texts.ts";
import { defineTool } from "./tool.ts";

/** Ends the episode; the loop stops after it. */
export const submit = defineTool({
  name: "submit",
  description: "Hand in the work. Call this once, when the task is done.",
  parameters: {},
  async run() {
    return {
      content: texts.submitted,
      isError: false,
      exitCode: null,
      timedOut: false,
      outputBytes: 0,
    };
  },
});
