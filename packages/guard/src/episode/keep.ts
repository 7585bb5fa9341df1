import type { Telemetry } from "@ale/core";

/**
 * Which records the log keeps. What matters for an alert is always kept; of the rest so many of a kind and chunk, so that neither a noisy
 * chunk nor a noisy kind takes the room of the others. What is left out is counted, and told with the next of its kind.
 */
export const KEPT_A_CHUNK = 100;
export const KEPT_AN_EPISODE = 5_000;

export class RecordBudget {
  readonly #kept = new Map<string, number>();
  readonly #waiting = new Map<string, number>();
  readonly #suppressed = new Map<string, number>();
  #total = 0;

  /** The record as it goes into the log; null where it is only counted. */
  admit(record: Telemetry, chunk: number | null, matters: boolean): Telemetry | null {
    const place = `${chunk ?? ""} ${record.kind}`;
    const kept = this.#kept.get(place) ?? 0;
    if (!matters && (kept >= KEPT_A_CHUNK || this.#total >= KEPT_AN_EPISODE)) {
      const left = 1 + (record.suppressed ?? 0);
      this.#waiting.set(record.kind, (this.#waiting.get(record.kind) ?? 0) + left);
      this.#suppressed.set(record.kind, (this.#suppressed.get(record.kind) ?? 0) + left);
      return null;
    }
    this.#kept.set(place, kept + 1);
    this.#total++;
    const waiting = this.#waiting.get(record.kind) ?? 0;
    if (waiting > 0) this.#waiting.set(record.kind, 0);
    const before = record.suppressed ?? 0;
    if (before > 0) this.#suppressed.set(record.kind, (this.#suppressed.get(record.kind) ?? 0) + before);
    return waiting === 0 ? record : { ...record, suppressed: waiting + before };
  }

  /** By kind: what was seen, here or by the collectors, and is not in the log. */
  get suppressed(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#suppressed);
  }
}
