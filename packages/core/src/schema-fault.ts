import type { z } from "zod";

/** What does not fit a schema, as a person would say it: `"event.type" is missing; "seq" is a text, not a number`. Pure. */

const MOST = 3;

/** `value`: what was parsed. At most three faults are named, and how many more there are. Texts of the value are quoted, cut at 40 characters. */
export function schemaFault(error: z.ZodError, value: unknown): string {
  const said = error.issues.slice(0, MOST).map((issue) => faultOf(issue, value));
  const more = error.issues.length - said.length;
  return `${said.join("; ")}${more > 0 ? `; and ${more} more` : ""}`;
}

function faultOf(issue: z.core.$ZodIssue, value: unknown): string {
  const path = issue.path.map(String);
  const name = path.length === 0 ? "it" : `"${path.join(".")}"`;
  const found = at(value, path);
  if (found === undefined && path.length > 0) return `${name} is missing`;
  switch (issue.code) {
    case "invalid_type":
      return `${name} is ${kindOf(found)}, not ${KINDS[issue.expected] ?? issue.expected}`;
    case "invalid_value":
      return `${name} is ${quoted(found)}, not ${issue.values.map((one) => JSON.stringify(one)).join(" or ")}`;
    case "invalid_format":
      return `${name} has not the form that it must have: ${quoted(found)}`;
    case "unrecognized_keys":
      return `${name} has what it cannot have: ${issue.keys.map((key) => quoted(key)).join(", ")}`;
    case "invalid_union":
      return `${name} fits none of the forms that it may have: ${quoted(found)}`;
    default:
      return `${name}: ${issue.message.replace(/^[A-Z]/, (letter) => letter.toLowerCase())}`;
  }
}

const KINDS: Readonly<Record<string, string>> = {
  string: "a text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  object: "an object",
  record: "an object",
  array: "a list",
  null: "null",
};

const kindOf = (value: unknown): string =>
  value === null ? "null" : Array.isArray(value) ? "a list" : (KINDS[typeof value] ?? typeof value);

function quoted(value: unknown): string {
  if (typeof value === "object" && value !== null) return kindOf(value);
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

function at(value: unknown, path: readonly string[]): unknown {
  let here = value;
  for (const step of path) {
    if (typeof here !== "object" || here === null || !Object.hasOwn(here, step)) return undefined;
    here = (here as Record<string, unknown>)[step];
  }
  return here;
}
