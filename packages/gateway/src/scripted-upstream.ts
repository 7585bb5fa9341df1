import type { Sampled, SampleRequest, Upstream } from "./upstream.ts";

/** What a scripted upstream answers: tokens, or a function of the request that gives them. */
export type ScriptedTurn =
  | readonly number[]
  | ((request: SampleRequest) => readonly number[] | Promise<readonly number[]>);

/**
 * An upstream that plays a script, for tests and demonstrations. It keeps the promises of the port: an answer ends at the
 * first stop token, is never longer than asked for, and says which of the two ended it. Each token costs log-probability
 * -0.5. `requests` holds every request in order. Throws when the script is at its end.
 */
export function scriptedUpstream(
  turns: readonly ScriptedTurn[],
  options: { readonly version?: number } = {},
): Upstream & { readonly requests: readonly SampleRequest[] } {
  const requests: SampleRequest[] = [];
  return {
    model: "scripted",
    requests,
    async sample(request, signal): Promise<Sampled> {
      signal?.throwIfAborted();
      const turn = turns[requests.length];
      if (turn === undefined) throw new Error(`scripted upstream: no turn ${requests.length}`);
      requests.push(request);
      const written = typeof turn === "function" ? await turn(request) : turn;
      signal?.throwIfAborted();
      const end = written.findIndex((token) => request.stop.includes(token));
      const tokens = written.slice(0, Math.min(request.maxTokens, end < 0 ? written.length : end + 1));
      const stopped = request.stop.includes(tokens.at(-1) ?? -1);
      return {
        tokens,
        logprobs: tokens.map(() => -0.5),
        stopReason: stopped ? "stop" : "length",
        version: options.version ?? 0,
      };
    },
  };
}
