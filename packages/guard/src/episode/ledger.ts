import { type Alert, type EventOf, RESPONSES, type Response, severityRank, type Telemetry } from "@ale/core";
import { RecentMap } from "../recent-map.ts";
import type { RuleMatch } from "../sigma/engine.ts";

/**
 * What has been told of each act, so that one attempt is one alert however many packets it takes and however many collectors see it. An act
 * is what the rules of one family see of one cause, or all that is seen of one connection. A second alert of it comes only from another
 * rule that says more: a higher severity, a pattern beyond the single act, what was said on the wire; or from a harder response.
 */
export class ActLedger {
  readonly #told = new Map<string, Told>();
  readonly #flows = new RecentMap<string, string>(MAX_FLOWS);
  readonly #totals = new Map<string, Total>();

  /** The act that a match is part of: that of its connection where it has one, else that of its cause and family. */
  actOf({ record, correlated }: RuleMatch<Telemetry>, cause: string, family: string): string {
    const own = `${cause}/${family}`;
    const flow = record.net?.flow;
    if (flow === undefined || correlated !== undefined) return own;
    const known = this.#flows.get(flow);
    if (known !== undefined) return known;
    this.#flows.set(flow, own);
    return own;
  }

  /** Whether this is the first record of an act that was told from a call's text alone. True once. */
  confirms(act: string): boolean {
    const told = this.#told.get(act);
    if (told?.isIntention !== true) return false;
    told.isIntention = false;
    return true;
  }

  /** Counts a match towards its act. True: it says more than what was told, and is to be told. */
  isNews(act: string, match: RuleMatch<Telemetry>, response: Response): boolean {
    const told = this.#told.get(act);
    if (told === undefined) return true;
    const isNewRule = !told.rules.has(match.rule.name);
    if (rankOf(response) > told.response || (isNewRule && tellingOf(match) > told.telling)) return true;
    const { at } = match.record;
    told.total.records++;
    told.total.firstAt = Math.min(told.total.firstAt, at);
    told.total.lastAt = Math.max(told.total.lastAt, at);
    return false;
  }

  tell(act: string, cause: string, match: RuleMatch<Telemetry>, response: Response, alert: Alert): void {
    const before = this.#told.get(act);
    this.#told.set(act, {
      rules: (before?.rules ?? new Set()).add(alert.rule),
      telling: Math.max(tellingOf(match), before?.telling ?? 0),
      response: Math.max(rankOf(response), before?.response ?? 0),
      isIntention: alert.source === "command" && before === undefined,
      total: this.#totalOf(cause, match.record.at, alert),
    });
  }

  get totals(): readonly Total[] {
    return [...this.#totals.values()].map((one) => ({ ...one }));
  }

  #totalOf(cause: string, at: number, { rule, chunk }: Alert): Total {
    const key = `${cause} ${rule}`;
    const known = this.#totals.get(key);
    const total = known ?? { rule, cause, chunk, records: 0, firstAt: at, lastAt: at };
    total.records++;
    total.firstAt = Math.min(total.firstAt, at);
    total.lastAt = Math.max(total.lastAt, at);
    this.#totals.set(key, total);
    return total;
  }
}

const MAX_FLOWS = 10_000;

type Total = EventOf<"guard.totals">["alerts"][number];

interface Told {
  readonly rules: Set<string>;
  readonly telling: number;
  readonly response: number;
  /** No record has shown it yet. */
  isIntention: boolean;
  /** Of the alert that was told last; what follows is counted there. */
  readonly total: Total;
}

export const rankOf = (response: Response): number => RESPONSES.indexOf(response);

/** Severity first; of equal ones a pattern says more than the acts that it is made of, and the wire more than an intention. */
export const tellingOf = ({ facts, correlated, record }: RuleMatch<Telemetry>): number =>
  4 * severityRank(facts.severity ?? "low") +
  (correlated === undefined ? 0 : 2) +
  (record.net === undefined ? 0 : 1);
