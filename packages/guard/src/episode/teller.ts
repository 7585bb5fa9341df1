import type { Alert, Event, Instance, Response, Telemetry, ToolCall } from "@ale/core";
import type { MonitorReport } from "../monitor.ts";
import { allRules } from "../rule-pack.ts";
import type { RuleMatch } from "../sigma/engine.ts";
import { familyOf, type SigmaRule } from "../sigma/rule.ts";
import { agentText } from "./agent-text.ts";
import type { Attribution } from "./attribution.ts";
import { keyOf } from "./cause.ts";
import { alertOf } from "./evidence.ts";
import { type Decision, hardestFirst, type Judgement, NOTHING } from "./judgement.ts";
import { RecordBudget } from "./keep.ts";
import { ActLedger, tellingOf } from "./ledger.ts";

/**
 * What is told of what rules matched: which of it is news, as which alert, with which response, by the instance's exceptions and what a
 * person approved. Owns the episode's acts and the budget of records that its log keeps.
 */

interface Answer extends Pick<Judgement, "alerts" | "decisions"> {
  /** A record of what so far only a call's text had said. */
  readonly confirms: boolean;
}

export class Teller {
  readonly #instance: Instance;
  readonly #titles: ReadonlyMap<string, string>;
  readonly #allowed: ReadonlySet<string>;
  readonly #ledger = new ActLedger();
  readonly #budget = new RecordBudget();
  /** By call: rules that a person approved. */
  readonly #approved = new Map<string, ReadonlySet<string>>();

