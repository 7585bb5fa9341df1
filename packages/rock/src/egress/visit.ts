import type { Socket } from "node:net";
import type { Telemetry } from "@ale/core";
import { ENOUGH_BYTES, type FirstWords, firstWords } from "./first-words.ts";
import { type Guest, type OnRecord, recordOf } from "./guest.ts";

/** One TCP connection of a sandbox, as it came to the door: whose, to where, and what it says first. */
export interface Visit {
  readonly guest: Guest;
  readonly socket: Socket;
  readonly flow: string;
  readonly ip: string;
  readonly port: number;
  /** Undefined where the address was used without a name. */
  readonly host: string | undefined;
  /** The sandbox's own. */
  readonly sourcePort: number;
  readonly process: Telemetry["process"];
}

type Net = NonNullable<Telemetry["net"]>;

/** By what its budget is counted. */
export const placeOf = ({ host, ip }: Visit): string => host ?? ip;

export function tell(
  onRecord: OnRecord,
  visit: Visit,
  kind: "net.deny" | "net.capture" | "net.flow",
  net: Net,
): void {
  const { guest, flow, ip, port, host, sourcePort, process } = visit;
  const place = host === undefined ? { ip } : { host };
  onRecord(
    recordOf(guest, kind, kind === "net.capture" ? "sink" : "proxy", {
      net: { flow, protocol: "tcp", ...place, port, sourcePort, ...net },
      ...(process === undefined ? {} : { process }),
    }),
  );
}

export const saidOf = (words: FirstWords): Net => ({
  class: words.class,
  head: words.head,
  ...(words.claimed === null ? {} : { claimed: words.claimed }),
  ...(words.alpn.length === 0 ? {} : { alpn: words.alpn.join(",") }),
});

/** Why a connection to an allowed name is not what it was allowed for. */
export function objectionTo(
  words: FirstWords,
  host: string,
  port: number,
): "fronting" | "protocol" | undefined {
  const named = words.class === "tls" || words.class === "http" || words.class === "http-connect";
  // A name that is hidden or left out cannot be compared, which is all that fronting needs.
  if (named && words.claimed !== host) return "fronting";
  if (port === 443 && words.class !== "tls") return "protocol";
  return port === 80 && words.class !== "http" ? "protocol" : undefined;
}

export interface Heard {
  readonly words: FirstWords;
  readonly bytes: Buffer;
}

/** Reads until it is clear what is being said, for at most so long. The socket is paused again afterwards. */
export function listen(socket: Socket, ms: number): Promise<Heard> {
  return new Promise((resolve) => {
    let bytes = Buffer.alloc(0);
    const done = (): void => {
      clearTimeout(timer);
      socket.pause();
      socket.off("data", hear);
      socket.off("end", done);
      socket.off("close", done);
      resolve({ words: firstWords(bytes), bytes });
    };
    const hear = (chunk: Buffer): void => {
      bytes = Buffer.concat([bytes, chunk]);
      if (bytes.length >= ENOUGH_BYTES || !firstWords(bytes).undecided) done();
    };
    const timer = setTimeout(done, ms);
    socket.on("data", hear);
    socket.once("end", done);
    socket.once("close", done);
    if (ms > 0) socket.resume();
  });
}
