import {
  AleError,
  type Clock,
  type Event,
  type Ids,
  type Instance,
  isPersons,
  type Termination,
  type ToolCall,
  telemetryNow,
} from "@ale/core";
import type {
  AgentOutcome,
  CallDecision,
  CallReview,
  Supervisor,
  TimedOutcome,
  ToolRuntime,
} from "@ale/flow";
import { type Decision, EpisodeGuard, type Judgement } from "@ale/guard";
import type { Fingerprint, Sandbox, SandboxDriver } from "@ale/rock";
import { askFor } from "./approval.ts";
import { heldRuntime } from "./held-runtime.ts";
import { keepAsEvidence } from "./quarantine.ts";
import { wardenTexts } from "./warden-texts.ts";
import { askedTools, judgedInstance, type Watch } from "./watch.ts";

/**
 * Watches one episode and does what guard says: it feeds guard with the agent's calls and the sandbox's telemetry, writes what guard
 * makes of them into the log, and refuses calls, asks people, warns the agent, ends the episode or keeps its sandbox as evidence. It judges
 * nothing by itself. From `windUp` on it listens no longer: what the verifier does is nobody's chunk.
 */

export interface WardenOptions {
  readonly episode: string;
  readonly instance: Instance;
  readonly driver: SandboxDriver;
  readonly sandbox: Sandbox;
  readonly watch: Watch;
  /** Where the tools of the agent run; `Warden.runtime` is this one, and comes to an end when the sandbox is frozen. */
  readonly runtime: ToolRuntime;
  readonly emit: (event: Event) => void;
  readonly clock: Clock;
  readonly ids: Ids;
}

interface CurrentCall {
  readonly callId: string;
  /** Rules that a person allowed this call to break. */
  granted: ReadonlySet<string>;
  refused: boolean;
}

export class Warden implements Supervisor, AsyncDisposable {
  readonly runtime: ToolRuntime;
  readonly #options: WardenOptions;
  readonly #guard: EpisodeGuard;
  readonly #watched: readonly string[];
  readonly #asked: ReadonlySet<string>;
  readonly #stop = new AbortController();
  readonly #frozen = new AbortController();
  #listening: Disposable | undefined;
  #current: CurrentCall | undefined;
  /** What the agent is to read below its next observation. */
  #warnings: Decision[] = [];
  #chunk = 0;
  #ended: Decision | undefined;
  /** The end is being made: the sandbox is frozen and kept. */
  #ending: Promise<void> | undefined;
  #keepsSandbox = false;

