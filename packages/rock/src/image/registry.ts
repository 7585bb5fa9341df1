import { setTimeout as sleep } from "node:timers/promises";
import { AleError } from "@ale/core";
import type { Reference } from "./reference.ts";
import {
  type AuthOptions,
  basicHeader,
  type FoundCredentials,
  findCredentials,
  parseChallenge,
} from "./registry-auth.ts";

/**
 * Requests to one repository of a registry (OCI distribution API). Owns the token; asks again where the network failed or the registry is
 * busy. Credentials go to the registry and to the token service that it names, never to where a blob is redirected to, and never
 * over plain HTTP beyond this machine unless that was spelled out.
 */

export interface RegistryOptions extends AuthOptions {
  /** Plain HTTP for a registry beyond this machine: everybody on the way can read and change what is sent. Default: false. */
  readonly insecure?: boolean;
  /** For a registry's name ("docker.io") others that are asked before it, e.g. ["mirror.example.org"]. Pulls only. */
  readonly mirrors?: Readonly<Record<string, readonly string[]>>;
  /** How often a request is tried. Default: 4. */
  readonly attempts?: number;
}

export interface RegistryRequest {
  readonly method?: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Below `/v2/REPOSITORY/`, or a whole URL that the registry gave. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Made anew for each attempt. */
  readonly body?: () => string | Uint8Array | AsyncIterable<Uint8Array>;
  /** Answers that are no failure besides 2xx. */
  readonly accept?: readonly number[];
}

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;
const MOST_REDIRECTS = 5;
const REDIRECTS = [301, 302, 303, 307, 308];
const BUSY = [408, 429, 500, 502, 503, 504];

export class Registry {
  readonly host: string;
  readonly repository: string;
  readonly base: string;
  readonly #insecure: boolean;
  readonly #attempts: number;
  readonly #scope: string;
  readonly #found: FoundCredentials;
  #authorization: string | undefined;

  constructor(
    reference: Pick<Reference, "registry" | "repository">,
    access: "pull" | "pull,push",
    options: RegistryOptions,
  ) {
    this.host = reference.registry;
    this.repository = reference.repository;
    const host = this.host === "docker.io" ? "registry-1.docker.io" : this.host;
    this.#insecure = options.insecure === true || isLoopback(host);
    this.base = `${this.#insecure ? "http" : "https"}://${host}`;
    this.#attempts = Math.max(1, options.attempts ?? 4);
    this.#scope = `repository:${this.repository}:${access}`;
    this.#found = findCredentials(this.host, options);
  }

  /** Throws an AleError: `registry-unreachable`, `registry-unauthorised`, `registry-unknown`, `registry-refused`. */
  async request(request: RegistryRequest, signal?: AbortSignal): Promise<Response> {
    let pauseMs = FIRST_PAUSE_MS;
    for (let attempt = 1; ; attempt++) {
      const outcome = await this.#attempt(request, signal);
      const busy = outcome instanceof Response && BUSY.includes(outcome.status);
      if (outcome instanceof Response && !busy) return outcome;
      if (attempt >= this.#attempts) {
        if (outcome instanceof Response) throw await this.#refused(request, outcome);
        throw this.#unreachable(outcome);
      }
      const asked = outcome instanceof Response ? Number(outcome.headers.get("retry-after")) * 1000 : 0;
      if (outcome instanceof Response) await outcome.body?.cancel();
      await sleep(
        Math.min(Math.max(pauseMs, asked || 0), LONGEST_PAUSE_MS),
        undefined,
        signal ? { signal } : {},
      );
      pauseMs *= 2;
    }
  }

