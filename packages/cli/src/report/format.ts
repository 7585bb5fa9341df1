import { wilson } from "@ale/bench";
import type { RateInterval } from "./data.ts";

/** Numbers as the report writes them. */

export const percent = (rate: number): string => `${Math.round(rate * 100)}%`;

/** A whole-number span: "34–42%". */
export const percentSpan = ([low, high]: RateInterval): string =>
  `${Math.round(low * 100)}–${Math.round(high * 100)}%`;

/** 95 % Wilson interval of a rate over n episodes. Without episodes nothing is known: [0, 1]. */
export function intervalOf(rate: number, n: number): RateInterval {
  const { low, high } = wilson({ successes: Math.round(rate * n), trials: n });
  return [low, high];
}

export function duration(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const [minutes, rest] = [Math.floor(whole / 60), whole % 60];
  if (minutes < 60) return `${minutes} min ${String(rest).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

export const whole = (value: number): string => Math.round(value).toLocaleString("en-US");

/** Three significant digits: 0.482, 12.3, 1,240. */
export const figure = (value: number): string =>
  Math.abs(value) >= 100 ? whole(value) : Number(value.toPrecision(3)).toString();
