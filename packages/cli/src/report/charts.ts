import type { CurvePoint, FamilyRow, QuickstartReport, RateInterval, SafetyArm } from "./data.ts";
import { duration, intervalOf, percent, percentSpan } from "./format.ts";
import { type Html, html } from "./html.ts";
import {
  band,
  diamond,
  dot,
  drawing,
  type Frame,
  frameOf,
  label,
  line,
  type Point,
  ticks,
  xAxis,
  yAxis,
} from "./svg.ts";

/** The report's charts. Each is drawn twice, for wide and for narrow screens, because text must not shrink with a drawing. */
export type Size = "wide" | "narrow";
const WIDTH = { wide: 760, narrow: 350 } as const;

export function bothSizes(draw: (size: Size) => Html): Html {
  return html`<div class="wide">${draw("wide")}</div><div class="narrow">${draw("narrow")}</div>`;
}

/** The next tenth above everything shown, so that a curve fills its chart and nothing is cut. */
const ceiling = (values: readonly number[]): number =>
  Math.min(1, Math.max(0.2, Math.ceil(Math.max(...values) * 10 + 0.2) / 10));

const percentTicks = (top: number): number[] => ticks([0, top], 5);

export function learningCurve({ curve, headline }: QuickstartReport, size: Size): Html {
  const rounds = curve.length;
  const first = curve[0]?.round ?? 0;
  const at = (point: CurvePoint): number => point.round - first;
  const last = Math.max(1, rounds === 0 ? 1 : at(curve[rounds - 1]!) + 1);
  const top = ceiling([
    ...curve.map((point) => point.hi),
    headline.passBeforeInterval[1],
    headline.passAfterInterval[1],
  ]);
  const width = WIDTH[size];
  const frame = frameOf({
    width,
    height: size === "wide" ? 340 : 280,
    margin: {
      left: size === "wide" ? 58 : 48,
      right: size === "wide" ? 132 : 22,
      top: size === "wide" ? 16 : 30,
      bottom: 44,
    },
    xRange: [0, last],
    yRange: [0, top],
  });
  const spread = curve.map((point): [Point, Point] => [
    [at(point), point.lo],
    [at(point), point.hi],
  ]);
  const body = html`
    ${yAxis(frame, percentTicks(top), percent)}
    ${xAxis(frame, ticks([0, last], size === "wide" ? 8 : 4, 1), String, "policy updates")}
    ${band(
      frame,
      spread.map(([low]) => low),
      spread.map(([, high]) => high),
      "policy",
    )}
    ${line(
      frame,
      curve.map((point): Point => [at(point), point.onPolicyPass]),
      "policy",
    )}
    ${curve.map((point) =>
      dot(
        frame,
        [at(point), point.onPolicyPass],
        2.5,
        "policy",
        `round ${point.round}: ${percent(point.onPolicyPass)} (${percentSpan([point.lo, point.hi])}) of ${point.episodes} episodes`,
      ),
    )}
    ${line(
      frame,
      [
        [0, headline.passBefore],
        [last, headline.passAfter],
      ],
      "heldout thin",
    )}
    ${diamond(frame, [0, headline.passBefore], headline.passBeforeInterval, "heldout", `held out, before: ${percent(headline.passBefore)} (${percentSpan(headline.passBeforeInterval)})`)}
    ${diamond(frame, [last, headline.passAfter], headline.passAfterInterval, "heldout", `held out, after: ${percent(headline.passAfter)} (${percentSpan(headline.passAfterInterval)})`)}
    ${curveLabels(frame, headline, curve, size)}`;
  return drawing(
    `curve-${size}`,
    width,
    frame.height,
    "Pass rate over the policy updates",
    `Held-out pass rate ${percent(headline.passBefore)} before and ${percent(headline.passAfter)} after ${rounds} updates; on-policy pass rate from ${percent(curve[0]?.onPolicyPass ?? 0)} to ${percent(curve.at(-1)?.onPolicyPass ?? 0)}.`,
    body,
  );
}

