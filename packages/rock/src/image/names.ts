import { readFileSync } from "node:fs";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { z } from "zod";
import { canonicalName } from "./reference.ts";
import { digestOf, entries, hexOf, isDigest, removeFile, replaceFile, type Store } from "./store.ts";

/** What names stand for. One file a name, replaced whole, so that writers in many processes never lose each other's. */

const NameRecord = z.object({
  name: z.string(),
  updatedAtMs: z.number(),
  target: z.discriminatedUnion("type", [
    z.object({
      type: z.literal("image"),
      manifest: z.string().refine(isDigest),
      /** Of the recipe, where the image was bootstrapped. */
      recipe: z.string().optional(),
    }),
    z.object({ type: z.literal("mapped"), to: z.string() }),
  ]),
  /** Why the name must go on standing for this, until `unholdName`. */
  held: z.string().optional(),
});
export type NameRecord = z.infer<typeof NameRecord>;
export type NameTarget = NameRecord["target"];

function pathOf(store: Store, canonical: string): string {
  const encoded = encodeURIComponent(canonical);
  // File names end at 255 bytes.
  const short =
    encoded.length <= 200 ? encoded : `${encoded.slice(0, 120)}-${hexOf(digestOf(canonical)).slice(0, 32)}`;
  return join(store.root, "names", `${short}.json`);
}

/** Throws an AleError for a name that is none, and `image-held` for one that stands for something else and must go on doing so. */
export function setName(store: Store, name: string, target: NameTarget, held?: string): NameRecord {
  const before = getName(store, name);
  if (before?.held !== undefined && JSON.stringify(before.target) !== JSON.stringify(target))
    throw heldName(before.name, before.held);
  const kept = held ?? before?.held;
  const record: NameRecord = {
    name: canonicalName(name),
    updatedAtMs: Date.now(),
    target,
    ...(kept === undefined ? {} : { held: kept }),
  };
  replaceFile(store, pathOf(store, record.name), `${JSON.stringify(record)}\n`);
  return record;
}

/** Undefined where nobody gave the name. Throws an AleError for a name that is none. */
export function getName(store: Store, name: string): NameRecord | undefined {
  return read(pathOf(store, canonicalName(name)));
}

export function listNames(store: Store): NameRecord[] {
  const parent = join(store.root, "names");
  return entries(parent)
    .sort()
    .flatMap((file) => read(join(parent, file)) ?? []);
}

export const heldName = (name: string, why: string): AleError =>
  new AleError("image-held", `${name} is kept: ${why}`, {
    next: "choose another name; what is evidence goes with ale guard evidence release and prune",
  });

/** From now on it can be removed, and stand for something else. */
export function unholdName(store: Store, name: string): void {
  const record = getName(store, name);
  if (record?.held === undefined) return;
  const { held: _, ...free } = record;
  replaceFile(store, pathOf(store, record.name), `${JSON.stringify(free)}\n`);
}

export function removeName(store: Store, name: string): void {
  removeFile(pathOf(store, canonicalName(name)));
}

function read(path: string): NameRecord | undefined {
  try {
    return NameRecord.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch {
    return undefined;
  }
}
