import { type Expert, expertPolicy, runInstall, specOf, type Task, verify } from "@ale/bench";
import {
  AleError,
  type Clock,
  type ContextProfile,
  digestOf,
  type EpisodeStore,
  type Event,
  type Ids,
  type Instance,
  type Purpose,
  profileHash,
  type Random,
  type Telemetry,
  type TelemetrySource,
  type Termination,
  type Trajectory,
  trajectoryOf,
} from "@ale/core";
import { type Model, runAgent } from "@ale/flow";
import { type Codec, openConversation, scriptedUpstream, type Upstream } from "@ale/gateway";
import type { Sandbox, SandboxDriver } from "@ale/rock";
import { enterPhase, refusePhases } from "./network-phases.ts";
import { sandboxRuntime } from "./sandbox-runtime.ts";
import { Warden } from "./warden.ts";
import { plainWatch, type Watch } from "./watch.ts";

/**
 * One episode from sandbox to seal, the same for training, evaluation, demonstration and people: only the actor differs. The log
 * is written while things happen; what is returned is read back from the recorded events.
 */

export interface EpisodeDeps {
  readonly driver: SandboxDriver;
  readonly codec: Codec;
  readonly profile: ContextProfile;
  readonly store: EpisodeStore;
  readonly clock: Clock;
  readonly ids: Ids;
}

export type Actor =
  | { readonly type: "policy"; readonly upstream: Upstream; readonly version: number; readonly seed: number }
  | {
      readonly type: "expert";
      readonly noise: number;
      readonly shortcutRate: number;
      readonly random: Random;
    };

export interface EpisodeRequest {
  readonly task: Task;
  readonly purpose: Purpose;
  readonly run: string | null;
  readonly group: string | null;
  /** False leaves the verifier out, for tasks that have none. Default true. */
  readonly judged?: boolean;
  readonly actor: Actor;
  /** Default: commands and protected paths are judged, and what is found is recorded. */
  readonly watch?: Watch;
  /** Told of every event when it has been recorded, for who follows the episode. */
  readonly onEvent?: (event: Event) => void;
}

export interface FinishedEpisode {
  readonly trajectory: Trajectory;
  /** Hash of the seal: the identity of the episode. */
  readonly head: string;
}

/** Never throws for what happens inside the episode: faults are recorded and the episode is sealed. Throws when nothing can be recorded. */
export async function runEpisode(
  deps: EpisodeDeps,
  request: EpisodeRequest,
  signal: AbortSignal,
): Promise<FinishedEpisode> {
  const episode = deps.ids.next("ep");
  await using writer = await deps.store.create(episode, { clock: deps.clock });
  const events: Event[] = [];
  const emit = (event: Event): void => {
    events.push(event);
    writer.append(event);
    request.onEvent?.(event);
  };
  emit(beginEvent(deps, request, episode));
  try {
    await actAndVerify(deps, request, episode, emit, signal);
  } catch (cause) {
    if (signal.aborted) emit({ type: "episode.end", termination: "cancelled", chunks: chunksOf(events) });
    else {
      const what = cause instanceof AleError && cause.code === "install-failed" ? "install" : "sandbox";
      emit({ type: "fault", chunk: null, what, detail: describe(cause) });
      emit({ type: "episode.end", termination: "environment-fault", chunks: chunksOf(events) });
      if (cause instanceof AleError && FATAL.has(cause.code)) {
        await writer.seal();
        throw cause;
      }
    }
  }
  const head = await writer.seal();
  signal.throwIfAborted();
  return { trajectory: trajectoryOf(events), head };
}

/** Failures of the whole system, not of one environment: going on would only produce more of them. */
const FATAL: ReadonlySet<string> = new Set([
  "engine-died",
  "engine-unreachable",
  "engine-rejected",
  "engine-failed",
  "engine-uncertain",
  "engine-protocol",
  "runtime-missing",
  "image-missing",
  "network-unsupported",
  "need-root",
  "host-unsupported",
  "log.write",
]);

const describe = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));
const chunksOf = (events: readonly Event[]): number =>
  events.filter((event) => event.type === "model.call").length;

function beginEvent(deps: EpisodeDeps, request: EpisodeRequest, episode: string): Event {
  const { actor, task } = request;
  return {
    type: "episode.begin",
    episode,
    purpose: request.purpose,
    run: request.run,
    group: request.group,
    instance: task.instance,
    instanceDigest: digestOf(task.instance),
    actor:
      actor.type === "policy"
        ? { type: "policy", model: actor.upstream.model, version: actor.version }
        : { type: "script", name: `expert(noise=${actor.noise}, shortcuts=${actor.shortcutRate})` },
    profile: deps.profile,
    profileHash: profileHash(deps.profile),
    startedAt: new Date(deps.clock.nowMs()).toISOString(),
    software: { ale: "0.1.0", node: process.versions.node },
  };
}