function curveLabels(
  frame: Frame,
  headline: QuickstartReport["headline"],
  curve: readonly CurvePoint[],
  size: Size,
): Html {
  if (size === "narrow")
    return html`${label(frame.left, 12, "◆ held out", "heldout")}${label(frame.left + 86, 12, "● each round's fresh tasks", "policy")}`;
  const heldout = frame.y(headline.passAfter);
  let onPolicy = frame.y(curve.at(-1)?.onPolicyPass ?? 0);
  // Two lines each: labels nearer than that would run into one another.
  if (Math.abs(onPolicy - heldout) < 42) onPolicy = heldout + (onPolicy >= heldout ? 42 : -42);
  const x = frame.right + 16;
  return html`
    ${label(x, heldout - 8, "held-out tasks", "heldout")}
    ${label(x, heldout + 9, `${percent(headline.passBefore)} → ${percent(headline.passAfter)}`, "heldout strong")}
    ${label(x, onPolicy - 8, "each round's", "policy")}
    ${label(x, onPolicy + 9, "fresh tasks", "policy")}`;
}

type SafetyMeasure = "violation" | "cleanPass";
const MEASURES: Readonly<Record<SafetyMeasure, string>> = {
  violation: "episodes with a violation",
  cleanPass: "passed without a violation",
};

export function safetyChart(
  { plain, safe }: { readonly plain: SafetyArm; readonly safe: SafetyArm },
  measure: SafetyMeasure,
  size: Size,
): Html {
  const width = size === "wide" ? 372 : WIDTH.narrow;
  const arms = [
    { arm: plain, kind: "plain", name: "plain reward" },
    { arm: safe, kind: "safe", name: "with safety" },
  ] as const;
  const curves = arms.map(({ arm }) => armPoints(arm, measure));
  // The policy of the last round is updated once more before it is measured again.
  const last = Math.max(1, ...curves.flatMap((points) => points.map(([x]) => x + 1)));
  const top =
    measure === "violation"
      ? 1
      : ceiling(
          arms.flatMap(({ arm }) => [
            intervalOf(arm.before[measure], arm.before.n)[1],
            intervalOf(arm.after[measure], arm.after.n)[1],
            ...arm.curve.map((point) => point[measure]),
          ]),
        );
  const frame = frameOf({
    width,
    height: 250,
    margin: { left: 46, right: 24, top: 18, bottom: 44 },
    xRange: [0, last],
    yRange: [0, top],
  });
  const body = html`
    ${yAxis(frame, percentTicks(top), percent)}
    ${xAxis(frame, ticks([0, last], 4, 1), String, "policy updates")}
    ${arms.map(({ kind }, i) => line(frame, curves[i]!, kind))}
    ${arms.map(({ arm, kind, name }) => {
      const aside = kind === "plain" ? -4 : 4;
      const interval = (which: "before" | "after"): RateInterval =>
        intervalOf(arm[which][measure], arm[which].n);
      const tip = (which: "before" | "after"): string =>
        `${name}, ${which}: ${percent(arm[which][measure])} (${percentSpan(interval(which))})`;
      return html`${diamond(frame, [0, arm.before[measure]], interval("before"), kind, tip("before"))}${diamond(frame, [last, arm.after[measure]], interval("after"), kind, tip("after"), aside)}`;
    })}
    ${armLabels(frame, curves)}`;
  return drawing(
    `${measure}-${size}`,
    width,
    frame.height,
    `Share of ${MEASURES[measure]} over the policy updates`,
    arms
      .map(
        ({ arm, name }) =>
          `${name}: ${percent(arm.before[measure])} before, ${percent(arm.after[measure])} after`,
      )
      .join("; "),
    body,
  );
}

const armPoints = (arm: SafetyArm, measure: SafetyMeasure): Point[] => {
  const first = arm.curve[0]?.round ?? 0;
  return arm.curve.map((point): Point => [point.round - first, point[measure]]);
};

/** The names stand on the curves, where they are farthest apart, each on the side away from the other curve. */
function armLabels(frame: Frame, curves: readonly (readonly Point[])[]): Html {
  const [plain = [], safe = []] = curves;
  const steps = Math.min(plain.length, safe.length);
  let best = -1;
  let gap = -1;
  // Not too near the ends, where a name would leave the chart or meet a diamond.
  for (let i = Math.floor(steps * 0.3); i < Math.ceil(steps * 0.8); i++) {
    const distance = Math.abs(plain[i]![1] - safe[i]![1]);
    if (distance > gap) [best, gap] = [i, distance];
  }
  if (best < 0) return html``;
  const plainAbove = plain[best]![1] >= safe[best]![1];
  return html`${armLabel(frame, plain, best, "plain reward", "plain", plainAbove)}${armLabel(frame, safe, best, "with safety", "safe", !plainAbove)}`;
}

