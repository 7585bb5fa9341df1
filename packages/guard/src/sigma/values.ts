import { compileField, type Modifier, type Scalar } from "./field.ts";
import { type Field, fieldAt, meant } from "./schema.ts";

/** Whether values suit the field that they are compared with. Each fault names the value by its place in the list. */
export interface ValueFault {
  /** Undefined: the line as a whole. */
  readonly index?: number;
  readonly message: string;
}

export function valueFaults(key: string, field: Field, value: Scalar | readonly Scalar[]): ValueFault[] {
  const [path = "", ...names] = key.split("|");
  const modifiers = names as Modifier[];
  if (modifiers.includes("exists")) return [];
  const values: readonly Scalar[] = Array.isArray(value) ? value : [value as Scalar];
  return values.flatMap((wanted, i): ValueFault[] => {
    const message = wanted === null ? undefined : faultOf(path, field, modifiers, wanted);
    return message === undefined ? [] : [{ ...(Array.isArray(value) ? { index: i } : {}), message }];
  });
}

function faultOf(
  path: string,
  { is }: Field,
  modifiers: readonly Modifier[],
  wanted: Scalar,
): string | undefined {
  const has = (modifier: Modifier): boolean => modifiers.includes(modifier);
  if (has("fieldref")) {
    const other = fieldAt(String(wanted));
    return other.ok ? undefined : other.message;
  }
  const compares = modifiers.some((modifier) => /^[gl]te?$/.test(modifier));
  if (compares && is.type !== "number") return `"${path}" is no number that could be more or less`;
  if ((has("re") || has("cidr")) && (is.type === "number" || is.type === "boolean"))
    return `"${path}" is no text: write numbers as they are, or use gt, gte, lt and lte`;
  switch (is.type) {
    case "part":
      return `"${path}" has no value of its own; name one of its fields, or ask with |exists whether it is there`;
    case "boolean":
      return typeof wanted === "boolean" ? undefined : `"${path}" is true or false, without quotes`;
    case "number":
      if (typeof wanted === "number" || /^-?[\d.*?]+$/.test(String(wanted))) return undefined;
      return `"${path}" is a number, and "${wanted}" is none`;
    case "text":
      return typeof wanted === "string" ? undefined : `"${path}" is text: put ${wanted} into quotes`;
    case "choice":
      return choiceFault(path, is.options, modifiers, wanted);
    default:
      return is satisfies never;
  }
}

/** Whatever the comparison is, one of the possible values has to pass it. */
function choiceFault(
  path: string,
  options: readonly string[],
  modifiers: readonly Modifier[],
  wanted: Scalar,
): string | undefined {
  const made = compileField(["value", ...modifiers].join("|"), wanted);
  if (!made.ok || options.some((value) => made.test({ value }))) return undefined;
  return `"${path}" is never ${modifiers.length === 0 ? "" : `such that ${modifiers.join(" and ")} holds of `}"${wanted}"${meant(String(wanted), options)}`;
}
