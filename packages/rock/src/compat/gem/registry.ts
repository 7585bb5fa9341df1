import { AleError } from "@ale/core";
import type { Sandbox, SandboxSpec } from "../../port/sandbox.ts";

/**
 * Environments that are stepped through with text: what they are, and how they are found by name. A program registers its own; one that
 * needs sandboxes asks its host for them, and the host counts them against the tenant who plays.
 */

export interface Reset {
  readonly observation: string;
  readonly info: Readonly<Record<string, unknown>>;
}

export interface Step extends Reset {
  readonly reward: number;
  /** The episode has come to its end: won, lost or submitted. */
  readonly terminated: boolean;
  /** It was cut off: too many steps, or no time left. */
  readonly truncated: boolean;
}

/** One game that is being played. `reset` comes first; after an end only `reset` is allowed. */
export interface GemInstance extends AsyncDisposable {
  /** The same seed always begins the same episode. */
  reset(seed: number | undefined, signal?: AbortSignal): Promise<Reset>;
  step(action: string, signal?: AbortSignal): Promise<Step>;
}

/** What an environment may use of the machine. Sandboxes are the instance's to destroy. */
export interface GemHost {
  create(spec: SandboxSpec, signal?: AbortSignal): Promise<Sandbox>;
  /** An id that `fork` takes. The sandbox goes on. */
  snapshot(sandbox: Sandbox, signal?: AbortSignal): Promise<string>;
  fork(snapshot: string, signal?: AbortSignal): Promise<Sandbox>;
  removeSnapshot(snapshot: string): Promise<void>;
}

export interface GemEnvironment {
  /** As clients name it, e.g. "game:GuessTheNumber-v0". */
  readonly id: string;
  make(host: GemHost, signal?: AbortSignal): Promise<GemInstance>;
}

/** Many environments that are made when they are asked for, e.g. all tasks of all families. */
export interface GemSource {
  /** Names, or patterns of names that people can complete. */
  ids(): readonly string[];
  find(id: string): GemEnvironment | undefined;
}

export class GemRegistry {
  readonly #environments = new Map<string, GemEnvironment>();
  readonly #sources: GemSource[] = [];

  /** Throws an AleError `environment-exists` for a name that is taken. */
  register(environment: GemEnvironment): this {
    if (this.#environments.has(environment.id))
      throw new AleError("environment-exists", `there is an environment ${environment.id} already`, {
        next: "register it under another id",
      });
    this.#environments.set(environment.id, environment);
    return this;
  }

  addSource(source: GemSource): this {
    this.#sources.push(source);
    return this;
  }

  ids(): string[] {
    return [...this.#environments.keys(), ...this.#sources.flatMap((source) => source.ids())].sort();
  }

  /** Throws an AleError `environment-unknown`. */
  get(id: string): GemEnvironment {
    const found = this.#environments.get(id) ?? this.#sources.map((source) => source.find(id)).find(Boolean);
    if (found) return found;
    const known = this.ids();
    throw new AleError("environment-unknown", `there is no environment ${JSON.stringify(id.slice(0, 200))}`, {
      next: known.length === 0 ? "register one" : `choose one of: ${known.slice(0, 20).join(", ")}`,
    });
  }
}