  constructor(instance: Instance, rules: readonly SigmaRule[]) {
    this.#instance = instance;
    this.#allowed = new Set(instance.guard?.allowRules);
    this.#titles = new Map([
      ...allRules.map(({ id, title }) => [id, title] as const),
      ...rules.map(({ name, title }) => [name, title] as const),
    ]);
  }

  /** The instance does without this rule. */
  allows(rule: string): boolean {
    return this.#allowed.has(rule);
  }

  /** A person approved what these rules see in a call. */
  approve(callId: string, rules: readonly string[]): void {
    if (rules.length > 0) this.#approved.set(callId, new Set(rules));
  }

  /** For the end of the log. */
  totals(refused: number): Event {
    return {
      type: "guard.totals",
      alerts: [...this.#ledger.totals],
      suppressed: { ...this.#budget.suppressed },
      refused,
    };
  }

  /** Turns matches of one record into what is told of them, and decides whether the record is kept. */
  tell(
    matches: readonly RuleMatch<Telemetry>[],
    where: Attribution | null,
    record: Telemetry,
    keep = false,
  ): Judgement {
    const { alerts, decisions, confirms } =
      where === null ? { ...NOTHING, confirms: false } : this.#answer(matches, where);
    const chunk = where?.during.chunk ?? null;
    // A call is in the log already, as the agent's own event.
    const isCall = record.kind === "tool.call" && !keep;
    const matters = keep || confirms || alerts.length > 0;
    const kept = isCall && alerts.length === 0 ? null : this.#budget.admit(record, chunk, matters);
    if (kept === null && alerts.length === 0) return NOTHING;
    const events: Event[] = kept === null ? [] : [{ type: "telemetry", chunk, record: kept }];
    for (const alert of alerts) events.push(alertEvent(alert));
    return { events, alerts, decisions: hardestFirst(decisions), refused: [] };
  }

  /** What a call's text says will be done, and nobody holds up. */
  intend(matches: readonly RuleMatch<Telemetry>[], where: Attribution, call: ToolCall): Judgement {
    const { alerts, decisions } = this.#answer(matches, where, call);
    return { ...NOTHING, alerts, decisions, events: alerts.map(alertEvent) };
  }

  /** Alerts of what is news in matches of one record. `call`: it is not a record but what this call's text says will be one. */
  #answer(matches: readonly RuleMatch<Telemetry>[], where: Attribution, call?: ToolCall): Answer {
    const decisions: Decision[] = [];
    const alerts: Alert[] = [];
    let confirms = false;
    for (const { match, also } of matches.length === 0 ? [] : this.#groups(matches, where)) {
      const cause = causeOf(where);
      const act = this.#ledger.actOf(match, cause, familyOf(match.rule));
      const response = afterwards(this.responseTo(match.rule.name, match.facts.response));
      confirms ||= call === undefined && this.#ledger.confirms(act);
      if (!this.#ledger.isNews(act, match, response)) continue;
      const told =
        call === undefined ? alertOf(match, where, cause, also) : this.alertOfCall(match, where, call, also);
      const alert = this.#answeredAlert(told, response);
      this.#ledger.tell(act, cause, match, response, alert);
      alerts.push(alert);
      if (response !== "record") decisions.push(this.decision(alert, response));
    }
    return { alerts, decisions, confirms };
  }

  /**
   * What is to be told of one record. Rules over single records see one act in it, of which the most telling speaks; a correlation sees
   * what many records have in common, and is by itself.
   */
  #groups(
    matches: readonly RuleMatch<Telemetry>[],
    where: Attribution,
  ): { match: RuleMatch<Telemetry>; also: readonly string[] }[] {
    const approved = this.#approved.get(where.cause.callId);
    const heard = approved === undefined ? matches : matches.filter(({ rule }) => !approved.has(rule.name));
    if (heard.length < 2) return heard.map((match) => ({ match, also: [] }));
    const sorted = heard.toSorted((a, b) => tellingOf(b) - tellingOf(a));
    const [act, ...others] = sorted.filter(({ correlated }) => correlated === undefined);
    const patterns = sorted.filter(({ correlated }) => correlated !== undefined);
    return [
      ...(act === undefined ? [] : [{ match: act, also: others.map(({ rule }) => rule.name) }]),
      ...patterns.map((match) => ({ match, also: [] })),
    ];
  }

  /** What the monitor says. */
  report(report: Pick<MonitorReport, "alerts" | "changes">, callId: string | null): Judgement {
    const approved = callId === null ? undefined : this.#approved.get(callId);
    const decisions: Decision[] = [];
    const alerts = report.alerts
      .filter(({ rule }) => !this.#allowed.has(rule) && approved?.has(rule) !== true)
      .map((alert) => {
        const response = afterwards(this.responseTo(alert.rule));
        const answered = this.#answeredAlert(alert, response);
        if (response !== "record") decisions.push(this.decision(answered, response));
        return answered;
      });
    const events = [...report.changes, ...alerts.map(alertEvent)];
    return { events, alerts, decisions: hardestFirst(decisions), refused: [] };
  }

  responseTo(rule: string, own: Response = "record"): Response {
    return this.#instance.guard?.responses?.[rule] ?? own;
  }

  #answeredAlert(alert: Alert, response: Response): Alert {
    return response === "record" ? alert : { ...alert, response };
  }

  alertOfCall(
    match: RuleMatch<Telemetry>,
    where: Attribution,
    call: ToolCall,
    others: readonly string[] = [],
  ): Alert {
    const { process, at, evidence, ...rest } = alertOf(match, where, causeOf(where), others);
    const { cause, also } = evidence;
    const command = match.record.process?.command ?? match.record.tool?.command ?? call.name;
    const said = { cause, command, ...(also === undefined ? {} : { also }) };
    return { ...rest, source: "command", attribution: "certain", evidence: said };
  }

  decision(alert: Alert, response: Response): Decision {
    const title = this.#titles.get(alert.rule) ?? alert.rule;
    const answered = this.#answeredAlert(alert, response);
    return { alert: answered, response, title, text: agentText(response, { rule: alert.rule, title }) };
  }
}

const causeOf = ({ cause }: Attribution): string => keyOf(cause.chunk, cause.callId);

/** Only before a call runs it can be kept from running. */
export const isPreventive = (response: Response): boolean => response === "block" || response === "approve";
const afterwards = (response: Response): Response => (isPreventive(response) ? "warn" : response);

export const alertEvent = (alert: Alert): Event => ({ type: "alert", chunk: alert.chunk, alert });
