import { AleError } from "@ale/core";
import { probeCgroups } from "../host/cgroup.ts";
import { readCounters } from "../host/cgroup-stats.ts";
import { isAlive, parseOwnerName } from "../host/owner.ts";
import { listImages, removeImage } from "../image/manage.ts";
import { unholdName } from "../image/names.ts";
import { openStore } from "../image/store.ts";
import { layerPlace, usageOf } from "../oci/layer.ts";
import { readSandboxState } from "../oci/state.ts";
import { isFrozen } from "../snapshot/freeze.ts";
import { type EvidenceRecord, evidenceRecords, findEvidence, writeEvidence } from "./book.ts";
import { spaceOf } from "./salvage.ts";

/** Evidence as people see it: what there is, what it costs, and how it goes. */

export interface FrozenEvidence {
  /** The process that has the sandbox. */
  readonly pid: number;
  readonly memoryBytes: number | null;
  /** Of what the sandbox wrote, beside the copy that is the image. */
  readonly diskBytes: number | null;
}

export interface EvidenceInfo extends EvidenceRecord {
  /** Undefined where no process of it is left. */
  readonly frozen: FrozenEvidence | undefined;
  /** Wanted, and the process that should keep it is gone: whoever opens a driver next does. */
  readonly orphaned: boolean;
  /** What would be free if it were removed: layers that no other image shares. */
  readonly ownBytes: number;
  /** Sandboxes and snapshots that stand on it. */
  readonly usedBy: readonly string[];
}

/** The oldest first. */
export function listEvidence(home: string): EvidenceInfo[] {
  const records = evidenceRecords(home);
  if (records.length === 0) return [];
  const images = new Map(listImages(home).map((image) => [image.name, image]));
  return records.map((record) => {
    const image = record.files.type === "kept" ? images.get(record.image) : undefined;
    return {
      ...record,
      frozen: frozenOf(home, record),
      orphaned: record.files.type === "wanted" && ownerOf(record) === undefined,
      ownBytes: image?.ownBytes ?? 0,
      usedBy: image?.neededBy ?? [],
    };
  });
}

/** Of the process that has the sandbox; undefined where it is gone, or is whichever server has the directory. */
function ownerOf(record: EvidenceRecord): number | undefined {
  const owner = parseOwnerName(record.space);
  return owner !== undefined && isAlive(owner) ? owner.pid : undefined;
}

function frozenOf(home: string, record: EvidenceRecord): FrozenEvidence | undefined {
  const pid = ownerOf(record);
  const space = spaceOf(home, record);
  if (pid === undefined || space === undefined) return undefined;
  const state = readSandboxState(space, record.sandbox);
  const cgroups = probeCgroups();
  if (state === undefined || !isFrozen(cgroups, record.sandbox)) return undefined;
  return {
    pid,
    memoryBytes: readCounters(cgroups, record.sandbox).memoryBytes,
    diskBytes: usageOf(layerPlace(space, state.layer)).diskBytes,
  };
}

/** From now on it may be removed, and what is still frozen of it ends. Throws an AleError: `evidence-unknown`, `evidence-released`. */
export function releaseEvidence(
  home: string,
  word: string,
  release: { readonly by: string; readonly reason: string },
): EvidenceRecord {
  const record = findEvidence(home, word);
  if (record.released !== null)
    throw new AleError("evidence-released", `${record.id} was released before, by ${record.released.by}`, {
      next: "ale guard evidence prune removes what was released",
    });
  const released = { ...record, released: { ...release, atMs: Date.now() } };
  writeEvidence(home, released);
  return released;
}

export interface EvidencePrune {
  readonly removed: readonly { readonly id: string; readonly bytes: number }[];
  /** Released, and still there: why. */
  readonly kept: readonly { readonly id: string; readonly why: string }[];
  /** Not released. */
  readonly held: number;
}

/** Removes the files of what was released, and of nothing else. A sandbox that was made of it keeps it. */
export function pruneEvidence(home: string): EvidencePrune {
  const records = evidenceRecords(home).filter(
    ({ files }) => files.type === "kept" || files.type === "wanted",
  );
  const removed: { id: string; bytes: number }[] = [];
  const kept: { id: string; why: string }[] = [];
  for (const record of records.filter(({ released }) => released !== null)) {
    const { id, files } = record;
    if (files.type !== "kept") {
      kept.push({ id, why: "its files are only being kept" });
      continue;
    }
    try {
      const bytes = removeEvidence(home, record);
      writeEvidence(home, { ...record, files: { type: "removed", atMs: Date.now(), kept: files } });
      removed.push({ id, bytes });
    } catch (error) {
      if (!(error instanceof AleError)) throw error;
      kept.push({ id, why: error.message });
    }
  }
  return { removed, kept, held: records.filter(({ released }) => released === null).length };
}

function removeEvidence(home: string, { image }: EvidenceRecord): number {
  const store = openStore(home);
  unholdName(store, image);
  try {
    return removeImage(home, image).bytes;
  } catch (error) {
    if (!(error instanceof AleError)) throw error;
    if (error.code === "image-unknown") return 0;
    throw error;
  }
}
