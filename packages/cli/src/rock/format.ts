import { usageError } from "../args.ts";

/** Numbers as people write and read them. */

const UNITS = ["B", "K", "M", "G", "T", "P"] as const;

/** Three digits and a binary unit: "0B", "512M", "1.5G". "-" where there is none. */
export function bytes(value: number | null): string {
  if (value === null) return "-";
  let unit = 0;
  let amount = value;
  for (; amount >= 1_000 && unit < UNITS.length - 1; unit++) amount /= 1_024;
  const digits = unit === 0 || amount >= 9.95 ? 0 : 1;
  return `${amount.toFixed(digits)}${UNITS[unit]}`;
}

/** The largest unit only: "4s", "12m", "3h", "9d". "-" where there is none. */
export function duration(ms: number | null): string {
  if (ms === null) return "-";
  const seconds = Math.max(0, ms / 1_000);
  if (seconds < 99.5) return `${seconds.toFixed(0)}s`;
  if (seconds < 99.5 * 60) return `${(seconds / 60).toFixed(0)}m`;
  if (seconds < 48 * 3_600) return `${(seconds / 3_600).toFixed(0)}h`;
  return `${(seconds / 86_400).toFixed(0)}d`;
}

const DURATIONS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** "90s", "10m", "2h", "1d", "500ms". Throws `usage`. */
export function parseDuration(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text);
  const value = match === null ? 0 : Math.round(Number(match[1]) * DURATIONS[match[2]!]!);
  if (value > 0) return value;
  throw usageError(`${name}: ${JSON.stringify(text)} is no time`, "write it as 500ms, 90s, 10m, 2h or 1d");
}

/** `NAME=VALUE` of an option that may be repeated. Throws `usage`. */
export function pairs(
  name: string,
  texts: readonly string[] | undefined,
): Record<string, string> | undefined {
  if (texts === undefined) return undefined;
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf("=");
      if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
      throw usageError(`${name}: ${JSON.stringify(text)} is not NAME=VALUE`);
    }),
  );
}
