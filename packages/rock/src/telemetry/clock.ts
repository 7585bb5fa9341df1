import { telemetryNow } from "@ale/core";

/**
 * Other clocks on that of telemetry. It ticks with the kernel's CLOCK_MONOTONIC, so that what the kernel stamps with that is converted by a
 * constant.
 */

/** CLOCK_MONOTONIC, in milliseconds. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

let offset: number | undefined;

/** What CLOCK_MONOTONIC has to be given to be `telemetryNow()`. */
export function monotonicOffsetMs(): number {
  offset ??= smallestOf(() => {
    const before = monotonicMs();
    const middle = telemetryNow();
    const after = monotonicMs();
    return { width: after - before, offset: middle - (before + after) / 2 };
  });
  return offset;
}

/** For a thread of the same process, whose own clock began later. */
export function useMonotonicOffset(ms: number): void {
  offset = ms;
}

/** The tightest of a few bracketed readings: the one that the scheduler did not interrupt. */
function smallestOf(read: () => { readonly width: number; readonly offset: number }): number {
  const readings = Array.from({ length: 8 }, read);
  return readings.reduce((best, next) => (next.width < best.width ? next : best)).offset;
}

export const fromMonotonicMs = (ms: number): number => ms + monotonicOffsetMs();

/** Longest that something of the past may wait until it is read. */
const OLDEST_MS = 2_000;

/**
 * A time by the wall clock of something that has just been read, and that did not happen before `earliest`. Where the wall clock was set meanwhile,
 * the time is that of the reading at the latest, and not long before it.
 */
export function fromWallMs(wallMs: number, earliest = telemetryNow() - OLDEST_MS): number {
  const at = telemetryNow();
  const converted = wallMs - (Date.now() - at);
  return converted > at || converted < earliest ? at : converted;
}
