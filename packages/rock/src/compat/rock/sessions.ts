import { AleError } from "@ale/core";
import type { Session } from "../../port/session.ts";
import type { SandboxService } from "../../server/service.ts";
import type { SessionRegistry } from "../../server/session-registry.ts";
import { badRequest } from "./envelope.ts";
import { type NohupJob, NohupJobs } from "./nohup-jobs.ts";
import type { CreateSession } from "./requests.ts";

/**
 * ROCK's sessions of every running sandbox. They have names of their own: ROCK's clients open "default" themselves. The SDK opens a fresh
 * session for each command that names none and never closes one, so the oldest of those that are not in use make room for new ones.
 */

/** What the SDK calls the sessions that it forgets. */
const TEMPORARY = /^bash-\d{13,}$/;
const MAX_TEMPORARY = 16;

export interface RockSession {
  readonly name: string;
  readonly session: Session;
  readonly jobs: NohupJobs;
  /** Requests that are being served. */
  busy: number;
}

export class RockSessions {
  readonly #service: SandboxService;
  /** A sandbox that ends takes its registry, and so this, with it. */
  readonly #known = new WeakMap<SessionRegistry, Map<string, RockSession>>();

  constructor(service: SandboxService) {
    this.#service = service;
  }

  /** What the shell said while it was set up. Throws an AleError, or a RockFailure where a startup file fails. */
  async open(tenant: string, request: CreateSession, signal: AbortSignal): Promise<string> {
    const registry = await this.#service.sessions(tenant, request.sandbox_id, signal);
    const known = this.#of(registry);
    if (known.has(request.session)) throw exists(request);
    await this.#makeRoom(registry, known);
    const env = request.env ?? {};
    const user = request.remote_user ?? undefined;
    const { session } = await registry.open(
      { name: nameOf(request.session), cwd: "/", env, ...(user === undefined ? {} : { user }) },
      signal,
    );
    known.set(request.session, {
      name: request.session,
      session,
      jobs: new NohupJobs(),
      busy: 0,
    });
    try {
      return await setUp(session, request, signal);
    } catch (error) {
      await this.#close(registry, known, request.session);
      throw error;
    }
  }

  /** Throws an AleError `session-unknown`. */
  async get(tenant: string, sandboxId: string, name: string, signal?: AbortSignal): Promise<RockSession> {
    const registry = await this.#service.sessions(tenant, sandboxId, signal);
    const found = this.#of(registry).get(name);
    if (found !== undefined) return found;
    throw new AleError("session-unknown", `session '${name}' does not exist in sandbox ${sandboxId}`, {
      next: "create it first",
    });
  }

  async close(tenant: string, sandboxId: string, name: string): Promise<void> {
    await this.get(tenant, sandboxId, name);
    const registry = await this.#service.sessions(tenant, sandboxId);
    await this.#close(registry, this.#of(registry), name);
  }

  /** The job of a session of this sandbox that wrote this file, or undefined. */
  async jobByOutput(tenant: string, sandboxId: string, file: string): Promise<NohupJob | undefined> {
    const registry = await this.#service.sessions(tenant, sandboxId);
    for (const { jobs } of this.#of(registry).values()) {
      const job = jobs.byOutput(file);
      if (job !== undefined) return job;
    }
    return undefined;
  }

  #of(registry: SessionRegistry): Map<string, RockSession> {
    let known = this.#known.get(registry);
    if (known === undefined) {
      known = new Map();
      this.#known.set(registry, known);
    }
    return known;
  }

  async #makeRoom(registry: SessionRegistry, known: Map<string, RockSession>): Promise<void> {
    const temporary = [...known.values()].filter(({ name }) => TEMPORARY.test(name));
    if (temporary.length < MAX_TEMPORARY) return;
    // Map order is the order of opening; a session with a job that runs is still needed by whoever waits for it.
    const idle = temporary.find(({ busy, jobs }) => busy === 0 && !jobs.running);
    if (idle !== undefined) await this.#close(registry, known, idle.name);
  }

  async #close(registry: SessionRegistry, known: Map<string, RockSession>, name: string): Promise<void> {
    known.delete(name);
    await registry.close(nameOf(name));
  }
}

const nameOf = (name: string): string => `rock:${name}`;

const exists = (request: CreateSession): AleError =>
  new AleError("session-exists", `session '${request.session}' exists already in ${request.sandbox_id}`, {
    next: "close it first, or choose another name",
  });

/** What a shell without the sandbox's environment still needs. */
const BASICS = "PATH|HOME|USER|LOGNAME|SHELL|TERM|LANG|PWD|OLDPWD|SHLVL|_";

async function setUp(session: Session, request: CreateSession, signal: AbortSignal): Promise<string> {
  if (!request.env_enable) {
    const kept = [BASICS, ...Object.keys(request.env ?? {}).filter((name) => /^\w+$/.test(name))].join("|");
    const clear = `for __rock_n in $(compgen -e); do case $__rock_n in ${kept}) ;; *) unset -v "$__rock_n" ;; esac; done; unset -v __rock_n`;
    await session.run(clear, { timeoutMs: 30_000 }, signal);
  }
  let output = "";
  for (const path of request.startup_source) {
    const result = await session.run(`source ${quoted(path)}`, { timeoutMs: 60_000 }, signal);
    output += result.output;
    if (result.exitCode !== 0)
      throw badRequest(`startup_source ${path} failed with exit code ${result.exitCode}: ${result.output}`);
  }
  return output.trim();
}

/** A path for a shell: `~` at its beginning still means the home directory. */
function quoted(path: string): string {
  const match = /^(~\w*\/)(.*)$/s.exec(path);
  const rest = (match ? match[2]! : path).replaceAll("'", "'\\''");
  return `${match ? match[1] : ""}'${rest}'`;
}
