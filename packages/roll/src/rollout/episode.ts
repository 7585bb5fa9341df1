import { type Expert, expertPolicy, openEnvironment, type Task, verify } from "@ale/bench";
import {
  AleError,
  type Clock,
  type ContextProfile,
  digestOf,
  type EpisodeStore,
  type Event,
  type Ids,
  type Purpose,
  profileHash,
  type Random,
  type Trajectory,
  trajectoryOf,
} from "@ale/core";
import { type Model, runAgent } from "@ale/flow";
import { type Codec, openConversation, scriptedUpstream, type Upstream } from "@ale/gateway";
import { EpisodeMonitor } from "@ale/guard";
import type { SandboxDriver } from "@ale/rock";
import { sandboxRuntime } from "./sandbox-runtime.ts";

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
  };
  emit(beginEvent(deps, request, episode));
  try {
    await actAndVerify(deps, request, emit, signal);
  } catch (cause) {
    if (signal.aborted) emit({ type: "episode.end", termination: "cancelled", chunks: chunksOf(events) });
    else {
      emit({ type: "fault", chunk: null, what: "sandbox", detail: describe(cause) });
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
  emit: (event: Event) => void,
  signal: AbortSignal,
): Promise<void> {
  const { instance } = request.task;
  await using sandbox = await openEnvironment(deps.driver, instance, signal);
  const watched = instance.protectedPaths.map((entry) => entry.path);
  const look = () => (watched.length === 0 ? Promise.resolve([]) : sandbox.fingerprint(watched, signal));
  const monitor = new EpisodeMonitor(instance, await look());
  const outcome = await runAgent(
    {
      model: modelFor(deps, request),
      runtime: sandboxRuntime(sandbox),
      profile: deps.profile,
      instruction: instance.instruction,
      emit,
      clock: deps.clock,
      onCall: async (chunk, call) => {
        for (const event of monitor.afterCall(chunk, call, await look()).events) emit(event);
      },
    },
    signal,
  );
  if (watched.length > 0 && outcome.chunks > 0) {
    // What was left running may act after the last call: it is stopped first, then judged.
    await sandbox.killAgentProcesses(signal);
    for (const event of monitor.afterCall(outcome.chunks - 1, null, await look()).events) emit(event);
  }
  emit({ type: "episode.end", termination: outcome.termination, chunks: outcome.chunks });
  if (outcome.termination === "environment-fault" || outcome.termination === "cancelled") return;
  if (request.judged ?? true) emit({ type: "verdict", verdict: await verify(sandbox, instance, signal) });
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
