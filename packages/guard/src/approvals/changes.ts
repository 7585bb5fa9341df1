import { mkdirSync } from "node:fs";
import { onChange } from "./on-change.ts";
import type { ApprovalStore, GivenAnswer, PendingApproval } from "./store.ts";

/** What becomes of requests, told while it happens: for whoever shows them to people. */

export type ApprovalChange =
  | { readonly type: "asked"; readonly approval: PendingApproval }
  /** `answer` is null where nobody waits any more and none was given. */
  | { readonly type: "over"; readonly id: string; readonly answer: GivenAnswer | null };

/** Begins with what waits already. Ends when `signal` is aborted. */
export async function* approvalChanges(
  store: ApprovalStore,
  signal: AbortSignal,
): AsyncGenerator<ApprovalChange> {
  mkdirSync(store.directory, { recursive: true, mode: 0o700 });
  let woken = Promise.withResolvers<void>();
  const wake = (): void => woken.resolve();
  using _looking = onChange(store.directory, wake);
  signal.addEventListener("abort", wake, { once: true });
  let known: ReadonlySet<string> = new Set();
  while (!signal.aborted) {
    woken = Promise.withResolvers<void>();
    const pending = store.pending();
    const now = new Set(pending.map(({ id }) => id));
    for (const id of known) if (!now.has(id)) yield over(store, id);
    for (const approval of pending) if (!known.has(approval.id)) yield { type: "asked", approval };
    known = now;
    await woken.promise;
  }
}

function over(store: ApprovalStore, id: string): ApprovalChange {
  const state = store.get(id);
  return { type: "over", id, answer: state?.type === "answered" ? state.answer : null };
}
