import { randomBytes } from "node:crypto";

/**
 * The effects that the pure core never performs itself. Each port is the smallest thing its users need; the default
 * implementations stand at the end of this file, tests pass their own.
 */

export interface Clock {
  /** Wall time in milliseconds since the Unix epoch. May jump. */
  nowMs(): number;
  /** Monotonic time in milliseconds from an arbitrary origin. Never goes backwards. */
  monotonicMs(): number;
}

export interface Ids {
  /** A new identifier `<prefix>_<26 characters>`: 48 bits of time, 80 of chance, sortable by creation time. */
  next(prefix: string): string;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};

/**
 * The clock of all telemetry (`Telemetry.at`): milliseconds since the epoch, steady. The wall clock may be set while an episode runs; this
 * one began with the process and has only ever gone forward since.
 */
export const telemetryNow = (): number => performance.timeOrigin + performance.now();

const CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz";

/** ULID layout in lower case (10 characters of time, 16 of chance). */
export function ulid(timeMs: number, entropy: Uint8Array): string {
  let time = "";
  let rest = Math.floor(timeMs);
  for (let i = 0; i < 10; i++) {
    time = CROCKFORD[rest % 32] + time;
    rest = Math.floor(rest / 32);
  }
  let chance = "";
  for (let i = 0; i < 16; i++) chance += CROCKFORD[(entropy[i] ?? 0) & 31];
  return time + chance;
}

export const systemIds: Ids = {
  next: (prefix) => `${prefix}_${ulid(Date.now(), randomBytes(16))}`,
};
