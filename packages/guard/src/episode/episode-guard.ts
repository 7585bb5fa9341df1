import type { Alert, Event, Instance, Response, Telemetry, ToolCall } from "@ale/core";
import type { Fingerprint } from "../fingerprint.ts";
import { EpisodeMonitor, type MonitorReport } from "../monitor.ts";
import { allRules } from "../rule-pack.ts";
import { compileRules, type RuleEngine, type RuleMatch } from "../sigma/engine.ts";
import { shippedRules } from "../sigma/pack.ts";
import { familyOf, type SigmaRule } from "../sigma/rule.ts";
import { agentText } from "./agent-text.ts";
import { type Attribution, Attributor } from "./attribution.ts";
import { keyOf } from "./cause.ts";
import { alertOf } from "./evidence.ts";
import { isInstaller, runsInstaller } from "./installers.ts";
import { type Decision, type Judgement, NOTHING, type RefusedRecord } from "./judgement.ts";
import { RecordBudget } from "./keep.ts";
import { ActLedger, rankOf, tellingOf } from "./ledger.ts";
import { expectedExecs } from "./preview.ts";
import { type CallSpan, CallTimeline } from "./timeline.ts";

/**
 * Judges one episode: it is fed the agent's calls and what the collectors tell, and says what belongs into the log, which alerts there are
 * and what is to be done. A pure state machine on the records' own clock (milliseconds since the epoch, with fraction): fed the same again,
 * it says the same. What calls say and what becomes of protected paths is `EpisodeMonitor`'s; rules over telemetry are the engine's.
 */

export interface GuardRequest {
  readonly episode: string;
  readonly instance: Instance;
  /** The protected paths before the agent's first call. A path left out is judged by commands and telemetry alone. */
  readonly fingerprints: readonly Fingerprint[];
  /** Rules over telemetry. Default: those that ship. */
  readonly rules?: readonly SigmaRule[];
  /** Records of any other are refused. Default: whatever comes is believed to be of this episode's. */
  readonly sandbox?: string;
}

/** How much later than when it is told a record may claim to have happened. */
const FUTURE_MS = 1_000;

/** What rules may know beside the record, e.g. `context.installing: true`. It is not in the log. */
const INSTALLING = { context: { installing: true } };

interface OpenCall {
  readonly span: CallSpan;
  readonly call: ToolCall;
  /** Not told yet: of what is blocked, or waits for a person. */
  readonly held: readonly Decision[];
  /** What the call says by itself. */
  readonly said: readonly Alert[];
}

interface Answer extends Pick<Judgement, "alerts" | "decisions"> {
  /** A record of what so far only a call's text had said. */
  readonly confirms: boolean;
}

export class EpisodeGuard {
  readonly #request: GuardRequest;
  readonly #monitor: EpisodeMonitor;
  readonly #engine: RuleEngine<Telemetry>;
  readonly #titles: ReadonlyMap<string, string>;
  readonly #allowed: ReadonlySet<string>;
  readonly #fingerprinted: ReadonlySet<string>;
  readonly #timeline = new CallTimeline();
  readonly #attributor = new Attributor(this.#timeline);
  readonly #ledger = new ActLedger();
  readonly #budget = new RecordBudget();
  readonly #open = new Map<string, OpenCall>();
  /** By call: rules that a person approved. */
  readonly #approved = new Map<string, ReadonlySet<string>>();
  /** Calls that run a package manager. */
  readonly #installing = new Set<string>();
  #refused = 0;
  #endedAt = Number.POSITIVE_INFINITY;

