import type { OutsideAlarm } from "./alarm.ts";

/** Something that a sandbox did, as the episode log has it: a connection, a program that was started, a file that was touched. */
export interface Act {
  readonly episode: string;
  /** Null: before the agent began or after it had ended. */
  readonly chunk: number | null;
  readonly callId: string | null;
  readonly sandbox: string | null;
  /** Milliseconds since the epoch, on the log's clock. */
  readonly at: number;
  /** How long it went on, at most; 0 for a moment. */
  readonly durationMs: number;
  readonly protocol: OutsideAlarm["protocol"];
  readonly ip: string | null;
  readonly port: number | null;
  readonly host: string | null;
  /** Of the connection as the outside sees it, where known. */
  readonly fromIp: string | null;
  readonly fromPort: number | null;
  readonly pid: number | null;
  /** Path of the program. */
  readonly program: string | null;
  readonly command: string | null;
  /** The file. */
  readonly path: string | null;
}

/** What an act that is not towards the network does not have. */
export const NO_NETWORK = {
  protocol: null,
  ip: null,
  port: null,
  host: null,
  fromIp: null,
  fromPort: null,
} as const;
