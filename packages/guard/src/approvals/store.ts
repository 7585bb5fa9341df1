import { mkdirSync } from "node:fs";
import { join } from "node:path";
import {
  AleError,
  ApprovalAnswer,
  ApprovalRequest,
  type Approver,
  isBeginning,
  MORE_OF_THE_ID,
  processStart,
} from "@ale/core";
import {
  type GivenAnswer,
  isId,
  isWaitedFor,
  listFiles,
  machineMs,
  putAnswer,
  putRequest,
  readAnswer,
  readRequest,
  type StoredRequest,
} from "./files.ts";
import { onChange } from "./on-change.ts";
import { prune } from "./prune.ts";

/**
 * Approvals as files, so that a person answers from another process than the one that waits. An answer can be put there only once: the
 * first one counts, be it a person's or the timeout's. Files of requests that are over stay for a day, so that who comes second is told
 * what was answered.
 */

export type { GivenAnswer };

/** A request as it is shown. */
export type AskedApproval = ApprovalRequest & Pick<StoredRequest, "askedAt">;

export type PendingApproval = AskedApproval & {
  /** How long it is still waited for. */
  readonly leftMs: number;
};

export type ApprovalState =
  | { readonly type: "pending"; readonly approval: PendingApproval }
  | { readonly type: "answered"; readonly approval: AskedApproval; readonly answer: GivenAnswer }
  /** The process that asked has ended without an answer. */
  | { readonly type: "abandoned"; readonly approval: AskedApproval };

export type Answered =
  | { readonly type: "counted" }
  /** Another answer came first. */
  | { readonly type: "late"; readonly answer: GivenAnswer }
  | { readonly type: "abandoned" };

export interface ApprovalStoreOptions {
  /** Default: ten minutes. */
  readonly timeoutMs?: number;
}

export const DEFAULT_APPROVAL_MS = 10 * 60_000;
/** More than this nobody answers: what is asked beyond is refused. */
export const MOST_PENDING = 1_000;
/** More than this nobody reads: a longer call is refused rather than cut, because what is cut off could be what matters. */
export const LONGEST_CALL = 200_000;
const PRUNE_EVERY_MS = 60_000;

/** The approvals of a home, which its commands and its server answer. */
export const approvalsOf = (home: string, timeoutMs = DEFAULT_APPROVAL_MS): ApprovalStore =>
  new ApprovalStore(join(home, "approvals"), { timeoutMs });

export class ApprovalStore implements Approver {
  readonly directory: string;
  readonly timeoutMs: number;
  #pruneAt = 0;

  constructor(directory: string, options: ApprovalStoreOptions = {}) {
    this.directory = directory;
    this.timeoutMs = options.timeoutMs ?? DEFAULT_APPROVAL_MS;
  }

  /** Throws an AleError `approvals-unwritable` where no request can be made. */
  async ask(request: ApprovalRequest, signal?: AbortSignal): Promise<ApprovalAnswer> {
    signal?.throwIfAborted();
    if (!isId(request.id)) throw new Error(`not an id of an approval: ${request.id}`);
    const deadlineMs = machineMs() + Math.min(this.timeoutMs, request.withinMs ?? this.timeoutMs);
    const refusal = this.#open(request, deadlineMs);
    if (refusal !== undefined) return { granted: false, by: "policy", reason: refusal };
    try {
      return await this.#wait(request, deadlineMs, signal);
    } catch (error) {
      putAnswer(this.directory, request.id, { granted: false, by: "cancelled" });
      throw error;
    }
  }

  /** Requests that somebody waits for, the oldest first. */
  pending(): readonly PendingApproval[] {
    this.#prune();
    return this.#unanswered()
      .map((request) => pendingOf(request))
      .sort((a, b) => a.askedAt - b.askedAt || (a.id < b.id ? -1 : 1));
  }

  /** Undefined where there was no request of exactly this id in the last day. */
  get(id: string): ApprovalState | undefined {
    const request = isId(id) ? readRequest(this.directory, id) : undefined;
    if (request === undefined) return undefined;
    // In this order: what is not waited for any more may have been answered a moment ago.
    const waited = isWaitedFor(request);
    const answer = readAnswer(this.directory, id);
    if (answer !== undefined) return { type: "answered", approval: askedOf(request), answer };
    return waited
      ? { type: "pending", approval: pendingOf(request) }
      : { type: "abandoned", approval: askedOf(request) };
  }

  /** Answers the request of exactly this id. Throws an AleError `approval-unknown` where there was none in the last day. */
  answer(id: string, answer: ApprovalAnswer): Answered {
    const state = this.get(id);
    if (state === undefined)
      throw unknown(`nothing waits for approval under ${JSON.stringify(id.slice(0, 80))}`);
    if (state.type === "answered") return { type: "late", answer: state.answer };
    if (state.type === "abandoned") return { type: "abandoned" };
    if (putAnswer(this.directory, id, ApprovalAnswer.parse(answer))) return { type: "counted" };
    return { type: "late", answer: readAnswer(this.directory, id)! };
  }

