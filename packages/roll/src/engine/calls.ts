import { setTimeout as sleep } from "node:timers/promises";
import { AleError } from "@ale/core";
import { type JsonAnswer, type JsonTransport, jsonTransport } from "./http.ts";
import { FailedFuture, FutureAnswer, parseAnswer, TryAgain } from "./wire.ts";

/**
 * Calls of the Tinker protocol over one base URL: errors become typed ones, lost connections are tried again, and calls that run
 * in the background are waited for. Every call here may be repeated: those that change a model carry a sequence number by which
 * the server recognises a repetition, the others change nothing that matters.
 *
 * Error codes: `engine-unreachable` (nobody answers), `engine-died` (our engine process ended), `engine-rejected` (the request is
 * at fault), `engine-failed` (the server is), `engine-protocol` (the answer is not understood).
 */
export interface EngineCalls {
  get(path: string, signal?: AbortSignal): Promise<unknown>;
  post(path: string, body: object, signal?: AbortSignal): Promise<unknown>;
  /** Posts with `"wait": true` and resolves to the result, retrieving it where the server answers with a request id only. */
  run(path: string, body: object, signal?: AbortSignal): Promise<unknown>;
  close(): void;
}

export interface EngineCallOptions {
  /** For example `http://127.0.0.1:8080`; the prefix /api/v1 is added. */
  readonly baseUrl: string;
  readonly apiKey?: string;
  /** How long a lost connection is tried again before `engine-unreachable`. */
  readonly retryMs?: number;
  /** Settles when the engine's process has ended; calls in flight then fail at once with this error. */
  readonly died?: Promise<AleError>;
}

const PREFIX = "/api/v1";
const FIRST_DELAY_MS = 50;
const LONGEST_DELAY_MS = 2_000;
/** Statuses after which the same request may be sent again: the server is busy or passing. */
const PASSING = new Set([408, 429, 502, 503, 504]);

export function engineCalls(options: EngineCallOptions): EngineCalls {
  const { retryMs = 10_000 } = options;
  const transport = jsonTransport(options.baseUrl, { "x-api-key": options.apiKey ?? "tml-local" });
  const death = new AbortController();
  options.died?.then((error) => death.abort(error));

  const send = async (method: "GET" | "POST", path: string, body?: object, signal?: AbortSignal) => {
    const either = signal ? AbortSignal.any([death.signal, signal]) : death.signal;
    const answer = await sendPatiently(transport, retryMs, method, `${PREFIX}${path}`, body, either);
    if (answer.status < 300) return answer.body;
    throw rejection(path, answer);
  };
  const retrieve = async (path: string, requestId: string, signal?: AbortSignal): Promise<unknown> => {
    for (;;) {
      const asked = performance.now();
      const either = signal ? AbortSignal.any([death.signal, signal]) : death.signal;
      const body = { request_id: requestId };
      const answer = await sendOnce(transport, retryMs, "POST", `${PREFIX}/retrieve_future`, body, either);
      if (answer.status < 300 && !TryAgain.safeParse(answer.body).success)
        return unlessFailed(path, answer.body);
      if (answer.status >= 300 && !PASSING.has(answer.status)) throw rejection(path, answer);
      // Servers hold the request for a while; one that does not must not be asked in a tight loop.
      if (performance.now() - asked < FIRST_DELAY_MS) await pause(FIRST_DELAY_MS, either);
    }
  };
  return {
    get: (path, signal) => send("GET", path, undefined, signal),
    post: (path, body, signal) => send("POST", path, body, signal),
    run: async (path, body, signal) => {
      const answer = unlessFailed(path, await send("POST", path, { ...body, wait: true }, signal));
      const future = parseAnswer(path, FutureAnswer, answer);
      return future.result === undefined
        ? retrieve(path, future.request_id, signal)
        : unlessFailed(path, future.result);
    },
    close: () => transport.close(),
  };
}

type Sending = [
  transport: JsonTransport,
  retryMs: number,
  method: "GET" | "POST",
  path: string,
  body: object | undefined,
  signal: AbortSignal,
];

/** Also sends again while the server answers that it is busy, for as long as it does. */
async function sendPatiently(...sending: Sending): Promise<JsonAnswer> {
  const signal = sending[5];
  for (let delay = FIRST_DELAY_MS; ; delay = Math.min(2 * delay, LONGEST_DELAY_MS)) {
    const answer = await sendOnce(...sending);
    if (!PASSING.has(answer.status)) return answer;
    await pause(delay, signal);
  }
}

/** Sends until there is an answer of any kind, for `retryMs` after the first failure. */
async function sendOnce(...[transport, retryMs, method, path, body, signal]: Sending): Promise<JsonAnswer> {
  let firstFailure: number | undefined;
  for (let delay = FIRST_DELAY_MS; ; delay = Math.min(2 * delay, LONGEST_DELAY_MS)) {
    try {
      return await transport.send(method, path, body, signal);
    } catch (cause) {
      signal.throwIfAborted();
      firstFailure ??= performance.now();
      if (performance.now() - firstFailure + delay > retryMs) {
        const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
        throw new AleError(
          "engine-unreachable",
          `no answer from the engine at ${transport.baseUrl} (${code})`,
          {
            next: "check that the engine runs there and that the address is right",
            cause,
          },
        );
      }
      await pause(delay, signal);
    }
  }
}

/** Sleeps, or rejects with the signal's own reason rather than with a bare AbortError. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch {
    throw signal.reason;
  }
}

/** The body, unless it says that the work failed. */
function unlessFailed(path: string, body: unknown): unknown {
  const failed = FailedFuture.safeParse(body);
  if (!failed.success) return body;
  const { category, error } = failed.data;
  throw engineError(category === "user" ? "engine-rejected" : "engine-failed", path, error);
}

function rejection(path: string, answer: JsonAnswer): AleError {
  const failed = FailedFuture.safeParse(answer.body);
  const { detail } = (answer.body ?? {}) as { detail?: unknown };
  const text = failed.success
    ? failed.data.error
    : typeof detail === "string"
      ? detail
      : JSON.stringify(detail ?? answer.body);
  const code = answer.status >= 500 ? "engine-failed" : "engine-rejected";
  return engineError(code, path, `${text} (HTTP ${answer.status})`);
}

function engineError(code: "engine-rejected" | "engine-failed", path: string, text: string): AleError {
  return code === "engine-rejected"
    ? new AleError(code, `the engine refused ${path}: ${text}`)
    : new AleError(code, `the engine failed in ${path}: ${text}`, { next: "its log says more" });
}
