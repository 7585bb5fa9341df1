import { AleError } from "@ale/core";
import type { FastifyRequest } from "fastify";

/** What a browser on the same machine must not be talked into: calls from a foreign page, or by a foreign name (DNS rebinding). */

export const LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"] as const;

/** Throws an AleError `host-refused` for other names. undefined: any name. */
export function hostCheck(names: readonly string[] | undefined): (request: FastifyRequest) => void {
  return (request) => {
    if (names === undefined) return;
    const name = nameOf(request.headers.host ?? "");
    if (!names.includes(name))
      throw new AleError("host-refused", `this server is not called ${name.slice(0, 100) || "(nothing)"}`, {
        next: `call it by one of: ${names.join(", ")}`,
      });
  };
}

/** No page of another origin may call, whatever its browser would do with the answer. Programs send no Origin. */
export function originCheck(request: FastifyRequest): void {
  const { origin, host, "sec-fetch-site": from } = request.headers;
  const own = [undefined, `http://${host}`, `https://${host}`];
  if (!own.includes(origin) || from === "cross-site")
    throw new AleError("forbidden", "calls from other origins are refused", {
      next: "call from a program, or from a page of this server",
    });
}

const nameOf = (host: string): string => host.replace(/:\d+$/, "").toLowerCase();
