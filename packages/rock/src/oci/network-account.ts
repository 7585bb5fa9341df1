import { join } from "node:path";
import { BudgetPart, type Budgets, NetworkBudget } from "@ale/core";
import { z } from "zod";
import { type Account, newAccount, nothingUsed } from "../egress/account.ts";
import { readWhole, writeWhole } from "./state.ts";

/**
 * What a sandbox has used of its network budget, kept beside its state where the sandbox itself is kept: to be stopped and started again, or to
 * outlive a server that crashed, gives nothing of it back.
 */

const Used = z.object({
  bytesUp: z.number(),
  bytesDown: z.number(),
  connections: z.number(),
  requests: z.number(),
});
const Kept = z.object({
  used: Used,
  byHost: z.record(z.string(), Used),
  limits: z.object({ budget: NetworkBudget, hostBudget: BudgetPart.optional() }).optional(),
});

/** What a crash may give back is what was used in so long. */
const SAVE_MS = 2_000;

export class NetworkAccount {
  readonly account: Account;
  /** Those of the last policy that had any: a time without a network is no reason for others. */
  limits: Budgets | undefined;
  readonly #path: string | undefined;
  #saved = "";
  #timer: NodeJS.Timeout | undefined;

  /** `directory`: the sandbox's, where it is kept. */
  constructor(directory: string | undefined) {
    this.#path = directory === undefined ? undefined : join(directory, "network.json");
    const kept = this.#path === undefined ? undefined : readWhole(this.#path, Kept);
    this.account =
      kept === undefined ? newAccount() : { used: kept.used, byHost: new Map(Object.entries(kept.byHost)) };
    this.limits = kept?.limits;
  }

  /** What was used is forgotten. */
  reset(): void {
    this.account.used = nothingUsed();
    this.account.byHost.clear();
    this.#save();
  }

  /** The sandbox is at the gateway. */
  begin(): void {
    if (this.#path !== undefined) this.#timer ??= setInterval(() => this.#save(), SAVE_MS).unref();
  }

  /** It is no longer. */
  end(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#save();
  }

  #save(): void {
    const { used, byHost } = this.account;
    const now = { used, byHost: Object.fromEntries(byHost), limits: this.limits };
    const text = JSON.stringify(now);
    if (this.#path === undefined || text === this.#saved || this.limits === undefined) return;
    try {
      writeWhole(this.#path, now);
      this.#saved = text;
    } catch {
      // No room, or the sandbox is just being removed: what was saved last counts, and the next look tries again.
    }
  }
}
