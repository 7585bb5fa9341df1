import { type Html, html, trusted } from "./html.ts";

/**
 * The little that our charts need: a frame with axes, lines, bands and points. Colours are classes, so that one drawing serves light
 * and dark; sizes are in pixels of the drawing, which is shown at about its own size.
 */

export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
  x(value: number): number;
  y(value: number): number;
}

export interface FrameOptions {
  readonly width: number;
  readonly height: number;
  readonly margin: {
    readonly left: number;
    readonly right: number;
    readonly top: number;
    readonly bottom: number;
  };
  readonly xRange: readonly [number, number];
  readonly yRange: readonly [number, number];
}

export function frameOf({ width, height, margin, xRange, yRange }: FrameOptions): Frame {
  const { left, top } = margin;
  const [right, bottom] = [width - margin.right, height - margin.bottom];
  const scale = (value: number, [from, to]: readonly [number, number], start: number, end: number): number =>
    to === from ? (start + end) / 2 : start + ((value - from) / (to - from)) * (end - start);
  return {
    width,
    height,
    left,
    right,
    top,
    bottom,
    x: (value) => scale(value, xRange, left, right),
    y: (value) => scale(value, yRange, bottom, top),
  };
}

const n = (value: number): string => (Math.round(value * 10) / 10).toString();

/** Round steps (1, 2, 5 × 10^k), none smaller than `least`, of which about `wanted` fit into the range. */
export function ticks([from, to]: readonly [number, number], wanted: number, least = 1e-9): number[] {
  const raw = Math.max(least, (to - from) / wanted);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw * 0.999)!;
  const found: number[] = [];
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to + step * 1e-6; i++)
    found.push(Number((i * step).toPrecision(12)));
  return found;
}

/** Horizontal grid lines with their labels to the left. */
export const yAxis = (frame: Frame, values: readonly number[], label: (value: number) => string): Html =>
  html`${values.map((value) => {
    const y = n(frame.y(value));
    const kind = value === 0 ? "axis" : "grid";
    return html`<line class="${kind}" x1="${n(frame.left)}" x2="${n(frame.right)}" y1="${y}" y2="${y}"/><text class="tick" x="${n(frame.left - 8)}" y="${y}" dy="0.32em" text-anchor="end">${label(value)}</text>`;
  })}`;

/** Labels below, and what they count. */
export const xAxis = (
  frame: Frame,
  values: readonly number[],
  label: (value: number) => string,
  title: string,
): Html =>
  html`${values.map((value) => html`<text class="tick" x="${n(frame.x(value))}" y="${n(frame.bottom + 18)}" text-anchor="middle">${label(value)}</text>`)}<text class="tick" x="${n((frame.left + frame.right) / 2)}" y="${n(frame.bottom + 36)}" text-anchor="middle">${title}</text>`;

export type Point = readonly [x: number, y: number];

const path = (frame: Frame, points: readonly Point[]): string =>
  points.map(([x, y], i) => `${i === 0 ? "M" : "L"}${n(frame.x(x))} ${n(frame.y(y))}`).join("");

export const line = (frame: Frame, points: readonly Point[], kind: string): Html =>
  html`<path class="line ${kind}" d="${path(frame, points)}"/>`;

export function band(frame: Frame, low: readonly Point[], high: readonly Point[], kind: string): Html {
  if (low.length < 2) return html``;
  const back = path(frame, [...high].reverse()).replace(/^M/, "L");
  return html`<path class="band ${kind}" d="${path(frame, low)}${back}Z"/>`;
}

/** A point that tells its value when it is pointed at. */
export const dot = (frame: Frame, [x, y]: Point, radius: number, kind: string, tip: string): Html =>
  html`<circle class="dot ${kind}" cx="${n(frame.x(x))}" cy="${n(frame.y(y))}" r="${radius}"><title>${tip}</title></circle>`;

/** A diamond with a vertical interval: a measurement apart from the curve. */
export function diamond(
  frame: Frame,
  [x, y]: Point,
  interval: readonly [number, number],
  kind: string,
  tip: string,
  /** Pixels to the right, to keep two measurements at one place apart. */
  aside = 0,
): Html {
  const [cx, cy] = [frame.x(x) + aside, frame.y(y)];
  const [low, high] = [frame.y(interval[0]), frame.y(interval[1])];
  return html`<g class="${kind}"><line class="whisker" x1="${n(cx)}" x2="${n(cx)}" y1="${n(low)}" y2="${n(high)}"/><line class="whisker" x1="${n(cx - 5)}" x2="${n(cx + 5)}" y1="${n(low)}" y2="${n(low)}"/><line class="whisker" x1="${n(cx - 5)}" x2="${n(cx + 5)}" y1="${n(high)}" y2="${n(high)}"/><path class="mark" d="M${n(cx)} ${n(cy - 7)}l7 7l-7 7l-7 -7Z"><title>${tip}</title></path></g>`;
}

export const label = (
  x: number,
  y: number,
  text: string,
  kind: string,
  anchor: "start" | "middle" | "end" = "start",
): Html =>
  html`<text class="label ${kind}" x="${n(x)}" y="${n(y)}" dy="0.32em" text-anchor="${anchor}">${text}</text>`;

/** The whole drawing, with the title and description that a screen reader reads in its place. */
export function drawing(
  id: string,
  width: number,
  height: number,
  title: string,
  description: string,
  body: Html,
): Html {
  return html`<svg role="img" aria-labelledby="${id}-t ${id}-d" viewBox="0 0 ${width} ${height}" style="${trusted(`max-width:${Math.round(width * 1.25)}px`)}"><title id="${id}-t">${title}</title><desc id="${id}-d">${description}</desc>${body}</svg>`;
}
