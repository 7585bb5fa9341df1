import { mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import { AleError, isBeginning, MORE_OF_THE_ID, suggest } from "@ale/core";
import { z } from "zod";
import { canonicalName } from "../image/reference.ts";
import { entries, readWhole, writeWhole } from "../oci/state.ts";

/**
 * What is known of sandboxes that were put into quarantine: one file each in `<home>/evidence`, written before anything is frozen, so that
 * whoever finds the sandbox after a crash knows that its files are to be kept. A record is never removed: when the files are gone, it says
 * who let them go.
 */

const Kept = z.object({
  type: z.literal("kept"),
  atMs: z.number(),
  /** Of the image's manifest. */
  digest: z.string(),
  /** Of the files that the sandbox wrote above its image. */
  bytes: z.number(),
  /** When the process that had the sandbox could not do it any more: from its layers, by another one. */
  salvaged: z.boolean(),
});

const EvidenceRecord = z.object({
  schema: z.literal("ale/evidence@1"),
  id: z.string(),
  /** The image that its files become. */
  image: z.string(),
  sandbox: z.string(),
  /** Name of the driver's directory in `<home>/rock`. */
  space: z.string(),
  labels: z.record(z.string(), z.string()),
  askedAtMs: z.number(),
  files: z.discriminatedUnion("type", [
    /** `why`: the last attempt failed, and there will be another. */
    z.object({ type: z.literal("wanted"), why: z.string().optional() }),
    Kept,
    z.object({ type: z.literal("lost"), atMs: z.number(), why: z.string() }),
    z.object({ type: z.literal("removed"), atMs: z.number(), kept: Kept }),
  ]),
  /** A person needs it no longer. */
  released: z.object({ by: z.string(), atMs: z.number(), reason: z.string() }).nullable(),
});
export type EvidenceRecord = z.infer<typeof EvidenceRecord>;

/** What evidence is called in the image store. */
export const evidenceImage = (id: string): string => `ale/evidence:${id}`;

const directoryOf = (home: string): string => join(home, "evidence");

/** Throws an AleError `evidence-id` for an id that cannot be the tag of an image. */
export function newEvidence(
  id: string,
  of: { readonly sandbox: string; readonly space: string; readonly labels: Readonly<Record<string, string>> },
): EvidenceRecord {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$/.test(id))
    throw new AleError("evidence-id", `${JSON.stringify(id.slice(0, 120))} cannot name evidence`, {
      next: "use 1 to 100 letters, digits, hyphens, underscores and dots",
    });
  return {
    schema: "ale/evidence@1",
    id,
    image: canonicalName(evidenceImage(id)),
    sandbox: of.sandbox,
    space: basename(of.space),
    labels: { ...of.labels },
    askedAtMs: Date.now(),
    files: { type: "wanted" },
    released: null,
  };
}

export function writeEvidence(home: string, record: EvidenceRecord): void {
  mkdirSync(directoryOf(home), { recursive: true, mode: 0o700 });
  writeWhole(join(directoryOf(home), `${record.id}.json`), record);
}

export const readEvidence = (home: string, id: string): EvidenceRecord | undefined =>
  readWhole(join(directoryOf(home), `${id}.json`), EvidenceRecord);

/** The oldest first. */
export function evidenceRecords(home: string): EvidenceRecord[] {
  return entries(directoryOf(home))
    .filter((name) => name.endsWith(".json"))
    .flatMap((name) => readEvidence(home, name.slice(0, -".json".length)) ?? [])
    .sort((a, b) => a.askedAtMs - b.askedAtMs);
}

/** The one that `word` is, or an unambiguous beginning of (`isBeginning`). Throws an AleError `evidence-unknown`. */
export function findEvidence(home: string, word: string): EvidenceRecord {
  const records = evidenceRecords(home);
  const exact = records.find(({ id }) => id === word);
  if (exact !== undefined) return exact;
  const begun = records.filter(({ id }) => id.startsWith(word));
  if (!isBeginning(word) && begun.length > 0)
    throw new AleError("evidence-unknown", `${JSON.stringify(word)} is too short to name evidence`, {
      next: MORE_OF_THE_ID,
    });
  if (begun.length === 1) return begun[0]!;
  const near = suggest(
    word,
    records.map(({ id }) => id),
  );
  throw new AleError(
    "evidence-unknown",
    begun.length > 1
      ? `${begun.length} pieces of evidence begin with ${word}`
      : `there is no evidence ${JSON.stringify(word.slice(0, 120))}`,
    { next: near === undefined ? "ale guard evidence ls shows all" : `did you mean ${near}?` },
  );
}