  /**
   * The request that a person names by its id, or by an unambiguous beginning of one (`isBeginning`). One that is over is meant only where
   * none that is waited for begins like this. Throws an AleError: `approval-unknown`, or `approval-over` where several begin like this and
   * all are over.
   */
  find(word: string): AskedApproval {
    const exact = this.get(word);
    if (exact !== undefined) return exact.approval;
    const shown = JSON.stringify(word.slice(0, 80));
    if (!isBeginning(word)) throw unknown(`${shown} names no approval`, MORE_OF_THE_ID);
    const states = listFiles(this.directory)
      .requests.filter((id) => id.startsWith(word))
      .flatMap((id) => this.get(id) ?? []);
    const living = states.filter(({ type }) => type === "pending");
    const meant = living.length > 0 ? living : states;
    if (meant.length === 1) return meant[0]!.approval;
    if (meant.length === 0) throw unknown(`nothing waits for approval under ${shown}`);
    const ids = meant.slice(0, 4).map(({ approval }) => approval.id);
    const some = `${ids.join(", ")}${meant.length > ids.length ? ", …" : ""}`;
    if (living.length > 0)
      throw unknown(`${living.length} requests begin with ${shown}: ${some}`, MORE_OF_THE_ID);
    throw new AleError("approval-over", `all requests that begin with ${shown} are over: ${some}`, {
      next: WHAT_WAITS,
    });
  }

  /** Why nobody can be asked this, if so. */
  #open(request: ApprovalRequest, deadlineMs: number): string | undefined {
    try {
      mkdirSync(this.directory, { recursive: true, mode: 0o700 });
      this.#prune();
      const refusal = this.#refusalOf(request);
      if (refusal !== undefined) return refusal;
      const stored: StoredRequest = {
        ...ApprovalRequest.parse(request),
        schema: "ale/approval@1",
        askedAt: Date.now(),
        deadlineMs,
        owner: { pid: process.pid, start: processStart(process.pid) },
      };
      if (putRequest(this.directory, stored)) return undefined;
    } catch (cause) {
      throw new AleError("approvals-unwritable", `nobody can be asked: ${(cause as Error).message}`, {
        next: `make room, and see that ${this.directory} can be written`,
        cause,
      });
    }
    throw new Error(`an approval ${request.id} was asked for before`);
  }

  #refusalOf({ what }: ApprovalRequest): string | undefined {
    if (what.length > LONGEST_CALL)
      return `the call has ${what.length} characters: more than a person reads (${LONGEST_CALL})`;
    const { requests, answers } = listFiles(this.directory);
    if (requests.length - answers.size < MOST_PENDING || this.#unanswered().length < MOST_PENDING)
      return undefined;
    return `${MOST_PENDING} calls wait for approval already`;
  }

  #wait(
    request: ApprovalRequest,
    deadlineMs: number,
    signal: AbortSignal | undefined,
  ): Promise<ApprovalAnswer> {
    const { id, withinMs } = request;
    const isCut = withinMs !== undefined && withinMs < this.timeoutMs;
    const silence = {
      granted: false,
      by: "timeout",
      ...(isCut ? { reason: "the sandbox would not have lived until a later answer" } : {}),
    };
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const answer = readAnswer(this.directory, id);
        if (answer !== undefined) finish(() => resolve(ApprovalAnswer.parse(answer)));
      };
      const onTimeout = (): void => {
        try {
          putAnswer(this.directory, id, silence);
          look();
        } catch {
          // Silence is a no, also where that cannot be written.
          finish(() => resolve(silence));
        }
      };
      const onAbort = (): void => finish(() => reject(signal!.reason));
      const looking = onChange(this.directory, look);
      const deadline = setTimeout(onTimeout, Math.min(Math.max(0, deadlineMs - machineMs()), 2 ** 31 - 1));
      signal?.addEventListener("abort", onAbort);
      const finish = (settle: () => void): void => {
        looking[Symbol.dispose]();
        clearTimeout(deadline);
        signal?.removeEventListener("abort", onAbort);
        settle();
      };
      look();
    });
  }

  #unanswered(): StoredRequest[] {
    const { requests, answers } = listFiles(this.directory);
    return requests
      .filter((id) => !answers.has(id))
      .flatMap((id) => readRequest(this.directory, id) ?? [])
      .filter(isWaitedFor);
  }

  /** At most once a minute: lists are asked for again and again. */
  #prune(): void {
    if (machineMs() < this.#pruneAt) return;
    this.#pruneAt = machineMs() + PRUNE_EVERY_MS;
    prune(this.directory);
  }
}

const WHAT_WAITS = "ale guard approvals lists what waits";

const unknown = (message: string, next = WHAT_WAITS): AleError =>
  new AleError("approval-unknown", message, { next });

function askedOf(stored: StoredRequest): AskedApproval {
  const { schema, owner, deadlineMs, ...shown } = stored;
  return shown;
}

const pendingOf = (stored: StoredRequest): PendingApproval => ({
  ...askedOf(stored),
  leftMs: Math.max(0, Math.round(stored.deadlineMs - machineMs())),
});
