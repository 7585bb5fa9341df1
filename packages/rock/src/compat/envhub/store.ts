import { chmodSync, closeSync, existsSync, openSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { z } from "zod";

/**
 * The environments that people have named: an image and what is known of it. A table, nothing more: nothing here starts or checks
 * anything. Each tenant has its own names, and all see the default environment unless they registered one of its name.
 */

export const Registration = z.object({
  env_name: z.string().trim().min(1).max(255),
  image: z.string().trim().min(1).max(512),
  owner: z.string().max(255).default(""),
  description: z.string().default(""),
  tags: z.array(z.string()).default([]),
  extra_spec: z.record(z.string(), z.unknown()).nullish(),
});
export type Registration = z.infer<typeof Registration>;

/** A client makes a data class of it: not one key more may be sent. */
export interface EnvInfo {
  readonly env_name: string;
  readonly image: string;
  readonly owner: string;
  readonly description: string;
  readonly tags: readonly string[];
  readonly extra_spec: Readonly<Record<string, unknown>> | null;
  readonly create_at: string;
  readonly update_at: string;
}

export const DEFAULT_ENVIRONMENT = "EnvhubDefaultDockerImage";

interface Row {
  readonly name: string;
  readonly info: string;
}

export class EnvHubStore implements Disposable {
  readonly #db: DatabaseSync;
  readonly #default: EnvInfo;
  readonly #now: () => string;

  /** `path`: the database file, made where missing. */
  constructor(path: string, options: { readonly defaultImage?: string; readonly now?: () => string } = {}) {
    this.#now = options.now ?? (() => new Date().toISOString());
    // What tenants named is nobody else's; SQLite gives its side files the mode of this one.
    closeSync(openSync(path, "a", 0o600));
    for (const file of [path, `${path}-wal`, `${path}-shm`]) if (existsSync(file)) chmodSync(file, 0o600);
    this.#db = new DatabaseSync(path);
    this.#db.exec(
      `PRAGMA journal_mode = WAL; PRAGMA busy_timeout = 5000;
       CREATE TABLE IF NOT EXISTS environment (
         tenant TEXT NOT NULL, name TEXT NOT NULL, info TEXT NOT NULL, PRIMARY KEY (tenant, name)
       ) STRICT`,
    );
    const time = this.#now();
    this.#default = {
      env_name: DEFAULT_ENVIRONMENT,
      image: options.defaultImage ?? "python:3.11",
      owner: "ENVHUB",
      description: "The environment for whoever names none",
      tags: ["default", "system", "envhub"],
      extra_spec: {},
      create_at: time,
      update_at: time,
    };
  }

  /** Registers it or changes what was registered under this name; `create_at` then stays. */
  register(tenant: string, request: Registration): EnvInfo {
    const time = this.#now();
    const info: EnvInfo = {
      env_name: request.env_name,
      image: request.image,
      owner: request.owner,
      description: request.description,
      tags: request.tags,
      extra_spec: request.extra_spec ?? null,
      create_at: this.get(tenant, request.env_name)?.create_at ?? time,
      update_at: time,
    };
    this.#db
      .prepare("INSERT OR REPLACE INTO environment (tenant, name, info) VALUES (?, ?, ?)")
      .run(tenant, info.env_name, JSON.stringify(info));
    return info;
  }

  get(tenant: string, name: string): EnvInfo | undefined {
    const row = this.#db
      .prepare("SELECT name, info FROM environment WHERE tenant = ? AND name = ?")
      .get(tenant, name) as Row | undefined;
    if (row) return JSON.parse(row.info) as EnvInfo;
    return name === DEFAULT_ENVIRONMENT ? this.#default : undefined;
  }

  /** By name. `tags`: those that have any of them. */
  list(
    tenant: string,
    filter: { readonly owner?: string; readonly tags?: readonly string[] } = {},
  ): EnvInfo[] {
    const rows = this.#db
      .prepare("SELECT name, info FROM environment WHERE tenant = ? ORDER BY name")
      .all(tenant) as unknown as Row[];
    const own = rows.map(({ info }) => JSON.parse(info) as EnvInfo);
    const all = own.some(({ env_name }) => env_name === DEFAULT_ENVIRONMENT) ? own : [this.#default, ...own];
    return all.filter(
      ({ owner, tags }) =>
        (filter.owner === undefined || filter.owner === owner) &&
        (filter.tags === undefined ||
          filter.tags.length === 0 ||
          filter.tags.some((tag) => tags.includes(tag))),
    );
  }

  /** Whether there was one. The default environment cannot be deleted, only hidden by one of the same name. */
  delete(tenant: string, name: string): boolean {
    const { changes } = this.#db
      .prepare("DELETE FROM environment WHERE tenant = ? AND name = ?")
      .run(tenant, name);
    return Number(changes) > 0;
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }
}
