import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { TelemetryProcess } from "@ale/core";
import { livingProcess } from "../telemetry/proc-facts.ts";
import { type Connection, inodeOfConnection } from "./socket-inode.ts";

/**
 * Which process of a sandbox holds a connection: from its local port to the socket's inode in the sandbox's own table, and from there to
 * whoever has it open. Reads /proc of the host, where the sandbox cannot write. Works while the connection is held, which the gateway
 * does until it has looked.
 */

export interface SocketQuery {
  /** A process of the sandbox, on the host: its network namespace is looked at. */
  readonly initPid: number;
  /** Processes of the sandbox on the host. */
  readonly pids: () => readonly number[];
  readonly protocol: "tcp" | "udp";
  readonly localPort: number;
  /** Where all four numbers of a TCP connection are known: much faster. */
  readonly connection?: Connection;
}

/** Undefined where the socket is gone or nobody of the sandbox holds it. */
export function processOfSocket(query: SocketQuery): TelemetryProcess | undefined {
  const inode = inodeOf(query);
  if (inode === undefined) return undefined;
  const wanted = `socket:[${inode}]`;
  const pid = query.pids().find((candidate) => holds(candidate, wanted));
  return pid === undefined ? undefined : livingProcess(pid, query.initPid);
}

function inodeOf(query: SocketQuery): string | undefined {
  const { connection } = query;
  const found = connection && inodeOfConnection(query.initPid, connection);
  if (found !== undefined) return found ?? undefined;
  const port = query.localPort.toString(16).toUpperCase().padStart(4, "0");
  for (const table of [query.protocol, `${query.protocol}6`])
    for (const line of read(`/proc/${query.initPid}/net/${table}`).split("\n").slice(1)) {
      const fields = line.trim().split(/\s+/);
      if (fields[1]?.endsWith(`:${port}`) && fields[9] !== undefined && fields[9] !== "0") return fields[9];
    }
  return undefined;
}

function holds(pid: number, socket: string): boolean {
  try {
    // What was opened last is asked about most.
    return readdirSync(`/proc/${pid}/fd`)
      .reverse()
      .some((fd) => link(`/proc/${pid}/fd/${fd}`) === socket);
  } catch {
    return false;
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function link(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