  /** The answer, or why there was none. */
  async #attempt(request: RegistryRequest, signal?: AbortSignal): Promise<Response | Error> {
    const url = new URL(request.path, `${this.base}/v2/${this.repository}/`);
    try {
      let response = await this.#send(url, request, signal);
      if (response.status === 401) {
        await response.body?.cancel();
        this.#authorization = await this.#authorise(response.headers.get("www-authenticate"), signal);
        response = await this.#send(url, request, signal);
      }
      if (response.ok || BUSY.includes(response.status) || request.accept?.includes(response.status))
        return response;
      throw await this.#refused(request, response);
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof AleError) throw error;
      return error instanceof Error ? error : new Error(String(error));
    }
  }

  async #send(start: URL, request: RegistryRequest, signal?: AbortSignal): Promise<Response> {
    let url = start;
    for (let hops = 0; hops <= MOST_REDIRECTS; hops++) {
      this.#refusePlain(url);
      const own = url.origin === new URL(this.base).origin;
      const headers = {
        ...request.headers,
        ...(own && this.#authorization !== undefined ? { authorization: this.#authorization } : {}),
      };
      const body = request.body?.();
      const response = await fetch(url, {
        method: request.method ?? "GET",
        headers,
        redirect: "manual",
        ...(body === undefined ? {} : { body, duplex: "half" }),
        ...(signal === undefined ? {} : { signal }),
      } as Parameters<typeof fetch>[1]);
      const next = response.headers.get("location");
      if (!REDIRECTS.includes(response.status) || next === null) return response;
      await response.body?.cancel();
      url = new URL(next, url);
    }
    throw new AleError("registry-refused", `${this.host} redirects in circles`);
  }

  /** A registry that is reached safely must not send us elsewhere unsafely. */
  #refusePlain(url: URL): void {
    if (url.protocol === "https:" || (url.protocol === "http:" && (this.#insecure || isLoopback(url.host))))
      return;
    throw new AleError("registry-insecure", `${this.host} asks to go on over ${url.protocol}//${url.host}`, {
      next: "allow plain HTTP with `--insecure` if you trust every machine on the way",
    });
  }

  async #authorise(header: string | null, signal?: AbortSignal): Promise<string> {
    const { scheme, parameters } = parseChallenge(header);
    const { credentials } = this.#found;
    if (scheme === "basic" && credentials !== undefined) {
      const basic = basicHeader(credentials);
      if (this.#authorization !== basic) return basic;
    }
    if (scheme !== "bearer" || parameters.realm === undefined)
      throw this.#unauthorised(credentials !== undefined);
    const realm = new URL(parameters.realm);
    this.#refusePlain(realm);
    if (parameters.service !== undefined) realm.searchParams.set("service", parameters.service);
    realm.searchParams.set("scope", this.#scope);
    const response = await fetch(realm, {
      headers: credentials === undefined ? {} : { authorization: basicHeader(credentials) },
      redirect: "error",
      ...(signal === undefined ? {} : { signal }),
    });
    if (response.status === 401 || response.status === 403)
      throw this.#unauthorised(credentials !== undefined);
    if (!response.ok) throw new Error(`the token service answered ${response.status}`);
    const answer = (await response.json()) as { token?: unknown; access_token?: unknown };
    const token = answer.token ?? answer.access_token;
    if (typeof token !== "string") throw new Error("the token service gave no token");
    return `Bearer ${token}`;
  }

  #unauthorised(had: boolean): AleError {
    const { obstacle } = this.#found;
    const who = had ? "refuses these credentials" : "wants credentials";
    return new AleError(
      "registry-unauthorised",
      `${this.host} ${who} for ${this.repository}${obstacle === undefined ? "" : ` (${obstacle})`}`,
      { next: "check the image's name and give a user name and password, or log in with `docker login`" },
    );
  }

  #unreachable(error: Error): AleError {
    const cause = error.cause instanceof Error ? error.cause : error;
    const detail = (cause as NodeJS.ErrnoException).code ?? cause.message;
    return new AleError("registry-unreachable", `${this.base} cannot be reached: ${detail}`, {
      next: "check the registry's name and the network; on a machine without one, use `ale rock image import`",
      cause: error,
    });
  }

  async #refused(request: RegistryRequest, response: Response): Promise<AleError> {
    if (response.status === 401 || response.status === 403) {
      await response.body?.cancel();
      return this.#unauthorised(this.#found.credentials !== undefined);
    }
    const text = (await bounded(response, 4096, true)).toString("utf8").replace(/\s+/g, " ").trim();
    if (response.status === 404)
      return new AleError("registry-unknown", `${this.host} has no ${request.path} of ${this.repository}`, {
        next: "check the image's name and tag",
      });
    return new AleError(
      "registry-refused",
      `${this.host} answered ${response.status} to ${request.method ?? "GET"} ${request.path}: ${text.slice(0, 300)}`,
    );
  }
}

export function isLoopback(host: string): boolean {
  const name = host.replace(/:\d+$/, "");
  return name === "localhost" || name === "[::1]" || /^127(\.\d{1,3}){3}$/.test(name);
}

/** A body in memory, up to a limit; beyond it cut where that is allowed, else an AleError. */
export async function bounded(response: Response, limit: number, cut = false): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    parts.push(chunk);
    length += chunk.length;
    if (length > limit) {
      if (cut) break;
      throw new AleError(
        "registry-refused",
        `an answer of ${new URL(response.url).host} is larger than ${limit} bytes`,
      );
    }
  }
  return Buffer.concat(parts).subarray(0, limit);
}
