import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";

/**
 * JSON over HTTP/1.1 on kept-open connections. A reinforcement step makes hundreds of small requests, most of them at once;
 * node:http does that with about half the processor time of global fetch and has no limit on how long an answer may take.
 * Nothing is retried here: whether that is safe is the caller's knowledge.
 */

export interface JsonAnswer {
  readonly status: number;
  /** Parsed JSON; the text itself where the answer is something else; null where it is empty. */
  readonly body: unknown;
}

export interface JsonTransport {
  readonly baseUrl: string;
  /** `path` is appended to the base URL. Rejects with the system's error when there is no answer, or with the signal's reason. */
  send(method: "GET" | "POST", path: string, body?: unknown, signal?: AbortSignal): Promise<JsonAnswer>;
  /** Closes every connection. */
  close(): void;
}

/** Idle connections are dropped before the five seconds after which common Python servers drop theirs. */
const IDLE_MS = 4_000;

export function jsonTransport(
  baseUrl: string,
  headers: Readonly<Record<string, string>> = {},
): JsonTransport {
  const base = baseUrl.replace(/\/+$/, "");
  const secure = base.startsWith("https:");
  const options = { keepAlive: true, noDelay: true, timeout: IDLE_MS, scheduling: "lifo" as const };
  const agent = secure ? new HttpsAgent(options) : new HttpAgent(options);
  const open = secure ? httpsRequest : httpRequest;

  const send: JsonTransport["send"] = (method, path, body, signal) =>
    new Promise<JsonAnswer>((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
      const request = open(`${base}${path}`, {
        method,
        agent,
        headers: {
          accept: "application/json",
          ...headers,
          ...(payload ? { "content-type": "application/json", "content-length": payload.length } : {}),
        },
      });
      const abort = (): void => void request.destroy();
      signal?.addEventListener("abort", abort, { once: true });
      const settle = (): void => signal?.removeEventListener("abort", abort);
      const fail = (error: Error): void => {
        settle();
        reject(signal?.aborted ? signal.reason : error);
      };
      request.once("error", fail);
      request.once("response", (response) => {
        readAnswer(response).then((answer) => {
          settle();
          resolve(answer);
        }, fail);
      });
      request.end(payload);
    });

  return { baseUrl: base, send, close: () => agent.destroy() };
}

async function readAnswer(response: IncomingMessage): Promise<JsonAnswer> {
  const parts: Buffer[] = [];
  for await (const part of response) parts.push(part as Buffer);
  const text = Buffer.concat(parts).toString("utf8");
  const status = response.statusCode ?? 0;
  if (text === "") return { status, body: null };
  try {
    return { status, body: JSON.parse(text) as unknown };
  } catch {
    return { status, body: text };
  }
}
