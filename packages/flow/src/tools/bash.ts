import { texts } from "../texts.ts";
import { defineTool, withoutLastNewline } from "./tool.ts";

/** A command in the episode's long-lived shell. The exit code is told only when it is not 0. */
export const bash = defineTool({
  name: "bash",
  description:
    "Run a command in the shell. The working directory, variables and functions persist between calls. Standard input is empty.",
  parameters: { command: "The command to run." },
  async run({ command }, runtime, signal) {
    const { exitCode, output, outputBytes, timedOut } = await runtime.shell(command, signal);
    const ending = timedOut ? texts.timeout : exitCode === 0 ? null : texts.exit(exitCode);
    const shown = withoutLastNewline(output);
    const content = ending === null ? shown : shown === "" ? ending : `${shown}\n${ending}`;
    return { content, isError: ending !== null, exitCode, timedOut, outputBytes };
  },
});
