import { randomBytes } from "node:crypto";
import { AleError } from "@ale/core";
import type { GemHost, GemInstance, GemRegistry, Reset, Step } from "./registry.ts";

/** The games that are being played on a server: who plays which, one call at a time, and closed when nobody has called for long. */

export interface GemTableOptions {
  readonly registry: GemRegistry;
  readonly hostOf: (tenant: string) => GemHost;
  /** Games of one tenant at once. Default: 1,000. */
  readonly maxPerTenant?: number;
  /** Default: an hour. */
  readonly idleMs?: number;
}

interface Game {
  readonly id: string;
  readonly tenant: string;
  readonly environment: string;
  readonly instance: GemInstance;
  /** `fresh`: never reset. */
  state: "fresh" | "playing" | "over" | "closed";
  tail: Promise<unknown>;
  idle: NodeJS.Timeout | undefined;
}

export class GemTable implements AsyncDisposable {
  readonly #options: GemTableOptions;
  readonly #games = new Map<string, Game>();
  /** Being made. */
  readonly #reserved = new Map<string, number>();

  constructor(options: GemTableOptions) {
    this.#options = options;
  }

  get registry(): GemRegistry {
    return this.#options.registry;
  }

  /** The game's id. Throws an AleError `environment-unknown`, `too-many-games`, or what the environment throws. */
  async make(tenant: string, environment: string, signal?: AbortSignal): Promise<string> {
    const found = this.#options.registry.get(environment);
    this.#admit(tenant);
    this.#reserve(tenant, 1);
    try {
      const instance = await found.make(this.#options.hostOf(tenant), signal);
      const id = `gem-${randomBytes(8).toString("hex")}`;
      const game: Game = {
        id,
        tenant,
        environment,
        instance,
        state: "fresh",
        tail: Promise.resolve(),
        idle: undefined,
      };
      this.#games.set(id, game);
      this.#rest(game);
      return id;
    } finally {
      this.#reserve(tenant, -1);
    }
  }

  reset(tenant: string, id: string, seed: number | undefined, signal?: AbortSignal): Promise<Reset> {
    return this.#alone(tenant, id, async (game) => {
      const reset = await game.instance.reset(seed, signal);
      game.state = "playing";
      return reset;
    });
  }

  /** Throws an AleError `reset-first` before the first reset and after an end. */
  step(tenant: string, id: string, action: string, signal?: AbortSignal): Promise<Step> {
    return this.#alone(tenant, id, async (game) => {
      if (game.state !== "playing")
        throw new AleError(
          "reset-first",
          `${game.environment} ${game.state === "fresh" ? "was never reset" : "has come to its end"}`,
          { next: "call reset, then step" },
        );
      const step = await game.instance.step(action, signal);
      if (step.terminated || step.truncated) game.state = "over";
      return step;
    });
  }

  /** Closing a closed one is no error. */
  async close(tenant: string, id: string): Promise<void> {
    const game = this.#games.get(id);
    if (game === undefined || game.tenant !== tenant) return;
    await this.#close(game);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#games.values()].map((game) => this.#close(game)));
  }

  async #close(game: Game): Promise<void> {
    this.#games.delete(game.id);
    clearTimeout(game.idle);
    await game.tail.catch(() => undefined);
    if (game.state === "closed") return;
    game.state = "closed";
    await game.instance[Symbol.asyncDispose]();
  }

  #alone<T>(tenant: string, id: string, work: (game: Game) => Promise<T>): Promise<T> {
    const game = this.#games.get(id);
    if (game === undefined || game.tenant !== tenant)
      throw new AleError("game-unknown", `there is no game ${JSON.stringify(id.slice(0, 80))}`, {
        next: "call make; a game that nobody calls for an hour is closed",
      });
    clearTimeout(game.idle);
    const result = game.tail.then(() => work(game));
    game.tail = result.then(
      () => this.#rest(game),
      () => this.#rest(game),
    );
    return result;
  }

  #rest(game: Game): void {
    if (!this.#games.has(game.id)) return;
    clearTimeout(game.idle);
    const close = (): void => void this.#close(game).catch(() => undefined);
    game.idle = setTimeout(close, this.#options.idleMs ?? 3_600_000);
    game.idle.unref();
  }

  #admit(tenant: string): void {
    const most = this.#options.maxPerTenant ?? 1_000;
    const open = [...this.#games.values()].filter((game) => game.tenant === tenant).length;
    if (open + (this.#reserved.get(tenant) ?? 0) >= most)
      throw new AleError("too-many-games", `${most} games are open already`, { next: "close some" });
  }

  #reserve(tenant: string, count: 1 | -1): void {
    this.#reserved.set(tenant, (this.#reserved.get(tenant) ?? 0) + count);
  }
}
