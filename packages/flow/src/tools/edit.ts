import { texts } from "../texts.ts";
import { defineTool, outcomeOf, refusal } from "./tool.ts";
import { writeFile } from "./write.ts";

/** Replaces the only occurrence of a text in a file; none or several are refused, because then the model is wrong about the file. */
export const edit = defineTool({
  name: "edit",
  description: "Replace a text in a file. The old text must occur exactly once.",
  parameters: {
    path: "Path of the file, absolute or relative to the task's directory.",
    old: "The text to replace, exactly as it stands in the file.",
    new: "The text to put in its place.",
  },
  async run({ path, old, new: replacement }, runtime, signal) {
    if (old === "") return refusal(texts.emptyOld);
    const before = await runtime.exec(["cat", "--", path], {}, signal);
    if (before.timedOut || before.exitCode !== 0) return outcomeOf(before, "");
    // Output that was cut or is not UTF-8 must not be written back.
    if (Buffer.byteLength(before.output) !== before.outputBytes || before.output.includes("\uFFFD"))
      return refusal(texts.notEditable);
    const [at, ...others] = occurrences(before.output, old);
    if (at === undefined) return refusal(texts.noMatch);
    if (others.length > 0) return refusal(texts.manyMatches(1 + others.length));
    const after = before.output.slice(0, at) + replacement + before.output.slice(at + old.length);
    return outcomeOf(await writeFile(path, after, runtime, signal), texts.done);
  },
});

/** Where a text occurs, overlapping occurrences included: any second one makes an edit ambiguous. */
function occurrences(text: string, wanted: string): number[] {
  const found: number[] = [];
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + 1)) found.push(at);
  return found;
}
