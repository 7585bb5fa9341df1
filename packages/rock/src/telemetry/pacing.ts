import type { Telemetry } from "@ale/core";

/**
 * Keeps one sandbox from drowning whoever listens to it: of each kind and source so many records at once and so many a second. What comes
 * above is counted, and the count is told: with the next record of its kind, or by a record of its own when none follows. Pure; one for
 * each sandbox, so that none takes from another.
 */

export interface Pace {
  readonly burst: number;
  readonly perSecond: number;
}

/** A build starts some hundred programs a second; an episode's log should bear that for a while, but no flood. */
const PACE: Pace = { burst: 2_000, perSecond: 200 };

interface Bucket {
  tokens: number;
  filledAt: number;
  suppressed: number;
  /** The last that was not told. */
  last: Telemetry | undefined;
}

export class Pacing {
  readonly #pace: Pace;
  readonly #buckets = new Map<string, Bucket>();

  constructor(pace: Pace = PACE) {
    this.#pace = pace;
  }

  /** The record to be told, with what was left out before it; undefined where it is left out itself. `at`: now, not the record's time. */
  admit(record: Telemetry, at: number): Telemetry | undefined {
    const key = `${record.source} ${record.kind}`;
    const bucket = this.#buckets.get(key) ?? this.#fresh(key, at);
    const earned = Math.max(0, ((at - bucket.filledAt) / 1000) * this.#pace.perSecond);
    bucket.tokens = Math.min(this.#pace.burst, bucket.tokens + earned);
    bucket.filledAt = at;
    if (bucket.tokens < 1) {
      bucket.suppressed += 1 + (record.suppressed ?? 0);
      bucket.last = record;
      return undefined;
    }
    bucket.tokens -= 1;
    return withCount(record, take(bucket));
  }

  /** What was left out and nobody was told of yet: the last record of each kind stands for all of them. */
  flush(): Telemetry[] {
    return [...this.#buckets.values()].flatMap((bucket) => {
      const { last } = bucket;
      const suppressed = take(bucket) - 1 - (last?.suppressed ?? 0);
      return last === undefined ? [] : [withCount(last, suppressed)];
    });
  }

  #fresh(key: string, at: number): Bucket {
    const bucket = { tokens: this.#pace.burst, filledAt: at, suppressed: 0, last: undefined };
    this.#buckets.set(key, bucket);
    return bucket;
  }
}

function take(bucket: Bucket): number {
  const { suppressed } = bucket;
  bucket.suppressed = 0;
  bucket.last = undefined;
  return suppressed;
}

function withCount(record: Telemetry, suppressed: number): Telemetry {
  const all = suppressed + (record.suppressed ?? 0);
  return all === 0 ? record : { ...record, suppressed: all };
}
