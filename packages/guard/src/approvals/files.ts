import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ApprovalAnswer, ApprovalRequest, createWhole, DRAFT, processStart } from "@ale/core";
import { z } from "zod";

/** The files of approvals: `<id>.json` is a request, `<id>.answer.json` the word on it. Both appear whole or not at all, and only once. */

const ID = /^[a-z0-9][a-z0-9_-]{0,63}$/;
export const isId = (text: string): boolean => ID.test(text);

export const StoredRequest = ApprovalRequest.extend({
  schema: z.literal("ale/approval@1"),
  /** Milliseconds since the epoch, for people. */
  askedAt: z.number(),
  /** Until when it is waited for, on the machine's steady clock: the wall clock may be set meanwhile. */
  deadlineMs: z.number(),
  /** The process that waits. When it is gone, nobody does. */
  owner: z.object({ pid: z.number().int().positive(), start: z.string().nullable() }),
});
export type StoredRequest = z.infer<typeof StoredRequest>;

const StoredAnswer = ApprovalAnswer.extend({
  schema: z.literal("ale/approval-answer@1"),
  /** Milliseconds since the epoch. */
  at: z.number(),
});
export type GivenAnswer = Omit<z.infer<typeof StoredAnswer>, "schema">;

/** One clock for all processes since the machine started, which is never set. */
export const machineMs = (): number => Number(process.hrtime.bigint() / 1_000n) / 1_000;

export const requestPath = (directory: string, id: string): string => join(directory, `${id}.json`);
export const answerPath = (directory: string, id: string): string => join(directory, `${id}.answer.json`);

export interface Listing {
  readonly requests: readonly string[];
  readonly answers: ReadonlySet<string>;
  /** What a process left that was killed while it wrote. */
  readonly drafts: readonly string[];
}

/** Ids of what is there. A folder that is not there is empty. */
export function listFiles(directory: string): Listing {
  const names = namesIn(directory);
  const endings = (ending: string): string[] =>
    names.filter((name) => name.endsWith(ending)).map((name) => name.slice(0, -ending.length));
  return {
    requests: endings(".json").filter(isId),
    answers: new Set(endings(".answer.json").filter(isId)),
    drafts: names.filter((name) => name.startsWith(DRAFT)),
  };
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw cause;
  }
}

export const readRequest = (directory: string, id: string): StoredRequest | undefined =>
  parsed(requestPath(directory, id), StoredRequest);

export function readAnswer(directory: string, id: string): GivenAnswer | undefined {
  const stored = parsed(answerPath(directory, id), StoredAnswer);
  if (stored === undefined) return undefined;
  const { schema, ...answer } = stored;
  return answer;
}

/** False where there is a request of this id already. */
export const putRequest = (directory: string, request: StoredRequest): boolean =>
  put(requestPath(directory, request.id), request);

/** False where there is an answer already. */
export const putAnswer = (directory: string, id: string, answer: ApprovalAnswer): boolean =>
  put(answerPath(directory, id), { ...answer, schema: "ale/approval-answer@1", at: Date.now() });

const put = (path: string, value: unknown): boolean =>
  createWhole(path, `${JSON.stringify(value, null, 2)}\n`);

/** Whether its process is there and its time not over; an answer may be there all the same. */
export const isWaitedFor = ({ owner, deadlineMs }: StoredRequest): boolean =>
  deadlineMs > machineMs() && processStart(owner.pid) === owner.start;

/** What is not there, or is not ours, is undefined. */
function parsed<T>(path: string, schema: z.ZodType<T>): T | undefined {
  try {
    return schema.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (cause) {
    const isExpected =
      (cause as NodeJS.ErrnoException).code === "ENOENT" ||
      cause instanceof SyntaxError ||
      cause instanceof z.ZodError;
    if (isExpected) return undefined;
    throw cause;
  }
}
