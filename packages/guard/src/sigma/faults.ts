import { TelemetryKind } from "@ale/core";
import { isMeant, mentionsOf, parseCondition } from "./condition.ts";
import { compileField, type Scalar } from "./field.ts";
import {
  type CorrelationRule,
  Detection,
  type EventRule,
  factsOf,
  type Selection,
  type SigmaRule,
} from "./rule.ts";
import { fieldAt, meant } from "./schema.ts";
import { valueFaults } from "./values.ts";

/** Everything that makes a well-formed rule one that cannot be right, by the path of what is wrong in it. Pure. */
export interface Located {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

export function ruleFaults(rule: SigmaRule): Located[] {
  return [
    ...tagFaults(rule),
    ...("detection" in rule ? detectionFaults(rule) : correlationFaults(rule)),
    ...fixtureFaults(rule),
  ];
}

function tagFaults(rule: SigmaRule): Located[] {
  const facts = factsOf(rule);
  if (facts.severity === null) return [];
  const faults: Located[] = [];
  if (facts.technique === undefined)
    faults.push({ path: ["tags"], message: "no tag names an ATT&CK technique, e.g. attack.t1572" });
  if (facts.category === undefined)
    faults.push({
      path: ["tags"],
      message: "no tag names a category: ale.safety-and-security, ale.controllability or ale.trustworthiness",
    });
  return faults;
}

function detectionFaults(rule: EventRule): Located[] {
  const { condition, ...rest } = rule.detection;
  const categories = [rule.logsource.category].flat();
  const parsed = Detection.safeParse(rest);
  if (!parsed.success)
    return parsed.error.issues.map((issue) => ({
      path: ["detection", ...issue.path],
      message: "a selection is a map of fields, or a list of such maps",
    }));
  const names = Object.keys(parsed.data);
  return [
    ...categoryFaults(categories),
    ...Object.entries(parsed.data).flatMap(([name, selection]) =>
      selectionFaults(
        name,
        selection,
        TelemetryKind.options.filter((kind) => categories.includes(kind)),
      ),
    ),
    ...[condition].flat().flatMap((text) => conditionFaults(text, names)),
    ...(rule.fields ?? []).flatMap((path, i): Located[] => absent(path, ["fields", i])),
  ];
}

/** A kind that no record has would make a rule that never fires, and nobody would know. */
function categoryFaults(categories: readonly string[]): Located[] {
  return categories
    .filter((category) => !TelemetryKind.options.some((kind) => kind === category))
    .map((category) => ({
      path: ["logsource", "category"],
      message: `no record is of the kind "${category}"${meant(category, TelemetryKind.options)}`,
    }));
}

/** `kinds`: of the records that the rule looks at. */
function selectionFaults(name: string, selection: Selection, kinds: readonly TelemetryKind[]): Located[] {
  const maps = Array.isArray(selection) ? selection : [selection];
  return maps.flatMap((map, i) => {
    const place = ["detection", name, ...(Array.isArray(selection) ? [i] : [])];
    const own = kindsOf(map, kinds);
    if (own.length === 0 && kinds.length > 0)
      return [
        {
          path: [...place, "kind"],
          message: `the rule looks only at records of the kind ${kinds.join(" or ")} (logsource.category)`,
        },
      ];
    return Object.entries(map).flatMap(([key, value]): Located[] =>
      lineFaults(key, value, own).map(({ index, message }) => ({
        path: [...place, key, ...(index === undefined ? [] : [index])],
        message,
      })),
    );
  });
}

function lineFaults(
  key: string,
  value: Scalar | readonly Scalar[],
  kinds: readonly TelemetryKind[],
): readonly { readonly index?: number; readonly message: string }[] {
  const made = compileField(key, value);
  if (!made.ok) return [made];
  const found = fieldAt(key.split("|")[0]!, kinds);
  return found.ok ? valueFaults(key, found.field, value) : [found];
}

/** Which kinds a selection leaves over by its own `kind`. One that is not there is told of as a value. */
function kindsOf(
  map: Readonly<Record<string, unknown>>,
  kinds: readonly TelemetryKind[],
): readonly TelemetryKind[] {
  if (map.kind === undefined) return kinds;
  const wanted = [map.kind].flat().map(String);
  if (!wanted.every((kind) => TelemetryKind.safeParse(kind).success)) return kinds;
  return kinds.filter((kind) => wanted.includes(kind));
}

function conditionFaults(text: string, names: readonly string[]): Located[] {
  const path = ["detection", "condition"];
  const parsed = parseCondition(text);
  if (!parsed.ok) return [{ path, message: `condition, character ${parsed.at + 1}: ${parsed.message}` }];
  return mentionsOf(parsed.condition).flatMap((mention): Located[] => {
    if (mention.type === "name") {
      if (names.includes(mention.name)) return [];
      return [{ path, message: `no selection is called "${mention.name}"${meant(mention.name, names)}` }];
    }
    if (names.some((name) => isMeant(mention.pattern, name))) return [];
    return [{ path, message: `no selection matches "${mention.pattern}"` }];
  });
}

function correlationFaults(rule: CorrelationRule): Located[] {
  const { type, condition, "group-by": group, rules } = rule.correlation;
  const path = ["correlation", "condition"];
  const field = condition?.field;
  const faults = group.flatMap((name, i) => singleFaults(name, ["correlation", "group-by", i]));
  if (field !== undefined) faults.push(...singleFaults(field, [...path, "field"]));
  if (type === "temporal" || type === "temporal_ordered") {
    if (rules.length < 2)
      faults.push({ path: ["correlation", "rules"], message: `${type} needs two rules or more` });
    return faults;
  }
  if (condition === undefined || (condition.gte === undefined) === (condition.gt === undefined))
    faults.push({ path, message: `${type} needs a condition with gte or gt` });
  else if (type !== "event_count" && field === undefined)
    faults.push({ path, message: `${type} needs condition.field` });
  else if (type === "value_sum" && field !== undefined) {
    const found = fieldAt(field);
    if (found.ok && found.field.is.type !== "number")
      faults.push({ path: [...path, "field"], message: `"${field}" is no number that could be added` });
  }
  return faults;
}

function absent(name: string, path: readonly PropertyKey[]): Located[] {
  const found = fieldAt(name);
  return found.ok ? [] : [{ path, message: found.message }];
}

/** A field that has one value. */
function singleFaults(name: string, path: readonly PropertyKey[]): Located[] {
  const found = fieldAt(name);
  if (!found.ok) return [{ path, message: found.message }];
  if (found.field.is.type !== "part" && !found.field.list) return [];
  return [{ path, message: `"${name}" has no single value to count by` }];
}

/** A fixture with a slip of the pen holds whatever the rule does. */
function fixtureFaults(rule: SigmaRule): Located[] {
  return (["fires", "silent"] as const).flatMap((expected) =>
    (rule.ale?.fixtures?.[expected] ?? []).flatMap((fixture, i) => {
      const path = ["ale", "fixtures", expected, i];
      return Array.isArray(fixture)
        ? fixture.flatMap((record, j) => recordFaults(record, "", [...path, j]))
        : recordFaults(fixture, "", path);
    }),
  );
}

function recordFaults(value: object, above: string, path: readonly PropertyKey[]): Located[] {
  return Object.entries(value).flatMap(([name, inner]): Located[] => {
    const field = `${above}${name}`;
    const here = [...path, name];
    const found = fieldAt(field);
    if (!found.ok) return [{ path: here, message: found.message }];
    const { is, list } = found.field;
    if (inner === null || (list && is.type === "part")) return [];
    if (is.type === "part" && typeof inner === "object") return recordFaults(inner, `${field}.`, here);
    const values: readonly unknown[] = list && Array.isArray(inner) ? inner : [inner];
    return values.some((one) => typeof one === "object")
      ? [{ path: here, message: `"${field}" has no fields of its own` }]
      : valueFaults(field, found.field, values as readonly Scalar[]).map(({ message }) => ({
          path: here,
          message,
        }));
  });
}
