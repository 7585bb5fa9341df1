import { randomBytes } from "node:crypto";
import { AleError } from "@ale/core";
import type { Sandbox } from "../port/sandbox.ts";
import type { Session, SessionOptions } from "../port/session.ts";

/** The open shells of one running sandbox, by name. `default` is its first shell and always there. */

const MAX_SESSIONS = 64;

export class SessionRegistry {
  readonly #sandbox: Sandbox;
  /** null while it opens. */
  readonly #named = new Map<string, Session | null>();

  constructor(sandbox: Sandbox) {
    this.#sandbox = sandbox;
  }

  names(): string[] {
    return ["default", ...this.#named.keys()];
  }

  /** Throws an AleError `session-exists`, `too-many-sessions`, or what opening a shell throws. */
  async open(
    options: SessionOptions & { readonly name?: string },
    signal?: AbortSignal,
  ): Promise<{ readonly name: string; readonly session: Session }> {
    const { name = `s-${randomBytes(6).toString("hex")}`, ...rest } = options;
    if (name === "default" || this.#named.has(name))
      throw new AleError("session-exists", `session ${name} of ${this.#sandbox.id} is open already`, {
        next: "close it first, or choose another name",
      });
    if (this.#named.size >= MAX_SESSIONS)
      throw new AleError("too-many-sessions", `${this.#sandbox.id} has ${MAX_SESSIONS} sessions open`, {
        next: "close some",
      });
    this.#named.set(name, null);
    try {
      const session = await this.#sandbox.openSession(rest, signal);
      this.#named.set(name, session);
      return { name, session };
    } catch (error) {
      this.#named.delete(name);
      throw error;
    }
  }

  get(name: string): Session {
    if (name === "default") return this.#sandbox.shell;
    const session = this.#named.get(name);
    if (session) return session;
    throw new AleError("session-unknown", `${this.#sandbox.id} has no open session ${name}`, {
      next: `open it first; open: ${this.names().join(", ")}`,
    });
  }

  async close(name: string): Promise<void> {
    const session = this.get(name);
    this.#named.delete(name);
    await session.close();
  }
}
