import { domainToASCII } from "node:url";
import { HostName, parseIp, parseNetwork } from "@ale/core";
import { usageError } from "./args.ts";

/** One `HOST[:PORT]` or `ADDRESS[/PREFIX]:PORT` of a command line; what is wrong with it is said by its own name. */
export type Place =
  | { readonly name: string; readonly ports?: readonly number[] }
  | {
      readonly network: string;
      readonly ports: readonly number[];
    };

/** Throws `usage`. */
export function placeOf(option: string, text: string): Place {
  const wrong = (what: string, next: string): Error =>
    usageError(`${option}: ${JSON.stringify(text)} ${what}`, next);
  const say = (rest: string): string => `${option} ${rest}`;
  const url = /^[a-z][a-z0-9+.-]*:\/\/(?:[^/@]*@)?([^/?#]+)/i.exec(text)?.[1];
  if (url !== undefined) throw wrong("is no host but a whole address with a scheme", say(url));
  const { host, port: written } = parted(text);
  if (host === "")
    throw wrong("names no host", say(written === undefined ? "pypi.org" : `pypi.org:${written}`));
  const port = written === undefined ? undefined : Number(written);
  if (written !== undefined && !(/^\d+$/.test(written) && port! >= 1 && port! <= 65_535))
    throw wrong(`: ${JSON.stringify(written)} is no port: 1 to 65535`, say(`${host}:443`));
  const address = host.split("/")[0]!;
  if (parseIp(address) !== undefined) {
    refuseNetwork(option, host, written, wrong);
    if (port === undefined) throw wrong("needs a port, as every address does", say(`${text}:443`));
    return { network: host, ports: [port] };
  }
  if (host.includes("/")) throw wrong("is no host: it has a path", say(address));
  const fault = hostFault(host);
  if (fault !== undefined)
    throw wrong(fault.what, fault.next === undefined ? say("pypi.org") : say(fault.next));
  return { name: host, ...(port === undefined ? {} : { ports: [port] }) };
}

/** Colons stand before a port, or in an IPv6 address, in brackets or without a port. */
function parted(text: string): { host: string; port: string | undefined } {
  const bracketed = /^\[([^\]]*)\](\/\d+)?(?::(.*))?$/s.exec(text);
  if (bracketed !== null) return { host: `${bracketed[1]}${bracketed[2] ?? ""}`, port: bracketed[3] };
  if (parseNetwork(text) !== undefined) return { host: text, port: undefined };
  const at = text.indexOf(":");
  return at < 0 ? { host: text, port: undefined } : { host: text.slice(0, at), port: text.slice(at + 1) };
}

function refuseNetwork(
  option: string,
  host: string,
  port = "443",
  wrong: (what: string, next: string) => Error,
): void {
  const [address = "", prefix] = host.split("/");
  const network = parseNetwork(host);
  if (parseIp(address)!.v6)
    throw wrong(
      "is an IPv6 address, and sandboxes have IPv4 only: IPv6 does not leave them",
      "name its IPv4 address, or its host name",
    );
  if (network === undefined)
    throw wrong(`: ${JSON.stringify(prefix)} is no prefix: 0 to 32`, `${option} ${address}/24:${port}`);
  if (parseNetwork(host, { strict: true }) !== undefined) return;
  const { bits } = network;
  const base = [24n, 16n, 8n, 0n].map((shift) => (bits >> shift) & 255n).join(".");
  throw wrong(`has bits beyond its prefix /${prefix}`, `${option} ${base}/${prefix}:${port}`);
}

/** What is wrong with a host name; `next`: how it may have been meant. */
function hostFault(name: string): { readonly what: string; readonly next?: string } | undefined {
  if (name === "*")
    return { what: "is every host: that is --network open, which is unsafe and asked for by that name" };
  const bare = name.replace(/^\*\./, "");
  if (bare.includes("*"))
    return {
      what: 'is no host name: "*." may only stand at its beginning',
      next: `*.${bare.replace(/.*\*\.?/, "") || "pypi.org"}`,
    };
  const foreign = [...new Set(bare)].filter((char) => !/[a-z0-9_.-]/i.test(char));
  if (foreign.length > 0) {
    const ascii = /[^\x20-\x7e]/.test(bare) ? domainToASCII(bare) : "";
    const next = ascii === "" ? {} : { next: `${name.startsWith("*.") ? "*." : ""}${ascii}` };
    return {
      what: `is no host name: ${foreign.map((char) => JSON.stringify(char)).join(", ")} cannot be in one`,
      ...next,
    };
  }
  const labels = bare.replace(/\.$/, "").split(".");
  if (labels.includes("")) return { what: "is no host name: there is nothing between two of its dots" };
  const long = labels.find((label) => label.length > 63);
  if (long !== undefined)
    return { what: `is no host name: a part of it has ${long.length} characters, and 63 are the most` };
  const edged = labels.find((label) => /^-|[-_]$/.test(label));
  if (edged !== undefined)
    return { what: `is no host name: ${JSON.stringify(edged)} begins or ends with a hyphen` };
  const parsed = HostName.safeParse(name);
  // What is left is of the schema's own: numbers, names beyond 253 characters.
  return parsed.success ? undefined : { what: parsed.error.issues[0]!.message.replace(/^"[^"]*" /, "") };
}
