import { RESOURCE_FIGURES, suggest, Telemetry, TelemetryKind } from "@ale/core";
import { z } from "zod";

/**
 * Which fields records have, of which type, and in which kinds of records, for everything that names a field: selections, correlations and
 * fixtures. A field that no record has would make a rule that never fires, and nobody would know. Read off the schema of a record.
 */

export type FieldType =
  | { readonly type: "text" | "number" | "boolean" }
  /** Text that is one of these. */
  | { readonly type: "choice"; readonly options: readonly string[] }
  /** A part of the record with fields of its own, or a list of such: one can only ask whether it is there. */
  | { readonly type: "part" };

export interface Field {
  readonly is: FieldType;
  /** Whether a record has a list of such values. */
  readonly list: boolean;
}

export type FieldResult =
  | { readonly ok: true; readonly field: Field }
  | { readonly ok: false; readonly message: string };

/** What rules may know beside the record: `context.installing` while a call installs packages. The guard of an episode adds it. */
const Judged = Telemetry.extend({ context: z.object({ installing: z.boolean() }).optional() });

/** Parts that only some kinds of records have. `process` is filled in wherever the process can be found. */
const PARTS: Readonly<Record<string, (kind: TelemetryKind) => boolean>> = {
  net: (kind) => kind.startsWith("net."),
  dns: (kind) => kind === "dns.query",
  syscall: (kind) => kind.startsWith("syscall"),
  file: (kind) => kind.startsWith("file."),
  resource: (kind) => kind.startsWith("resource."),
  tool: (kind) => kind === "tool.call" || kind === "policy.change",
};

const FIELDS = collect(Judged, "", new Map());

/** The field of a dotted path, in records of one of these kinds. */
export function fieldAt(path: string, kinds: readonly TelemetryKind[] = TelemetryKind.options): FieldResult {
  const field = FIELDS.get(path);
  if (field === undefined)
    return { ok: false, message: `no record has a field "${path}"${meantField(path)}` };
  const [part = ""] = path.split(".");
  const has = PARTS[part];
  if (has === undefined || kinds.length === 0 || kinds.some(has)) return { ok: true, field };
  const others = TelemetryKind.options.filter(has).join(", ");
  return {
    ok: false,
    message: `no record of the kind ${kinds.join(" or ")} has a field "${path}"; there is one in ${others}`,
  };
}

/** `; did you mean "b"?`, or what there is. */
export function meant(word: string, known: readonly string[]): string {
  const near = suggest(word, known);
  return near === undefined ? `; there are: ${known.join(", ")}` : `; did you mean "${near}"?`;
}

/** The nearest name beside it says more than the nearest path: `net.prt` is `net.port`, and of `nett.port` the first word is wrong. */
function meantField(path: string): string {
  const known = [...FIELDS.keys()];
  const names = path.split(".");
  for (let at = 0; at < names.length; at++) {
    const above = names
      .slice(0, at)
      .map((name) => `${name}.`)
      .join("");
    const beside = known.filter((one) => one.startsWith(above) && !one.slice(above.length).includes("."));
    if (beside.includes(`${above}${names[at]}`)) continue;
    if (beside.length === 0) return `; "${names.slice(0, at).join(".")}" has no fields of its own`;
    const words = beside.map((one) => one.slice(above.length));
    const near = suggest(names[at]!, words);
    if (near === undefined) return `; there are: ${beside.join(", ")}`;
    const whole = [...names.slice(0, at), near, ...names.slice(at + 1)].join(".");
    return `; did you mean "${FIELDS.has(whole) ? whole : `${above}${near}`}"?`;
  }
  return "";
}

function collect(
  schema: z.ZodType,
  path: string,
  into: Map<string, Field>,
  list = false,
): ReadonlyMap<string, Field> {
  const inner = plain(schema);
  const put = (is: FieldType): ReadonlyMap<string, Field> => into.set(path, { is, list });
  if (inner instanceof z.ZodArray) return collect(inner.element as z.ZodType, path, into, true);
  if (inner instanceof z.ZodEnum) return put({ type: "choice", options: inner.options.map(String) });
  if (inner instanceof z.ZodNumber) return put({ type: "number" });
  if (inner instanceof z.ZodBoolean) return put({ type: "boolean" });
  if (inner instanceof z.ZodString) return put({ type: "text" });
  if (path !== "") put({ type: "part" });
  // Nothing looks into the entries of a list.
  if (list) return into;
  const shape =
    inner instanceof z.ZodObject
      ? (inner.shape as Record<string, z.ZodType>)
      : Object.fromEntries(RESOURCE_FIGURES.map((name) => [name, z.number()]));
  for (const [name, field] of Object.entries(shape))
    collect(field, path === "" ? name : `${path}.${name}`, into);
  return into;
}

/** Without `optional` and `nullable`. */
function plain(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable)
    return plain(schema.unwrap() as z.ZodType);
  return schema;
}