  constructor(request: GuardRequest) {
    const { instance, fingerprints, rules = shippedRules() } = request;
    this.#request = request;
    this.#monitor = new EpisodeMonitor(instance, fingerprints);
    this.#engine = compileRules(rules);
    this.#titles = new Map([
      ...allRules.map(({ id, title }) => [id, title] as const),
      ...rules.map(({ name, title }) => [name, title] as const),
    ]);
    this.#allowed = new Set(instance.guard?.allowRules);
    this.#fingerprinted = new Set(fingerprints.map(({ path }) => path));
  }

  /**
   * Before a call runs: what its text says, of rules over calls and over the programs that it would start. What `block` and `approve` hold
   * is told once it is refused; anything else now, as an intention that the programs' own records then join. Then comes `refuseCall`, or
   * `endCall`, which means that whatever needed approval has it.
   */
  beginCall(chunk: number, call: ToolCall, at: number): Judgement {
    const span = this.#timeline.begin(chunk, call.id, at);
    const { alerts: said, commands } = this.#monitor.previewCall(chunk, call);
    if (commands.some(({ program }) => isInstaller(program))) this.#installing.add(call.id);
    const asked = this.#feed(this.#callRecord(span, call));
    const expected = expectedExecs(commands, at).map((record) => this.#engine.peek(record));
    const held = new Map<string, Decision>();
    const hold = (alert: Alert, response: Response): void => {
      if (isPreventive(response) && !this.#allowed.has(alert.rule) && !held.has(alert.rule))
        held.set(alert.rule, this.#decision(alert, response));
    };
    for (const alert of said) hold(alert, this.#responseTo(alert.rule));
    const where = this.#certain(span);
    for (const match of [asked, ...expected].flat())
      hold(this.#alertOfCall(match, where, call), this.#responseTo(match.rule.name, match.facts.response));
    const known = asked.filter(({ rule }) => !held.has(rule.name));
    const told = [this.#tell(known, where, this.#callRecord(span, call))];
    for (const matches of expected) {
      const meant = matches.filter(({ rule }) => !held.has(rule.name) && !this.#allowed.has(rule.name));
      const { alerts, decisions } = this.#answer(meant, where, call);
      told.push({ ...NOTHING, alerts, decisions, events: alerts.map(alertEvent) });
    }
    this.#open.set(call.id, { span, call, held: [...held.values()], said });
    return joined([...told, { ...NOTHING, decisions: [...held.values()] }]);
  }

  /** It was blocked, or nobody approved it: an attempt, which is told, but nothing that ran. */
  refuseCall(chunk: number, call: ToolCall, at: number): Judgement {
    const open = this.#take(chunk, call, at);
    this.#timeline.refuse(open.span, at);
    const held = open.held.map(({ alert }) => alert);
    const rest = open.said.filter(({ rule }) => !held.some((alert) => alert.rule === rule));
    const asked = this.#callRecord(open.span, call);
    const record = { ...asked, at, tool: { ...asked.tool!, refused: true } };
    return joined([
      { ...NOTHING, alerts: held, events: held.map(alertEvent) },
      this.#answered({ alerts: rest, changes: [] }, call.id),
      this.#tell(this.#feed(record, asked), this.#certain(open.span), record, true),
    ]);
  }

  /** After a call ran. `now`: the protected paths after it. */
  endCall(chunk: number, call: ToolCall, now: readonly Fingerprint[], at: number): Judgement {
    const open = this.#take(chunk, call, at);
    this.#timeline.end(open.span, at);
    const approved = open.held
      .filter(({ response }) => response === "approve")
      .map(({ alert }) => alert.rule);
    if (approved.length > 0) this.#approved.set(call.id, new Set(approved));
    return this.#answered(this.#monitor.afterCall(chunk, call, now), call.id);
  }

  /** Whatever a collector tells, also long after its chunk. `now`: when it is told; what happened later than that is refused. */
  observe(record: Telemetry, now = Number.POSITIVE_INFINITY): Judgement {
    const reason = this.#objectionTo(record, now);
    if (reason !== null) {
      this.#refused++;
      return { ...NOTHING, refused: [{ record, reason }] };
    }
    const where = this.#attributor.attribute(record, this.#endedAt);
    const placed = this.#placed(record, where);
    if (where === null) return this.#tell([], null, placed);
    const { callId } = where.cause;
    if (runsInstaller(record)) this.#installing.add(callId);
    const isInstalled = record.file !== undefined && this.#installing.has(callId);
    return this.#tell(this.#feed(isInstalled ? { ...placed, ...INSTALLING } : placed), where, placed);
  }

  /**
   * After the agent's processes were ended. `chunk`: the last that the model wrote; default: the last that called a tool. Records may still
   * come: from now on only those of processes that a call started are anybody's.
   */
  windUp(now: readonly Fingerprint[], at: number, chunk = this.#timeline.last?.chunk): Judgement {
    const parts: Judgement[] = [];
    for (const { span, call } of [...this.#open.values()])
      parts.push(this.endCall(span.chunk, call, now, at));
    if (chunk !== undefined) parts.push(this.#answered(this.#monitor.afterCall(chunk, null, now), null));
    this.#endedAt = Math.min(this.#endedAt, at);
    const totals: Event = {
      type: "guard.totals",
      alerts: [...this.#ledger.totals],
      suppressed: { ...this.#budget.suppressed },
      refused: this.#refused,
    };
    return joined([...parts, { ...NOTHING, events: [totals] }]);
  }

  #take(chunk: number, call: ToolCall, at: number): OpenCall {
    const open = this.#open.get(call.id);
    this.#open.delete(call.id);
    if (open !== undefined) return open;
    // A recording without beginnings, as of an older log, is judged all the same.
    return { span: this.#timeline.begin(chunk, call.id, at), call, held: [], said: [] };
  }

  #objectionTo(record: Telemetry, now: number): RefusedRecord["reason"] | null {
    const { sandbox, episode } = this.#request;
    if (!Number.isFinite(record.at)) return "no-time";
    if (sandbox !== undefined && record.sandbox !== null && record.sandbox !== sandbox)
      return "other-sandbox";
    if (record.episode != null && record.episode !== episode) return "other-episode";
    return record.at > now + FUTURE_MS ? "from-the-future" : null;
  }

  #placed(record: Telemetry, where: Attribution | null): Telemetry {
    const { episode } = this.#request;
    if (where === null) return { ...record, episode };
    const { during, cause } = where;
    return {
      ...record,
      episode,
      chunk: during.chunk,
      ...(cause.chunk === during.chunk ? {} : { originChunk: cause.chunk }),
      callId: cause.callId,
    };
  }

  #callRecord(span: CallSpan, call: ToolCall): Telemetry {
    const { command } = call.arguments;
    return {
      at: span.beganAt,
      kind: "tool.call",
      source: "tool",
      sandbox: this.#request.sandbox ?? null,
      episode: this.#request.episode,
      chunk: span.chunk,
      callId: call.id,
      tool: { name: call.name, ...(typeof command === "string" ? { command } : {}), refused: false },
    };
  }

  readonly #certain = (span: CallSpan): Attribution => ({ during: span, cause: span, how: "certain" });

  /** Matches that are to be judged here: neither allowed by the instance nor left to the fingerprints. */
  #feed(record: Telemetry, before?: Telemetry): readonly RuleMatch<Telemetry>[] {
    if (record.file !== undefined && this.#fingerprinted.has(record.file.path)) return [];
    const matches = this.#engine.feed(record, before);
    return matches.length === 0 || this.#allowed.size === 0
      ? matches
      : matches.filter(({ rule }) => !this.#allowed.has(rule.name));
  }

  /** Turns matches of one record into what is told of them, and decides whether the record is kept. */
  #tell(
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

  /** Alerts of what is news in matches of one record. `call`: it is not a record but what this call's text says will be one. */
  #answer(matches: readonly RuleMatch<Telemetry>[], where: Attribution, call?: ToolCall): Answer {
    const decisions: Decision[] = [];
    const alerts: Alert[] = [];
    let confirms = false;
    for (const { match, also } of matches.length === 0 ? [] : this.#groups(matches, where)) {
      const cause = causeOf(where);
      const act = this.#ledger.actOf(match, cause, familyOf(match.rule));
      const response = afterwards(this.#responseTo(match.rule.name, match.facts.response));
      confirms ||= call === undefined && this.#ledger.confirms(act);
      if (!this.#ledger.isNews(act, match, response)) continue;
      const told =
        call === undefined ? alertOf(match, where, cause, also) : this.#alertOfCall(match, where, call, also);
      const alert = this.#answeredAlert(told, response);
      this.#ledger.tell(act, cause, match, response, alert);
      alerts.push(alert);
      if (response !== "record") decisions.push(this.#decision(alert, response));
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

  /** What the monitor says, with this instance's exceptions and responses. */
  #answered(report: Pick<MonitorReport, "alerts" | "changes">, callId: string | null): Judgement {
    const approved = callId === null ? undefined : this.#approved.get(callId);
    const decisions: Decision[] = [];
    const alerts = report.alerts
      .filter(({ rule }) => !this.#allowed.has(rule) && approved?.has(rule) !== true)
      .map((alert) => {
        const response = afterwards(this.#responseTo(alert.rule));
        const answered = this.#answeredAlert(alert, response);
        if (response !== "record") decisions.push(this.#decision(answered, response));
        return answered;
      });
    const events = [...report.changes, ...alerts.map(alertEvent)];
    return { events, alerts, decisions: hardestFirst(decisions), refused: [] };
  }

  #responseTo(rule: string, own: Response = "record"): Response {
    return this.#request.instance.guard?.responses?.[rule] ?? own;
  }

  #answeredAlert(alert: Alert, response: Response): Alert {
    return response === "record" ? alert : { ...alert, response };
  }

  #alertOfCall(
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

  #decision(alert: Alert, response: Response): Decision {
    const title = this.#titles.get(alert.rule) ?? alert.rule;
    const answered = this.#answeredAlert(alert, response);
    return { alert: answered, response, title, text: agentText(response, { rule: alert.rule, title }) };
  }
}

const causeOf = ({ cause }: Attribution): string => keyOf(cause.chunk, cause.callId);

/** Only before a call runs it can be kept from running. */
const isPreventive = (response: Response): boolean => response === "block" || response === "approve";
const afterwards = (response: Response): Response => (isPreventive(response) ? "warn" : response);

const alertEvent = (alert: Alert): Event => ({ type: "alert", chunk: alert.chunk, alert });

const hardestFirst = (decisions: readonly Decision[]): readonly Decision[] =>
  decisions.length < 2 ? decisions : decisions.toSorted((a, b) => rankOf(b.response) - rankOf(a.response));

function joined(parts: readonly Judgement[]): Judgement {
  return {
    events: parts.flatMap(({ events }) => events),
    alerts: parts.flatMap(({ alerts }) => alerts),
    decisions: hardestFirst(parts.flatMap(({ decisions }) => decisions)),
    refused: parts.flatMap(({ refused }) => refused),
  };
}
