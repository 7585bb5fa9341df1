import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { AleError, sha256 } from "@ale/core";
import { z } from "zod";

/**
 * Where the weights of a shipped model come from, recorded beside them: enough to make them again and to see that nobody changed
 * them since.
 */
export const Provenance = z.object({
  schema: z.literal("ale/provenance@1"),
  recipe: z.string(),
  /** Hash of the recipe as it was run; equal to that of the file today, or the weights are out of date. */
  recipeHash: z.string(),
  seed: z.number().int(),
  steps: z.number().int(),
  lossPerToken: z.number(),
  demonstrations: z.object({ episodes: z.number().int(), passRate: z.number() }),
  /** Digest over the seal hashes of the demonstrations' logs, in order. */
  logDigest: z.string(),
  /** Held-out evaluation at the end of the recipe. */
  evaluation: z.object({ tasks: z.number().int(), passes: z.number().int(), violations: z.number().int() }),
  software: z.record(z.string(), z.string()),
  /** SHA-256 of every file of the model. */
  files: z.record(z.string(), z.string()),
});
export type Provenance = z.infer<typeof Provenance>;

const FILE = "provenance.json";

/** SHA-256 of every file in a model directory but the provenance itself, by name. */
export function modelFiles(directory: string): Record<string, string> {
  const names = readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== FILE)
    .map((entry) => entry.name);
  return Object.fromEntries(names.sort().map((name) => [name, sha256(readFileSync(join(directory, name)))]));
}

/** Null where a model has none. Throws `model-damaged` when it does not describe the files beside it. */
export function readProvenance(directory: string): Provenance | null {
  const path = join(directory, FILE);
  if (!existsSync(path)) return null;
  const provenance = Provenance.parse(JSON.parse(readFileSync(path, "utf8")));
  const now = modelFiles(directory);
  const changed = [...new Set([...Object.keys(now), ...Object.keys(provenance.files)])].filter(
    (name) => now[name] !== provenance.files[name],
  );
  if (changed.length === 0) return provenance;
  throw new AleError(
    "model-damaged",
    `${directory}: not the files that were recorded: ${changed.join(", ")}`,
    {
      next: "get the directory again, or make the model with ./quickstart --from-scratch",
    },
  );
}