async function actAndVerify(
  deps: EpisodeDeps,
  request: EpisodeRequest,
  episode: string,
  emit: (event: Event) => void,
  signal: AbortSignal,
): Promise<void> {
  const { instance } = request.task;
  const { driver } = deps;
  await refusePhases(driver, instance);
  const watch = request.watch ?? plainWatch;
  const sandbox = await driver.create(specOf(instance), signal);
  let guarded: Warden | undefined;
  try {
    await install(sandbox, instance, watch, emit, signal);
    const changed = await enterPhase(
      sandbox,
      instance,
      { from: "install", to: "agent", chunk: null },
      signal,
    );
    if (changed !== null) emit(changed);
    await using warden = await Warden.open(
      {
        ...deps,
        episode,
        instance,
        sandbox,
        watch,
        runtime: sandboxRuntime(sandbox),
        emit,
      },
      signal,
    );
    guarded = warden;
    const outcome = await runAgent(
      {
        model: modelFor(deps, request),
        runtime: warden.runtime,
        profile: deps.profile,
        instruction: instance.instruction,
        emit,
        clock: deps.clock,
        supervisor: warden,
      },
      signal,
    );
    const termination = await warden.windUp(outcome, signal);
    emit({ type: "episode.end", termination, chunks: outcome.chunks });
    if (UNJUDGED.has(termination) || !(request.judged ?? true)) return;
    await verifyInPhase(sandbox, instance, emit, signal);
  } finally {
    // Evidence stays as it is until the driver ends, or somebody releases it; also where the episode was interrupted.
    if (guarded?.keepsSandbox !== true) await sandbox.destroy();
  }
}

/** What installing reaches is recorded; nobody's chunk is to blame for it. */
async function install(
  sandbox: Sandbox,
  instance: Instance,
  watch: Watch,
  emit: (event: Event) => void,
  signal: AbortSignal,
): Promise<void> {
  if (instance.install === undefined) return;
  const sources = watch.collectors.filter((source) => ON_THE_NETWORK.has(source));
  using listening = new DisposableStack();
  if (sources.length > 0) {
    const tell = (record: Telemetry): void =>
      emit({ type: "telemetry", chunk: null, phase: "install", record });
    listening.use(sandbox.onTelemetry(tell, { sources }));
  }
  try {
    await runInstall(sandbox, instance, emit, signal);
  } finally {
    if (sources.length > 0 && sandbox.endReason === undefined) await sandbox.drainTelemetry().catch(() => {});
  }
}

const ON_THE_NETWORK: ReadonlySet<TelemetrySource> = new Set(["nflog", "sink", "dns", "proxy"]);

/** What guard stopped has no verdict: whatever the tests would say, it is no solution. */
const UNJUDGED: ReadonlySet<Termination> = new Set(["environment-fault", "cancelled", "stopped-by-guard"]);

async function verifyInPhase(
  sandbox: Sandbox,
  instance: Instance,
  emit: (event: Event) => void,
  signal: AbortSignal,
): Promise<void> {
  // The agent's programs get nothing of the verifier's network.
  if (instance.networkPhases?.verifier !== undefined) await sandbox.killAgentProcesses(signal);
  const changed = await enterPhase(sandbox, instance, { from: "agent", to: "verifier", chunk: null }, signal);
  if (changed !== null) emit(changed);
  emit({ type: "verdict", verdict: await verify(sandbox, instance, signal) });
}

function modelFor(deps: EpisodeDeps, request: EpisodeRequest): Model {
  const { actor, task } = request;
  if (actor.type === "policy") {
    return openConversation({
      codec: deps.codec,
      profile: deps.profile,
      upstream: actor.upstream,
      ids: deps.ids,
      seed: actor.seed,
    });
  }
  return scriptedModel(
    deps,
    expertPolicy(task, { noise: actor.noise, shortcutRate: actor.shortcutRate, random: actor.random }),
  );
}

/** Drives a scripted expert through the same conversation as a policy, so that its context is token for token what a policy would see. */
function scriptedModel(deps: EpisodeDeps, expert: Expert): Model {
  const conversation = openConversation({
    codec: deps.codec,
    profile: deps.profile,
    upstream: scriptedUpstream([]),
    ids: deps.ids,
  });
  return {
    async next(messages) {
      const observations = messages
        .filter((message) => message.role === "tool")
        .map((message) => message.content);
      return conversation.force(messages, expert(observations)?.action ?? { name: "submit", arguments: {} });
    },
  };
}
