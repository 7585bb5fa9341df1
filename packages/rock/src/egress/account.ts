import type { Telemetry } from "@ale/core";
import { BUDGET_ITEMS, type BudgetItem, type NetworkPolicy } from "@ale/core/network-policy";

/**
 * What a sandbox has used of its network budgets: the whole sandbox, and each host that it reached. Nothing is used beyond a limit: who
 * wants some more asks here first, and takes no more than what is left.
 */

export type Used = { [Item in BudgetItem]: number };

/** Outlives a sandbox's cable, so that plugging it in again gives nothing back. */
export interface Account {
  used: Used;
  /** The same for each host that it has reached: its name, or its address where there is none. */
  readonly byHost: Map<string, Used>;
}

export const nothingUsed = (): Used => ({ bytesUp: 0, bytesDown: 0, connections: 0, requests: 0 });

export const newAccount = (): Account => ({ used: nothingUsed(), byHost: new Map() });

/** A budget of which nothing is left; `budget` of telemetry. */
export type Exhausted = NonNullable<NonNullable<Telemetry["net"]>["budget"]>;

/** Whoever uses budgets: a sandbox under the policy that it has now. */
export interface Spender {
  readonly policy: NetworkPolicy;
  readonly account: Account;
}

/** What is left for a host, and the budget that says so. */
export function left(spender: Spender, host: string, what: BudgetItem): { amount: number; by: Exhausted } {
  const [ofSandbox, ofHost] = [byOf(spender, host, "sandbox", what), byOf(spender, host, "host", what)];
  const by = ofHost.limit - ofHost.used < ofSandbox.limit - ofSandbox.used ? ofHost : ofSandbox;
  return { amount: Math.max(0, by.limit - by.used), by };
}

/** A budget of which nothing is left, so that nothing more may pass. */
export function exhausted(
  spender: Spender,
  host: string,
  items: readonly BudgetItem[] = BUDGET_ITEMS,
): Exhausted | undefined {
  return items.map((what) => left(spender, host, what)).find(({ amount }) => amount === 0)?.by;
}

/** Takes one connection or request. Or says which budget is used up, whichever it is; then nothing is taken. */
export function take(
  spender: Spender,
  host: string,
  what: "connections" | "requests",
): Exhausted | undefined {
  const by = exhausted(spender, host, [what, "bytesUp", "bytesDown"]);
  if (by === undefined) charge(spender.account, host, what, 1);
  return by;
}

export function charge(account: Account, host: string, what: BudgetItem, amount: number): void {
  const ofHost = account.byHost.get(host) ?? nothingUsed();
  account.byHost.set(host, ofHost);
  account.used[what] += amount;
  ofHost[what] += amount;
}

/** What one host may have: less than the whole sandbox only where the policy says so. */
export function limitsOf(policy: NetworkPolicy, of: "sandbox" | "host"): Used {
  if (policy.mode === "none") return nothingUsed();
  const { budget, hostBudget } = policy;
  return {
    bytesUp: (of === "host" ? hostBudget?.bytesUp : undefined) ?? budget.bytesUp,
    bytesDown: (of === "host" ? hostBudget?.bytesDown : undefined) ?? budget.bytesDown,
    connections: (of === "host" ? hostBudget?.connections : undefined) ?? budget.connections,
    requests: (of === "host" ? hostBudget?.requests : undefined) ?? budget.requests,
  };
}

function byOf({ policy, account }: Spender, host: string, of: Exhausted["of"], what: BudgetItem): Exhausted {
  const used = of === "sandbox" ? account.used : account.byHost.get(host);
  return { of, what, limit: limitsOf(policy, of)[what], used: used?.[what] ?? 0 };
}

/** For people and for the program that is refused: `the sandbox's budget of bytes up is used up: 1000 of 1000`. */
export function exhaustedText({ of, what, limit, used }: Exhausted, host: string): string {
  const whose = of === "sandbox" ? "the sandbox's budget" : `the budget for ${host}`;
  return `${whose} of ${BUDGET_WORDS[what]} is used up: ${used} of ${limit}`;
}

export const BUDGET_WORDS: Readonly<Record<BudgetItem, string>> = {
  bytesUp: "bytes up",
  bytesDown: "bytes down",
  connections: "connections",
  requests: "requests",
};
