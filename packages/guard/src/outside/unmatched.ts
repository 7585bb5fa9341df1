import type { Act } from "./act.ts";
import type { ActIndex } from "./act-index.ts";
import type { OutsideAlarm } from "./alarm.ts";
import { explanationsAnywhere, gapOf } from "./explanation.ts";
import { programsOf } from "./likeness.ts";

/** Why an alarm is nobody's. */
export interface Unmatched {
  /**
   * `no-facts`: it says nothing to compare. `no-episode`: nothing was recorded then. `no-act`: nothing like it was. `other-time`: like it, but at another
   * time. `chance`: at that time too, but so much like it goes on that it may be chance.
   */
  readonly code: "no-facts" | "no-episode" | "no-act" | "other-time" | "chance";
  readonly detail: string;
}

/** What explains an alarm is looked for in at most so many acts. */
const MOST = 2_048;

export function whyUnmatched<A extends Act>(
  alarm: OutsideAlarm,
  index: ActIndex<A>,
  skewMs: number,
  maxSkewMs: number,
): Unmatched {
  const what = factsText(alarm);
  if (what === null)
    return { code: "no-facts", detail: "it names no address, port, host, process, file or container" };
  if (!index.hasAny(alarm.at - maxSkewMs, alarm.at + alarm.durationMs + maxSkewMs))
    return { code: "no-episode", detail: `nothing was recorded within ${spanText(maxSkewMs)} of it` };
  const alike = explanationsAnywhere(alarm, index, maxSkewMs, MOST);
  if (alike === undefined) return { code: "chance", detail: `too much that was recorded is like ${what}` };
  if (alike.length === 0) return { code: "no-act", detail: `nothing recorded is like ${what}` };
  const nearest = alike.reduce((a, b) => (gapOf(b, skewMs) < gapOf(a, skewMs) ? b : a));
  const gap = gapOf(nearest, skewMs);
  if (gap <= 6_000)
    return {
      code: "chance",
      detail: `${alike.length} recorded acts are like ${what}; that one fell together with it may be chance`,
    };
  const when = nearest.fromMs > skewMs ? "before" : "after";
  const { episode, chunk } = nearest.act;
  const where = `${episode}${chunk === null ? "" : ` chunk ${chunk}`}`;
  return {
    code: "other-time",
    detail: `the nearest act like ${what} was ${spanText(gap)} ${when} it, in ${where}`,
  };
}

/** What can be compared; null where nothing can. */
function factsText(alarm: OutsideAlarm): string | null {
  const to = [alarm.toIp ?? alarm.host, alarm.toPort].filter((part) => part !== null).join(":");
  const [program = null] = programsOf(alarm);
  const facts = [
    ...(to === "" ? [] : [`a connection to ${to}`]),
    ...(alarm.command === null && program === null
      ? []
      : [`the program ${JSON.stringify(alarm.command ?? program)}`]),
    ...(alarm.path === null ? [] : [`the file ${alarm.path}`]),
    ...(alarm.containers.length === 0 ? [] : [`the container ${alarm.containers.join(" or ")}`]),
    ...(alarm.pid === null ? [] : [`process ${alarm.pid}`]),
  ];
  if (facts.length > 0) return facts.join(", ");
  if (alarm.fromPort !== null) return `a connection from port ${alarm.fromPort}`;
  return alarm.fromIp === null ? null : `a connection from ${alarm.fromIp}`;
}

function spanText(ms: number): string {
  if (ms < 90_000) return `${(ms / 1_000).toFixed(0)} s`;
  return ms < 5_400_000 ? `${(ms / 60_000).toFixed(0)} min` : `${(ms / 3_600_000).toFixed(1)} h`;
}
