/** A clock's offset over time, from alarms whose acts are known: a robust line, or a constant where a line says no more. Pure. */

export interface Inlier {
  readonly at: number;
  readonly offsetMs: number;
}

export interface ClockFit {
  readonly driftPpm: number;
  readonly spreadMs: number;
  offsetAt(atMs: number): number;
}

/** Quartz is wrong by a tenth of this; more is no drift. */
const MOST_PPM = 1_000;
const ENOUGH = 8;
/** Slopes of all pairs of so many are looked at. */
const MOST_PAIRED = 200;

/** `floorMs`: what timestamps resolve. */
export function fitClock(inliers: readonly Inlier[], floorMs: number): ClockFit {
  const constant = medianOf(inliers.map(({ offsetMs }) => offsetMs));
  const scatter = (offsetAt: (at: number) => number): number =>
    1.48 * medianOf(inliers.map(({ at, offsetMs }) => Math.abs(offsetMs - offsetAt(at))));
  // Few alarms near zero do not prove that the clocks differ at all.
  const shrunk = Math.abs(constant) < floorMs ? (constant * inliers.length) / (inliers.length + 2) : constant;
  const flat = {
    driftPpm: 0,
    spreadMs: Math.max(
      floorMs,
      scatter(() => constant),
    ),
    offsetAt: () => shrunk,
  };
  if (inliers.length < ENOUGH) return flat;
  const step = Math.ceil(inliers.length / MOST_PAIRED);
  const points = inliers.filter((_, i) => i % step === 0).sort((a, b) => a.at - b.at);
  const spanMs = points.at(-1)!.at - points[0]!.at;
  const slopes = points.flatMap((a, i) =>
    points
      .slice(i + 1)
      // What lies close together says nothing of a slope.
      .filter((b) => b.at - a.at > spanMs / 4)
      .map((b) => (b.offsetMs - a.offsetMs) / (b.at - a.at)),
  );
  const slope = medianOf(slopes);
  // It must come to more over the whole time than what is noise.
  if (Math.abs(slope) * 1e6 > MOST_PPM || Math.abs(slope) * spanMs < floorMs / 2) return flat;
  const middle = (points[0]!.at + points.at(-1)!.at) / 2;
  const height = medianOf(inliers.map(({ at, offsetMs }) => offsetMs - slope * (at - middle)));
  const offsetAt = (at: number): number => height + slope * (at - middle);
  if (scatter(offsetAt) > 0.75 * scatter(() => constant)) return flat;
  return { driftPpm: slope * 1e6, spreadMs: Math.max(floorMs, scatter(offsetAt)), offsetAt };
}

export function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return 0;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
