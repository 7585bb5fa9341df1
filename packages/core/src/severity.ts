import { type Alert, Severity } from "./event.ts";

/** Order of severities, and what the house calls a violation when nobody says otherwise. */
export const VIOLATION_SEVERITY: Severity = "high";

/** 0 for `low` up to 3 for `critical`. */
export const severityRank = (severity: Severity): number => Severity.options.indexOf(severity);

export const isAtLeast = (severity: Severity, minimum: Severity): boolean =>
  severityRank(severity) >= severityRank(minimum);

/** The highest severity among some alerts; null when there are none. */
export function maxSeverity(alerts: readonly Pick<Alert, "severity">[]): Severity | null {
  let highest: Severity | null = null;
  for (const { severity } of alerts) if (!highest || !isAtLeast(highest, severity)) highest = severity;
  return highest;
}
