import type { EpisodeLog } from "@ale/core";
import type { Option } from "./args.ts";

/** What is said of a log without its last line. Whether that line was never written, or is gone, nobody can tell from the log. */

export const SEALED = {
  type: "boolean",
  help: "fail, with exit code 1, where a log is not sealed",
} as const satisfies Option;

export function lastWritten({ entries }: EpisodeLog): string {
  const last = entries.at(-1);
  return last === undefined ? "it is empty" : `its last line is a ${last.event.type} of ${last.at}`;
}
