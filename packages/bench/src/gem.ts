import { AleError, type Instance, type Verdict } from "@ale/core";
import type { Sandbox } from "@ale/rock";
import type { GemEnvironment, GemHost, GemInstance, GemSource, Reset, Step } from "@ale/rock/compat";
import { installed, specOf } from "./environment.ts";
import { FAMILIES, makeTask } from "./registry.ts";
import { verify } from "./verifier.ts";

/**
 * Any instance as an environment that is stepped through with text. An action is a command for the agent's shell, or `submit`; the
 * observation is what a terminal would show; the reward is the verifier's, at the end. A reset is a fork of what the sandbox was like
 * before the first step, where the host can do that, and a new sandbox where it cannot.
 */

export interface InstanceEnvironmentOptions {
  /** Steps until the episode is cut off and verified as it is. Default: four times the reference solution's, at least 16. */
  readonly maxSteps?: number;
}

const PREFIX = "ale:";
const SUBMIT = /^\s*(?:submit|\\boxed\{\s*submit\s*\})\s*$/i;
/** A host that cannot seal and fork says one of these. */
const NO_SNAPSHOTS: ReadonlySet<string> = new Set(["not-yet", "checkpoint-unavailable", "unsupported"]);

/** Always this instance, whatever the seed. Its id is `ale:` and the instance's. */
export const instanceEnvironment = (
  instance: Instance,
  options: InstanceEnvironmentOptions = {},
): GemEnvironment => ({
  id: PREFIX + instance.id,
  make: async (host) => new InstanceGame(host, () => instance, options),
});

/** The instances of a family's training split: the seed of a reset chooses which. Its id is `ale:` and the family's. */
export const familyEnvironment = (
  family: string,
  options: InstanceEnvironmentOptions = {},
): GemEnvironment => ({
  id: PREFIX + family,
  make: async (host) => new InstanceGame(host, (seed) => makeTask(family, "train", seed).instance, options),
});

/** `ale:<family>` and `ale:<family>/<split>/<seed>` of all families. Secret tasks are not played. */
export const familyEnvironments = (options: InstanceEnvironmentOptions = {}): GemSource => ({
  ids: () => [...FAMILIES.keys()].map((family) => PREFIX + family),
  find: (id) => {
    const match = /^ale:([a-z]+)(?:\/(train|heldout)\/(\d{1,15}))?$/.exec(id);
    const [, family = "", split, seed] = match ?? [];
    if (!FAMILIES.has(family)) return undefined;
    if (split === undefined) return familyEnvironment(family, options);
    const task = makeTask(family, split as "train" | "heldout", Number(seed));
    return instanceEnvironment(task.instance, options);
  },
});

/** One episode after another of one environment. Owns its sandbox and the snapshot that resets it. */
class InstanceGame implements GemInstance {
  readonly #host: GemHost;
  readonly #instanceOf: (seed: number) => Instance;
  readonly #options: InstanceEnvironmentOptions;
  #instance: Instance | undefined;
  #sandbox: Sandbox | undefined;
  /** null: the host has none. Of `#instance`. */
  #snapshot: string | null | undefined;
  #steps = 0;

  constructor(host: GemHost, instanceOf: (seed: number) => Instance, options: InstanceEnvironmentOptions) {
    this.#host = host;
    this.#instanceOf = instanceOf;
    this.#options = options;
  }

  async reset(seed = 0, signal?: AbortSignal): Promise<Reset> {
    const instance = this.#instanceOf(seed);
    await this.#leave(instance.id !== this.#instance?.id);
    this.#instance = instance;
    this.#steps = 0;
    this.#sandbox = await this.#begin(instance, signal);
    return {
      observation: instance.instruction,
      info: { instance: instance.id, domain: instance.domain, maxSteps: this.#maxSteps(instance) },
    };
  }

  async step(action: string, signal?: AbortSignal): Promise<Step> {
    const [instance, sandbox] = [this.#instance, this.#sandbox];
    if (instance === undefined || sandbox === undefined)
      throw new AleError("reset-first", "the environment was never reset", { next: "call reset first" });
    this.#steps += 1;
    if (SUBMIT.test(action)) return this.#end(sandbox, instance, "", true, {}, signal);
    if (sandbox.endReason !== undefined)
      return this.#cut(`The sandbox has ended: ${sandbox.endReason}.`, { fault: sandbox.endReason });
    const result = await sandbox.shell.run(action, {}, signal);
    const info = { exitCode: result.exitCode, outputTruncated: result.truncated, timedOut: result.timedOut };
    const observation = shown(result.output, result.exitCode, result.timedOut);
    if (this.#steps >= this.#maxSteps(instance))
      return this.#end(sandbox, instance, observation, false, info, signal);
    return {
      observation,
      reward: 0,
      terminated: false,
      truncated: false,
      info: { ...info, steps: this.#steps },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#leave(true);
  }

  /** The verifier's word on what is there now. What it could not judge is cut off with reward 0 and says why. */
  async #end(
    sandbox: Sandbox,
    instance: Instance,
    observation: string,
    submitted: boolean,
    info: Readonly<Record<string, unknown>>,
    signal?: AbortSignal,
  ): Promise<Step> {
    const verdict: Verdict = await verify(sandbox, instance, signal);
    const { reward, tests, environmentFault } = verdict;
    const more = { ...info, steps: this.#steps, tests };
    if (reward === null) return this.#cut(observation, { ...more, fault: environmentFault ?? "no reward" });
    return { observation, reward, terminated: submitted, truncated: !submitted, info: more };
  }

  #cut(observation: string, info: Readonly<Record<string, unknown>>): Step {
    return { observation, reward: 0, terminated: false, truncated: true, info };
  }

  async #begin(instance: Instance, signal?: AbortSignal): Promise<Sandbox> {
    if (typeof this.#snapshot === "string") return this.#host.fork(this.#snapshot, signal);
    const sandbox = await installed(
      await this.#host.create(specOf(instance), signal),
      instance,
      undefined,
      signal,
    );
    if (this.#snapshot === undefined) this.#snapshot = await this.#sealed(sandbox, signal);
    return sandbox;
  }

  async #sealed(sandbox: Sandbox, signal?: AbortSignal): Promise<string | null> {
    try {
      return await this.#host.snapshot(sandbox, signal);
    } catch (error) {
      if (error instanceof AleError && NO_SNAPSHOTS.has(error.code)) return null;
      await sandbox.destroy();
      throw error;
    }
  }

  /** `forget`: the snapshot too. */
  async #leave(forget: boolean): Promise<void> {
    await this.#sandbox?.destroy();
    this.#sandbox = undefined;
    if (!forget) return;
    const snapshot = this.#snapshot;
    this.#snapshot = undefined;
    if (typeof snapshot === "string") await this.#host.removeSnapshot(snapshot);
  }

  #maxSteps(instance: Instance): number {
    return this.#options.maxSteps ?? Math.max(16, 4 * instance.referenceChunks);
  }
}

function shown(output: string, exitCode: number | null, timedOut: boolean): string {
  if (timedOut) return `${output}\n[timed out]`.trimStart();
  return exitCode === 0 ? output : `${output}\n[exit code ${exitCode ?? "none"}]`.trimStart();
}
