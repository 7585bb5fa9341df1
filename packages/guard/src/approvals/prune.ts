import { rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { answerPath, isWaitedFor, type Listing, listFiles, readRequest, requestPath } from "./files.ts";

/** Keeps the folder of approvals small: what is over stays a day, and of that only so much. What somebody waits for is never touched. */

export const KEPT_MS = 24 * 3_600_000;
export const MOST_KEPT = 1_000;

/** Never throws for a folder that it may only read. */
export function prune(directory: string): void {
  const listing = listFiles(directory);
  try {
    for (const id of tooMany(over(directory, listing))) remove(directory, id);
    for (const draft of listing.drafts)
      if (isOld(changedAt(join(directory, draft)))) rmSync(join(directory, draft), { force: true });
  } catch (cause) {
    if (!READ_ONLY.has((cause as NodeJS.ErrnoException).code ?? "")) throw cause;
  }
}

/** An answer is left to the one who waits for it, whatever its file's time says: the wall clock may have been set. */
function remove(directory: string, id: string): void {
  const request = readRequest(directory, id);
  if (request !== undefined && isWaitedFor(request)) return;
  // The request first: an answer without one is nobody's, and is not shown.
  for (const path of [requestPath(directory, id), answerPath(directory, id)]) rmSync(path, { force: true });
}

const READ_ONLY: ReadonlySet<string> = new Set(["EACCES", "EPERM", "EROFS"]);

interface Over {
  readonly id: string;
  /** When it last changed; undefined where another process has removed it meanwhile. */
  readonly at: number | undefined;
}

/** Answered, or waited for by nobody, or not to be read at all. */
function over(directory: string, { requests, answers }: Listing): Over[] {
  const unanswered = requests.filter((id) => !answers.has(id));
  const dead = unanswered.filter((id) => {
    const request = readRequest(directory, id);
    return request === undefined || !isWaitedFor(request);
  });
  return [
    ...[...answers].map((id) => ({ id, at: changedAt(answerPath(directory, id)) })),
    ...dead.map((id) => ({ id, at: changedAt(requestPath(directory, id)) })),
  ];
}

const tooMany = (found: readonly Over[]): readonly string[] =>
  found
    .toSorted((a, b) => (b.at ?? 0) - (a.at ?? 0))
    .filter(({ at }, place) => place >= MOST_KEPT || isOld(at))
    .map(({ id }) => id);

const isOld = (at: number | undefined): boolean => at !== undefined && at < Date.now() - KEPT_MS;

const changedAt = (path: string): number | undefined => statSync(path, { throwIfNoEntry: false })?.mtimeMs;
