import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { TelemetryProcess } from "@ale/core";
import type { z } from "zod";

/**
 * Which process of a sandbox holds a connection: from its local port to the socket's inode in the sandbox's own table, and from there to
 * whoever has it open. Reads /proc of the host, where the sandbox cannot write. Works while the connection is held, which the gateway
 * does until it has looked.
 */

export type ProcessFacts = z.infer<typeof TelemetryProcess>;

export interface SocketQuery {
  /** A process of the sandbox, on the host: its network namespace is looked at. */
  readonly initPid: number;
  /** Processes of the sandbox on the host. */
  readonly pids: () => readonly number[];
  readonly protocol: "tcp" | "udp";
  readonly localPort: number;
}

const MAX_ANCESTORS = 8;
const MAX_COMMAND = 400;

/** Undefined where the socket is gone or nobody of the sandbox holds it. */
export function processOfSocket(query: SocketQuery): ProcessFacts | undefined {
  const inode = inodeOf(query);
  if (inode === undefined) return undefined;
  const wanted = `socket:[${inode}]`;
  const pid = query.pids().find((candidate) => holds(candidate, wanted));
  return pid === undefined ? undefined : processFacts(pid, query.initPid);
}

export function processFacts(pid: number, initPid: number): ProcessFacts {
  const ancestry: string[] = [];
  let parent = parentOf(pid);
  while (parent !== undefined && parent > 1 && parent !== initPid && ancestry.length < MAX_ANCESTORS) {
    ancestry.push(commandOf(parent));
    parent = parentOf(parent);
  }
  const uid = Number(/^Uid:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1]);
  const exe = link(`/proc/${pid}/exe`);
  return {
    pid,
    ...(Number.isInteger(uid) ? { uid } : {}),
    ...(exe === undefined ? {} : { exe }),
    command: commandOf(pid),
    ancestry,
  };
}

function inodeOf(query: SocketQuery): string | undefined {
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
    return readdirSync(`/proc/${pid}/fd`).some((fd) => link(`/proc/${pid}/fd/${fd}`) === socket);
  } catch {
    return false;
  }
}

function parentOf(pid: number): number | undefined {
  const parent = Number(/^PPid:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1]);
  return Number.isInteger(parent) ? parent : undefined;
}

const commandOf = (pid: number): string =>
  read(`/proc/${pid}/cmdline`).replaceAll("\0", " ").trim().slice(0, MAX_COMMAND);

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
