import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { RunState, SftProgress } from "./run-state.ts";

/**
 * metrics.jsonl: one line a result, for people's own tools (`tail -f`, a notebook). The state is the truth; after a crash the file
 * is brought up to date from it, and no line is ever removed.
 */
export interface MetricsFile {
  /** Appends the results of the state that the file does not have yet. */
  sync(state: RunState): void;
  step(progress: SftProgress): void;
}

export function metricsFile(directory: string): MetricsFile {
  const path = join(directory, "metrics.jsonl");
  const written = countByType(path);
  const append = (line: { readonly type: string }): void => {
    appendFileSync(path, `${JSON.stringify(line)}\n`);
    written.set(line.type, (written.get(line.type) ?? 0) + 1);
  };
  return {
    sync(state) {
      for (const results of [state.sft, state.rounds, state.evaluations])
        for (const line of results.slice(written.get(results[0]?.type ?? "") ?? 0)) append(line);
    },
    step: append,
  };
}

function countByType(path: string): Map<string, number> {
  const counts = new Map<string, number>();
  if (!existsSync(path)) return counts;
  for (const line of readFileSync(path, "utf8").split("\n")) {
    const type = /^\{"type":"([a-z-]+)"/.exec(line)?.[1];
    if (type !== undefined) counts.set(type, (counts.get(type) ?? 0) + 1);
  }
  return counts;
}
