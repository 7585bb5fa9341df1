import type { Duplex } from "node:stream";
import type { Telemetry } from "@ale/core";
import { type Exhausted, exhaustedText, take } from "./account.ts";
import { decideHost, MODEL_GATEWAY } from "./egress-policy.ts";
import { type FirstWords, firstWords } from "./first-words.ts";
import type { OnRecord } from "./guest.ts";
import type { HttpDoor, HttpWayOut } from "./http-door.ts";
import { BudgetError, metered } from "./metered.ts";
import { type Dialled, dialAddress, dialName, type ModelGateway, type Upstream } from "./upstream.ts";
import { type Heard, objectionTo, placeOf, saidOf, tell, type Visit } from "./visit.ts";

/**
 * What policy allows, on its way out: dialled from the host, counted against the budgets, and told when it has ended. Whether it may go is
 * decided at the door, except for the requests of an HTTP connection, each of which is a crossing of its own.
 */

export interface CrossingOptions {
  readonly upstream: Upstream;
  /** Undefined: nobody reaches one. */
  readonly modelGateway: ModelGateway | undefined;
  readonly onRecord: OnRecord;
}

/** Where it cannot be dialled, why not; otherwise it goes on by itself. */
export async function cross(
  options: CrossingOptions,
  visit: Visit,
  { words, bytes }: Heard,
): Promise<Extract<Dialled, { ok: false }> | undefined> {
  const { socket } = visit;
  const dialled = await dial(options, visit);
  if (!dialled.ok) return dialled;
  const out = counted(options, visit, dialled, words.class, words.alpn.join(","));
  socket.once("close", () => out.destroy());
  out.once("error", () => socket.resetAndDestroy());
  // A slow reader still gets what came before the end.
  out.once("close", () => socket.destroySoon());
  if (bytes.length > 0) out.write(bytes);
  // Carries bytes both ways at the pace of the slower side.
  out.pipe(socket);
  if (visit.host !== undefined && words.undecided) watch(options, visit, visit.host, bytes, out);
  else socket.pipe(out);
  return undefined;
}

/**
 * Of a client that has not said enough yet, as those do who let the server speak first: what it says goes on as it comes, until it begins to
 * be something that names a host. That is compared before its last piece has left; HTTP is over then, as nobody would compare its other requests.
 */
function watch({ onRecord }: CrossingOptions, visit: Visit, host: string, said: Buffer, out: Duplex): void {
  const { socket, port } = visit;
  let bytes = said;
  const end = (): void => void out.end();
  const hear = (piece: Buffer): void => {
    bytes = Buffer.concat([bytes, piece]);
    const words = firstWords(bytes);
    const objection = words.undecided
      ? undefined
      : (objectionTo(words, host, port) ?? (words.class === "http" ? "protocol" : undefined));
    if (objection !== undefined) {
      tell(onRecord, visit, "net.deny", { rule: objection, ...saidOf(words) });
      socket.resetAndDestroy();
      return;
    }
    out.write(piece);
    if (words.undecided) return;
    socket.off("data", hear);
    socket.off("end", end);
    socket.pipe(out);
  };
  socket.on("data", hear);
  socket.once("end", end);
  socket.resume();
}

/** Every request is compared and counted; each has a connection of its own to where the name leads. */
export function crossWithHttp(
  options: CrossingOptions,
  door: HttpDoor,
  visit: Visit,
  host: string,
  first: Buffer,
): void {
  const { socket } = visit;
  socket.unshift(first);
  door.serve(socket, {
    host,
    wayOut: () => wayOutForRequest(options, visit, host),
    onForeign: (claimed, head) =>
      tell(options.onRecord, visit, "net.deny", {
        rule: "fronting",
        class: "http",
        head,
        ...(claimed === null ? {} : { claimed }),
      }),
  });
}

/** The policy may be another one than when the connection was made. */
async function wayOutForRequest(options: CrossingOptions, visit: Visit, host: string): Promise<HttpWayOut> {
  const refuse = (rule: string, budget?: Exhausted): HttpWayOut => {
    tell(options.onRecord, visit, "net.deny", { rule, class: "http", ...(budget && { budget }) });
    return { ok: false, why: budget && exhaustedText(budget, host) };
  };
  const decision = decideHost(visit.guest.policy, host, visit.port);
  if (!decision.allowed) return refuse(decision.refusal);
  const budget = take(visit.guest, host, "requests");
  if (budget !== undefined) return refuse("budget", budget);
  const dialled = await dial(options, visit);
  if (dialled.ok) return { ok: true, stream: counted(options, visit, dialled, "http") };
  return dialled.refusal === "unreachable" ? { ok: false } : refuse(dialled.refusal);
}

/** Counts what passes over a connection to the outside, and tells of it when it has ended. */
function counted(
  { onRecord }: CrossingOptions,
  visit: Visit,
  dialled: Extract<Dialled, { ok: true }>,
  kind: FirstWords["class"],
  alpn = "",
): Duplex {
  const upstream = upstreamOf(dialled);
  const startedAt = performance.now();
  const { stream, flow } = metered(visit.guest, placeOf(visit), dialled.socket);
  stream.on("error", (error) => {
    if (error instanceof BudgetError)
      tell(onRecord, visit, "net.deny", { rule: "budget", budget: error.exhausted, ...upstream, ...flow });
  });
  stream.once("close", () => {
    const durationMs = performance.now() - startedAt;
    tell(onRecord, visit, "net.flow", { class: kind, alpn, ...upstream, ...flow, durationMs });
  });
  return stream;
}

function dial({ upstream, modelGateway }: CrossingOptions, visit: Visit): Promise<Dialled> {
  const { guest, host, ip, port } = visit;
  if (host === MODEL_GATEWAY)
    return modelGateway === undefined
      ? Promise.resolve({ ok: false, refusal: "name" })
      : dialAddress(upstream, modelGateway.host, modelGateway.port);
  return host === undefined ? dialAddress(upstream, ip, port) : dialName(upstream, guest.policy, host, port);
}

/** What the connection looks like from beyond the gateway; a socket forgets it when it is closed. */
function upstreamOf({
  socket,
}: Extract<Dialled, { ok: true }>): Pick<NonNullable<Telemetry["net"]>, "upstream"> {
  const { remoteAddress: ip, remotePort: port, localAddress: sourceIp, localPort: sourcePort } = socket;
  if (ip === undefined || port === undefined) return {};
  return {
    upstream: {
      ip,
      port,
      ...(sourceIp === undefined ? {} : { sourceIp }),
      ...(sourcePort === undefined ? {} : { sourcePort }),
    },
  };
}
