import { createHash } from "node:crypto";

/**
 * One text for one value, so that a hash of it means something. Object keys are sorted by UTF-16 code units, no white space,
 * numbers as ECMAScript prints them (RFC 8785). `undefined` members are left out, as JSON.stringify does; NaN and infinities
 * are refused because they would silently become null.
 */
export function canonicalJson(value: unknown): string {
  if (value === null || typeof value === "boolean" || typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw new TypeError(`canonicalJson: ${value} has no JSON form`);
    return JSON.stringify(value);
  }
  if (Array.isArray(value))
    return `[${value.map((item) => canonicalJson(item === undefined ? null : item)).join(",")}]`;
  if (typeof value === "object") {
    const record = value as Record<string, unknown>;
    const members = Object.keys(record)
      .filter((key) => record[key] !== undefined)
      .sort()
      .map((key) => `${JSON.stringify(key)}:${canonicalJson(record[key])}`);
    return `{${members.join(",")}}`;
  }
  throw new TypeError(`canonicalJson: a ${typeof value} has no JSON form`);
}

/** Lower-case hexadecimal SHA-256 of a text (UTF-8) or bytes. */
export function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/** Identity of a JSON value: `sha256(canonicalJson(value))`. */
export function digestOf(value: unknown): string {
  return sha256(canonicalJson(value));
}
