import { AleError, err, ok, type Result, suggest } from "@ale/core";
import type { z } from "zod";
import { type FamilyChoice, familiesOf } from "../rollout/tasks.ts";
import { Recipe } from "./recipe.ts";

/** One thing wrong with a recipe: where, what, and the nearest known key where a key is unknown. */
export interface RecipeFault {
  readonly path: string;
  readonly message: string;
}

/** Reads a recipe from a parsed YAML document. Unknown keys are refused with the nearest known one. */
export function parseRecipe(document: unknown): Result<Recipe, readonly RecipeFault[]> {
  const parsed = Recipe.safeParse(document);
  if (!parsed.success) return err(parsed.error.issues.flatMap((issue) => faultsOf(issue, document)));
  const faults = parsed.data.stages.flatMap((stage, index) =>
    stage.type === "sft"
      ? familyFaults(stage.demonstrations.families, `stages.${index}.demonstrations.families`)
      : familyFaults(stage.families, `stages.${index}.families`),
  );
  return faults.length === 0 ? ok(parsed.data) : err(faults);
}

/** Better said before an engine has started. */
function familyFaults(choice: FamilyChoice, path: string): RecipeFault[] {
  try {
    familiesOf(choice);
    return [];
  } catch (error) {
    if (!(error instanceof AleError)) throw error;
    return [{ path, message: `${error.message}; ${error.next}` }];
  }
}

function faultsOf(issue: z.core.$ZodIssue, document: unknown): RecipeFault[] {
  const path = issue.path.join(".");
  if (issue.code !== "unrecognized_keys") return [{ path: path || "(document)", message: issue.message }];
  const known = knownKeys(issue.path);
  const present = new Set(Object.keys((at(document, issue.path) ?? {}) as object));
  return issue.keys.map((key) => {
    const near = suggest(
      key,
      known.filter((name) => !present.has(name)),
    );
    const at = path === "" ? key : `${path}.${key}`;
    // Kinds of stages and of algorithms have keys of their own; one of another kind is known, and wrong here.
    if (known.includes(key))
      return { path: at, message: "belongs to another kind of this entry; leave it out here" };
    const message =
      near === undefined
        ? `unknown key; known keys: ${known.join(", ")}`
        : `unknown key; did you mean "${near}"?`;
    return { path: at, message };
  });
}

const at = (value: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>((inner, key) => (inner as Record<PropertyKey, unknown> | undefined)?.[key], value);

/** Keys that the schema allows at a path, found by walking the schema itself. Unions contribute the keys of all their members. */
function knownKeys(path: readonly PropertyKey[]): string[] {
  let level: SchemaNode[] = [Recipe as unknown as SchemaNode];
  for (const key of path) {
    level = level.flatMap(unwrapped).flatMap((node) => {
      if (node.def.shape !== undefined) return node.def.shape[String(key)] ?? [];
      return node.def.element ?? [];
    });
  }
  return [...new Set(level.flatMap(unwrapped).flatMap((node) => Object.keys(node.def.shape ?? {})))];
}

/** The few members of zod's schema definitions that the walk needs. */
interface SchemaNode {
  readonly def: {
    readonly shape?: Readonly<Record<string, SchemaNode>>;
    readonly element?: SchemaNode;
    readonly innerType?: SchemaNode;
    readonly options?: readonly SchemaNode[];
  };
}

function unwrapped(node: SchemaNode): SchemaNode[] {
  if (node.def.innerType !== undefined) return unwrapped(node.def.innerType);
  if (node.def.options !== undefined) return node.def.options.flatMap(unwrapped);
  return [node];
}
