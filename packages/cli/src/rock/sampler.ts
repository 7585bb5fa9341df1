import { AleError } from "@ale/core/result";
import type { SandboxStats } from "@ale/rock";
import type { RockClient, SandboxView } from "@ale/rock/client";

/** What the sandboxes of a server use at one moment. */

export interface Sample {
  readonly id: string;
  readonly image: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly cpusAllowed: number;
  readonly memoryAllowed: number;
  readonly diskAllowed: number;
  readonly stats: SandboxStats;
  /** Processors used since the last look; null at the first, or where the host cannot tell. */
  readonly cpus: number | null;
}

export interface Sampled {
  readonly atMs: number;
  readonly samples: readonly Sample[];
}

export class Sampler {
  readonly #client: RockClient;
  readonly #before = new Map<string, { readonly cpuMs: number; readonly atMs: number }>();

  constructor(client: RockClient) {
    this.#client = client;
  }

  async sample(signal: AbortSignal): Promise<Sampled> {
    const running = await this.#client.sandboxes.list({ states: ["running"] });
    const found = await Promise.all(running.map((view) => this.#look(view, signal)));
    for (const id of this.#before.keys())
      if (!running.some((view) => view.id === id)) this.#before.delete(id);
    return { atMs: Date.now(), samples: found.filter((sample) => sample !== undefined) };
  }

  /** Undefined where it has ended meanwhile. */
  async #look(view: SandboxView, signal: AbortSignal): Promise<Sample | undefined> {
    const { id, image, labels, limits } = view;
    let stats: SandboxStats;
    try {
      stats = await this.#client.call<SandboxStats>({
        method: "GET",
        path: `/sandboxes/${id}/stats`,
        signal,
      });
    } catch (error) {
      if (error instanceof AleError && /^sandbox-/.test(error.code)) return undefined;
      throw error;
    }
    return {
      id,
      image,
      labels,
      cpusAllowed: limits.cpus,
      memoryAllowed: limits.memoryBytes,
      diskAllowed: limits.diskBytes,
      stats,
      cpus: this.#share(id, stats.cpuMs),
    };
  }

  #share(id: string, cpuMs: number | null): number | null {
    if (cpuMs === null) return null;
    const atMs = performance.now();
    const before = this.#before.get(id);
    this.#before.set(id, { cpuMs, atMs });
    return before === undefined ? null : Math.max(0, cpuMs - before.cpuMs) / (atMs - before.atMs);
  }
}
