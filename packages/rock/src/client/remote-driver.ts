import { AleError } from "@ale/core/result";
import type { Capabilities } from "../port/capabilities.ts";
import type { Pool, PoolOptions, ReapReport, SandboxDriver } from "../port/driver.ts";
import type { Sandbox, SandboxSpec } from "../port/sandbox.ts";
import type { DiffEntry, ForkOptions, Snapshot } from "../port/snapshot.ts";
import type { Snapshots } from "../port/snapshots.ts";
import type { SandboxCreate, SandboxView } from "../wire/schemas.ts";
import { RemotePool } from "./remote-pool.ts";
import { RemoteSandbox, specOf } from "./remote-sandbox.ts";
import { type Call, freshKey, type Transport } from "./transport.ts";

/**
 * The sandboxes of a server as a driver of sandboxes. Owns those it made: closing it destroys them. Concurrency and limits are the
 * server's.
 */
export class RemoteDriver implements SandboxDriver {
  readonly #transport: Transport;
  readonly #made = new Map<string, RemoteSandbox>();
  readonly #creating = new Set<Promise<unknown>>();
  #closed = false;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  capabilities(): Promise<Capabilities> {
    return this.#transport.json({ method: "GET", path: "/capabilities" });
  }

  get snapshots(): Snapshots {
    return {
      list: async () => (await this.#get<{ snapshots: Snapshot[] }>("/snapshots")).snapshots,
      get: (id) => this.#snapshot(id),
      remove: (id) =>
        this.#transport.json({ method: "DELETE", path: `/snapshots/${encodeURIComponent(id)}` }),
      fork: (id, count, options, signal) => this.#fork(id, count, options, signal),
      diff: async (from, to) => {
        const query = { from: from ?? undefined, to };
        return (await this.#get<{ entries: DiffEntry[] }>("/diff", query)).entries;
      },
    };
  }

  create(spec: SandboxSpec, signal?: AbortSignal): Promise<RemoteSandbox> {
    if (this.#closed) throw new AleError("driver-closed", "the sandbox driver has been closed");
    const creation = this.#create(spec, signal);
    const settled = creation.catch(() => undefined).finally(() => this.#creating.delete(settled));
    this.#creating.add(settled);
    return creation;
  }

  /** One that is there already. Throws an AleError `sandbox-unknown`. */
  async attach(id: string): Promise<RemoteSandbox> {
    const view = await this.#get<SandboxView>(`/sandboxes/${encodeURIComponent(id)}`);
    return new RemoteSandbox(this.#transport, view.id, specOf(view));
  }

  pool(spec: SandboxSpec, options: PoolOptions): Pool {
    return new RemotePool(options, (signal) => this.create(spec, signal));
  }

  /** Those that this driver made and that, as far as it has heard, run. */
  list(): readonly Sandbox[] {
    return [...this.#made.values()].filter((sandbox) => sandbox.endReason === undefined);
  }

  /** Nothing is left to this side: the server adopts or removes what a crash left when it starts again. */
  async reap(): Promise<ReapReport> {
    const { sandboxes } = await this.#get<{ sandboxes: SandboxView[] }>("/sandboxes", { state: "running" });
    return { reaped: [], alive: sandboxes.map(({ id }) => id), failures: [] };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#creating);
    await Promise.all([...this.#made.values()].map((sandbox) => sandbox.destroy()));
    this.#made.clear();
  }

  async #create(spec: SandboxSpec, signal?: AbortSignal): Promise<RemoteSandbox> {
    const call: Call = {
      method: "POST",
      path: "/sandboxes",
      json: { ...spec, waitMs: 60_000 } satisfies SandboxCreate | object,
      idempotencyKey: freshKey(),
      ...(signal === undefined ? {} : { signal }),
    };
    let view: SandboxView;
    try {
      view = await this.#transport.json<SandboxView>(call);
      while (view.state === "pending")
        view = await this.#get(
          `/sandboxes/${view.id}`,
          { waitFor: ["running", "failed", "deleted"] },
          signal,
        );
    } catch (error) {
      // The server may have begun it: asking again with the same key names it, and it is not left behind.
      if (signal?.aborted) await this.#giveUp(call);
      throw error;
    }
    if (view.state !== "running") throw startFailure(view);
    const { network } = view;
    return this.#own(new RemoteSandbox(this.#transport, view.id, { ...spec, network, id: view.id }));
  }

  async #giveUp({ signal: _, ...call }: Call): Promise<void> {
    const json = { ...(call.json as object), waitMs: 0 };
    try {
      const { id } = await this.#transport.json<SandboxView>({ ...call, json });
      await this.#transport.json({ method: "DELETE", path: `/sandboxes/${id}` });
    } catch {
      // The server cannot be reached; its lifetime limit ends what it may have begun.
    }
  }

  async #snapshot(id: string): Promise<Snapshot | undefined> {
    try {
      return await this.#get<Snapshot>(`/snapshots/${encodeURIComponent(id)}`);
    } catch (error) {
      if (error instanceof AleError && error.code === "snapshot-unknown") return undefined;
      throw error;
    }
  }

  async #fork(
    id: string,
    count: number,
    options: ForkOptions = {},
    signal?: AbortSignal,
  ): Promise<readonly Sandbox[]> {
    const { labels, env, limits, network } = options;
    const { sandboxes } = await this.#transport.json<{ sandboxes: SandboxView[] }>({
      method: "POST",
      path: `/snapshots/${encodeURIComponent(id)}/forks`,
      json: { count, labels, env, limits, network },
      ...(signal === undefined ? {} : { signal }),
    });
    return sandboxes.map((view) => this.#own(new RemoteSandbox(this.#transport, view.id, specOf(view))));
  }

  #own(sandbox: RemoteSandbox): RemoteSandbox {
    this.#made.set(sandbox.id, sandbox);
    return sandbox;
  }

  #get<T>(path: string, query: Call["query"] = {}, signal?: AbortSignal): Promise<T> {
    return this.#transport.json<T>({
      method: "GET",
      path,
      query,
      ...(signal === undefined ? {} : { signal }),
    });
  }
}

function startFailure({ id, state, failure }: SandboxView): AleError {
  if (failure === null) return new AleError("start-failed", `sandbox ${id} is ${state}`);
  return new AleError(failure.code, failure.message, failure.next === null ? {} : { next: failure.next });
}