  private constructor(options: WardenOptions, fingerprints: readonly Fingerprint[]) {
    const { episode, instance, sandbox, watch } = options;
    this.#options = options;
    this.#asked = askedTools(instance, watch);
    this.#watched = instance.protectedPaths.map(({ path }) => path);
    this.#guard = new EpisodeGuard({
      episode,
      instance: judgedInstance(instance, watch),
      fingerprints,
      rules: watch.rules,
      sandbox: sandbox.id,
    });
    this.runtime = heldRuntime(options.runtime, this.#frozen.signal);
    const sources = watch.collectors;
    if (sources.length > 0)
      this.#listening = sandbox.onTelemetry(
        (record) => this.#hear(this.#guard.observe(record, telemetryNow())),
        {
          sources,
        },
      );
  }

  /** Before the agent's first chunk. Fails as the sandbox does. */
  static async open(options: WardenOptions, signal: AbortSignal): Promise<Warden> {
    const paths = options.instance.protectedPaths.map(({ path }) => path);
    const fingerprints = paths.length === 0 ? [] : await options.sandbox.fingerprint(paths, signal);
    return new Warden(options, fingerprints);
  }

  get stop(): AbortSignal {
    return this.#stop.signal;
  }

  /** The sandbox is evidence: it stays frozen, and is not its episode's to destroy. */
  get keepsSandbox(): boolean {
    return this.#keepsSandbox;
  }

  async before(chunk: number, call: ToolCall, signal: AbortSignal): Promise<CallDecision> {
    this.#chunk = chunk;
    const current: CurrentCall = { callId: call.id, granted: new Set(), refused: false };
    this.#current = current;
    const judgement = this.#guard.beginCall(chunk, call, telemetryNow());
    this.#record(judgement);
    const { decisions } = judgement;
    const [hardest] = decisions;
    if (hardest !== undefined && endsEpisode(hardest)) {
      this.#refuse(chunk, call, current);
      await this.#end(hardest);
      return { type: "refuse", content: hardest.text, stop: true };
    }
    const blocked = decisions.find(({ response }) => response === "block");
    if (blocked !== undefined) {
      this.#refuse(chunk, call, current);
      this.#respond(blocked, "the call was not run");
      return { type: "refuse", content: blocked.text };
    }
    const needed = decisions.filter(({ response }) => response === "approve");
    const refusal = await this.#approve(chunk, call, needed, current, signal);
    if (refusal !== null) return refusal;
    this.#warnings.push(...decisions.filter(({ response }) => response === "warn"));
    return { type: "proceed" };
  }

  /** Null where nobody needs to be asked, or the answer was yes. */
  async #approve(
    chunk: number,
    call: ToolCall,
    needed: readonly Decision[],
    current: CurrentCall,
    signal: AbortSignal,
  ): Promise<CallDecision | null> {
    const { watch } = this.#options;
    const byTool = this.#asked.has(call.name);
    if (needed.length === 0 && !byTool) return null;
    const rules = [...needed.map(({ alert }) => alert.rule), ...(byTool ? [`ask:${call.name}`] : [])];
    const answer = await askFor(
      { ...this.#options, approver: watch.approver },
      { chunk, call, rules },
      signal,
    );
    if (answer.granted) {
      current.granted = new Set(rules);
      return null;
    }
    this.#refuse(chunk, call, current);
    for (const decision of needed)
      this.#respond(decision, `not approved (${answer.by}): the call was not run`);
    // Of a refusal by policy or timeout, that it was one says everything.
    const reason = isPersons(answer) ? answer.reason : undefined;
    return { type: "refuse", content: wardenTexts.refused(reason) };
  }

  #refuse(chunk: number, call: ToolCall, current: CurrentCall): void {
    current.refused = true;
    const judgement = this.#guard.refuseCall(chunk, call, telemetryNow());
    this.#record(judgement);
    this.#warnings.push(...judgement.decisions.filter(({ response }) => response === "warn"));
  }

  async after(
    chunk: number,
    call: ToolCall,
    _outcome: TimedOutcome,
    signal: AbortSignal,
  ): Promise<CallReview> {
    await this.#ending;
    if (this.#current?.refused !== true)
      this.#hear(this.#guard.endCall(chunk, call, await this.#look(signal), telemetryNow()));
    await this.#ending;
    this.#current = undefined;
    const note = this.#takeNote(call.id);
    return { stop: this.#ended !== undefined, ...(note === "" ? {} : { note }) };
  }

  /** After the last call. Ends what the agent left running, hears what is still to be told, and says how the episode ended. */
  async windUp(outcome: AgentOutcome, signal: AbortSignal): Promise<Termination> {
    const { sandbox } = this.#options;
    await this.#ending;
    const isOver = outcome.termination === "environment-fault" || outcome.termination === "cancelled";
    const isWatched = this.#watched.length > 0 || this.#listening !== undefined;
    // What was left running may act after the last call: it is stopped first, then judged.
    if (isWatched && !isOver && outcome.chunks > 0 && !this.#keepsSandbox)
      await sandbox.killAgentProcesses(signal);
    await this.#drain();
    const chunk = outcome.chunks > 0 ? outcome.chunks - 1 : undefined;
    this.#hear(this.#guard.windUp(isOver ? [] : await this.#look(signal), telemetryNow(), chunk));
    this.#ignore();
    await this.#ending;
    return this.#ended !== undefined && !isOver ? "stopped-by-guard" : outcome.termination;
  }

  /** Where the episode was not wound up, what is known is in the log all the same. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#drain();
    this.#ignore();
    await this.#ending;
  }

  async #drain(): Promise<void> {
    if (this.#listening === undefined) return;
    await this.#options.sandbox.drainTelemetry().catch(unlessGone);
  }

  #ignore(): void {
    this.#listening?.[Symbol.dispose]();
    this.#listening = undefined;
  }

  async #look(signal: AbortSignal): Promise<readonly Fingerprint[]> {
    return this.#watched.length === 0 ? [] : this.#options.sandbox.fingerprint(this.#watched, signal);
  }

  /** Of what has happened already: nothing can be kept from happening any more. */
  #hear(judgement: Judgement): void {
    this.#record(judgement);
    for (const decision of judgement.decisions) {
      if (this.#isGranted(decision.alert)) continue;
      if (endsEpisode(decision)) void this.#end(decision);
      else if (decision.response === "warn") this.#warnings.push(decision);
    }
  }

  #record({ events }: Judgement): void {
    for (const event of events)
      if (event.type !== "alert" || !this.#isGranted(event.alert)) this.#options.emit(event);
  }

  /** What a person approved is no violation; that it was approved is in the log. */
  #isGranted({ rule, callId }: Decision["alert"]): boolean {
    return this.#current !== undefined && this.#current.callId === callId && this.#current.granted.has(rule);
  }

  #respond({ alert, response }: Decision, detail: string, snapshot?: string): void {
    this.#options.emit({
      type: "response",
      chunk: this.#chunk,
      ...(alert.callId === undefined ? {} : { callId: alert.callId }),
      rule: alert.rule,
      response,
      detail,
      ...(snapshot === undefined ? {} : { snapshot }),
    });
  }

  #takeNote(callId: string): string {
    const warnings = this.#warnings.splice(0);
    const texts = new Map(warnings.map((decision) => [decision.text, decision]));
    for (const decision of texts.values()) this.#respond(decision, `the agent was warned below ${callId}`);
    return [...texts.keys()].join("\n");
  }

  /** The first decision counts; whatever runs is ended. */
  #end(decision: Decision): Promise<void> {
    if (this.#ended !== undefined) return this.#ending ?? Promise.resolve();
    this.#ended = decision;
    this.#ending = decision.response === "quarantine" ? this.#quarantine(decision) : this.#kill(decision);
    // Whoever comes next waits for it, and hears of its failure then.
    this.#ending.catch(() => {});
    return this.#ending;
  }

  async #kill(decision: Decision): Promise<void> {
    this.#respond(decision, "the episode ends here");
    // All at once and before anything else: a shell that is only interrupted may go on with the next command of its line.
    const killed = this.#options.sandbox.killAgentProcesses();
    this.#stop.abort(stopped(decision));
    await killed.catch(unlessGone);
  }

  async #quarantine(decision: Decision): Promise<void> {
    const { driver, sandbox, episode } = this.#options;
    const kept = await keepAsEvidence(driver, sandbox, { episode, rule: decision.alert.rule }, () => {
      this.#keepsSandbox = true;
      this.#stop.abort(stopped(decision));
      this.#frozen.abort(stopped(decision));
    });
    if (!this.#stop.signal.aborted) this.#stop.abort(stopped(decision));
    this.#respond(decision, kept.detail, kept.snapshot);
  }
}

/** In a sandbox that is gone nothing runs any more, and all that can be told of it was told. */
function unlessGone(error: unknown): void {
  if (!(error instanceof AleError)) throw error;
}

const endsEpisode = ({ response }: Decision): boolean => response === "stop" || response === "quarantine";

const stopped = ({ alert }: Decision): AleError =>
  new AleError("stopped-by-guard", `guard ended the episode: ${alert.rule}`, {
    next: "ale episodes show says why",
  });
