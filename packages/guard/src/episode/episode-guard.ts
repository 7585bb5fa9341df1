import type { Alert, Instance, Response, Telemetry, ToolCall } from "@ale/core";
import type { Fingerprint } from "../fingerprint.ts";
import { EpisodeMonitor } from "../monitor.ts";
import { compileRules, type RuleEngine, type RuleMatch } from "../sigma/engine.ts";
import { shippedRules } from "../sigma/pack.ts";
import type { SigmaRule } from "../sigma/rule.ts";
import { type Attribution, Attributor } from "./attribution.ts";
import { isInstaller, runsInstaller } from "./installers.ts";
import { type Decision, type Judgement, joined, NOTHING, type RefusedRecord } from "./judgement.ts";
import { expectedExecs } from "./preview.ts";
import { alertEvent, isPreventive, Teller } from "./teller.ts";
import { type CallSpan, CallTimeline } from "./timeline.ts";

/**
 * Judges one episode: it is fed the agent's calls and what the collectors tell, and says what belongs into the log, which alerts there are
 * and what is to be done. A pure state machine on the records' own clock (milliseconds since the epoch, with fraction): fed the same again,
 * it says the same. What calls say and what becomes of protected paths is `EpisodeMonitor`'s; rules over telemetry are the engine's; what is
 * told of all that is `Teller`'s.
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

export class EpisodeGuard {
  readonly #request: GuardRequest;
  readonly #monitor: EpisodeMonitor;
  readonly #engine: RuleEngine<Telemetry>;
  readonly #teller: Teller;
  readonly #fingerprinted: ReadonlySet<string>;
  readonly #timeline = new CallTimeline();
  readonly #attributor = new Attributor(this.#timeline);
  readonly #open = new Map<string, OpenCall>();
  /** Calls that run a package manager. */
  readonly #installing = new Set<string>();
  #refused = 0;
  #endedAt = Number.POSITIVE_INFINITY;

  constructor(request: GuardRequest) {
    const { instance, fingerprints, rules = shippedRules() } = request;
    this.#request = request;
    this.#monitor = new EpisodeMonitor(instance, fingerprints);
    this.#engine = compileRules(rules);
    this.#teller = new Teller(instance, rules);
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
      if (isPreventive(response) && !this.#teller.allows(alert.rule) && !held.has(alert.rule))
        held.set(alert.rule, this.#teller.decision(alert, response));
    };
    for (const alert of said) hold(alert, this.#teller.responseTo(alert.rule));
    const where = this.#certain(span);
    for (const match of [asked, ...expected].flat())
      hold(
        this.#teller.alertOfCall(match, where, call),
        this.#teller.responseTo(match.rule.name, match.facts.response),
      );
    const known = asked.filter(({ rule }) => !held.has(rule.name));
    const told = [this.#teller.tell(known, where, this.#callRecord(span, call))];
    for (const matches of expected) {
      const meant = matches.filter(({ rule }) => !held.has(rule.name) && !this.#teller.allows(rule.name));
      told.push(this.#teller.intend(meant, where, call));
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
      this.#teller.report({ alerts: rest, changes: [] }, call.id),
      this.#teller.tell(this.#feed(record, asked), this.#certain(open.span), record, true),
    ]);
  }

  /** After a call ran. `now`: the protected paths after it. */
  endCall(chunk: number, call: ToolCall, now: readonly Fingerprint[], at: number): Judgement {
    const open = this.#take(chunk, call, at);
    this.#timeline.end(open.span, at);
    const approved = open.held
      .filter(({ response }) => response === "approve")
      .map(({ alert }) => alert.rule);
    this.#teller.approve(call.id, approved);
    return this.#teller.report(this.#monitor.afterCall(chunk, call, now), call.id);
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
    if (where === null) return this.#teller.tell([], null, placed);
    const { callId } = where.cause;
    if (runsInstaller(record)) this.#installing.add(callId);
    const isInstalled = record.file !== undefined && this.#installing.has(callId);
    return this.#teller.tell(this.#feed(isInstalled ? { ...placed, ...INSTALLING } : placed), where, placed);
  }

  /**
   * After the agent's processes were ended. `chunk`: the last that the model wrote; default: the last that called a tool. Records may still
   * come: from now on only those of processes that a call started are anybody's.
   */
  windUp(now: readonly Fingerprint[], at: number, chunk = this.#timeline.last?.chunk): Judgement {
    const parts: Judgement[] = [];
    for (const { span, call } of [...this.#open.values()])
      parts.push(this.endCall(span.chunk, call, now, at));
    if (chunk !== undefined) parts.push(this.#teller.report(this.#monitor.afterCall(chunk, null, now), null));
    this.#endedAt = Math.min(this.#endedAt, at);
    return joined([...parts, { ...NOTHING, events: [this.#teller.totals(this.#refused)] }]);
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
    return matches.length === 0 ? matches : matches.filter(({ rule }) => !this.#teller.allows(rule.name));
  }
}