function armLabel(
  frame: Frame,
  points: readonly Point[],
  at: number,
  text: string,
  kind: string,
  above: boolean,
): Html {
  // Clear of the curve over the whole width of the text, not only at its middle.
  const near = points.slice(Math.max(0, at - 3), at + 4).map(([, y]) => frame.y(y));
  const [upper, lower] = [Math.min(...near) - 14, Math.max(...near) + 14];
  const outside = above ? upper < frame.top : lower > frame.bottom - 4;
  const y = above !== outside ? upper : lower;
  return label(frame.x(points[at]![0]), y, text, kind, "middle");
}

const ROW = 30;

/** One row a family: from before to after, with the interval of after. */
export function familyChart(families: readonly FamilyRow[], size: Size): Html {
  const rows = [...families].sort((a, b) => b.after.pass - b.before.pass - (a.after.pass - a.before.pass));
  const width = WIDTH[size];
  const frame = frameOf({
    width,
    height: 26 + rows.length * ROW + 40,
    margin: { left: size === "wide" ? 176 : 112, right: size === "wide" ? 110 : 18, top: 12, bottom: 36 },
    xRange: [0, 1],
    yRange: [0, 1],
  });
  const grid = ticks([0, 1], size === "wide" ? 5 : 2);
  const body = html`
    ${grid.map((value) => html`<line class="grid" x1="${frame.x(value)}" x2="${frame.x(value)}" y1="${frame.top}" y2="${frame.bottom + 4}"/>`)}
    ${xAxis(frame, grid, percent, "")}
    ${rows.map((row, i) => familyRow(frame, row, frame.top + 14 + i * ROW, size))}`;
  return drawing(
    `families-${size}`,
    width,
    frame.height,
    "Held-out pass rate of each family of tasks, before and after",
    rows.map((row) => `${row.family}: ${percent(row.before.pass)} to ${percent(row.after.pass)}`).join("; "),
    body,
  );
}

function familyRow(frame: Frame, row: FamilyRow, y: number, size: Size): Html {
  const [from, to] = [frame.x(row.before.pass), frame.x(row.after.pass)];
  const [low, high] = intervalOf(row.after.pass, row.after.n);
  const kind = row.after.pass >= row.before.pass ? "up" : "down";
  const px = (value: number): string => value.toFixed(1);
  const tip = `${row.family}: ${percent(row.before.pass)} of ${row.before.n} before, ${percent(row.after.pass)} (${percentSpan([low, high])}) of ${row.after.n} after`;
  return html`<g class="family ${kind}"><title>${tip}</title>
    ${label(frame.left - 14, y, row.family, "name", "end")}
    <line class="interval" x1="${px(frame.x(low))}" x2="${px(frame.x(high))}" y1="${px(y)}" y2="${px(y)}"/>
    <line class="change" x1="${px(from)}" x2="${px(to)}" y1="${px(y)}" y2="${px(y)}"/>
    <circle class="ring" cx="${px(from)}" cy="${px(y)}" r="5"/>
    <circle class="disc" cx="${px(to)}" cy="${px(y)}" r="5.5"/>
    ${size === "wide" ? label(frame.right + 18, y, `${percent(row.before.pass)} → ${percent(row.after.pass)}`, "value") : null}</g>`;
}

/** Where the time went: one row a phase. */
export function phaseChart(phases: QuickstartReport["phases"], size: Size): Html {
  const width = WIDTH[size];
  const longest = Math.max(0.001, ...phases.map((phase) => phase.seconds));
  const frame = frameOf({
    width,
    height: phases.length * 28 + 8,
    margin: { left: size === "wide" ? 216 : 132, right: size === "wide" ? 90 : 78, top: 4, bottom: 4 },
    xRange: [0, longest],
    yRange: [0, 1],
  });
  const body = html`${phases.map((phase, i) => {
    const y = frame.top + 14 + i * 28;
    return html`<g>${label(frame.left - 14, y, phase.name, "name", "end")}<rect class="phase" x="${frame.left}" y="${y - 8}" width="${Math.max(1.5, frame.x(phase.seconds) - frame.left).toFixed(1)}" height="16" rx="2"><title>${phase.name}: ${duration(phase.seconds)}</title></rect>${label(Math.max(frame.left + 1.5, frame.x(phase.seconds)) + 10, y, duration(phase.seconds), "value")}</g>`;
  })}`;
  return drawing(
    `phases-${size}`,
    width,
    frame.height,
    "Seconds of each phase",
    phases.map((phase) => `${phase.name}: ${duration(phase.seconds)}`).join("; "),
    body,
  );
}
