import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { lock, openStore } from "../image/store.ts";
import { layerPlace } from "../oci/layer.ts";
import { readSandboxState } from "../oci/state.ts";
import type { Layers } from "../snapshot/commit.ts";
import { type EvidenceRecord, evidenceRecords, readEvidence, writeEvidence } from "./book.ts";
import { kept } from "./keep.ts";

/**
 * Keeps the files of sandboxes in quarantine whose own process did not come to it: because it was killed, or because the disk was full.
 * Before anything of the driver's directory is removed; no process of those sandboxes may run.
 */

export interface Salvage {
  readonly kept: readonly string[];
  /** By sandbox: their directory must stay. */
  readonly failures: readonly { readonly id: string; readonly what: string }[];
}

const isWantedOf =
  (space: string) =>
  ({ files, space: name }: EvidenceRecord): boolean =>
    files.type === "wanted" && name === basename(space);

export async function salvage(home: string, space: string): Promise<Salvage> {
  const wanted = evidenceRecords(home).filter(isWantedOf(space));
  if (wanted.length === 0) return { kept: [], failures: [] };
  // Every process that opens a driver looks after the dead.
  using _ = await lock(openStore(home), `salvage-${basename(space)}`);
  const done: string[] = [];
  const failures: { id: string; what: string }[] = [];
  for (const { id, sandbox } of wanted) {
    const record = readEvidence(home, id);
    if (record === undefined || !isWantedOf(space)(record)) continue;
    const lose = (why: string): void =>
      writeEvidence(home, { ...record, files: { type: "lost", atMs: Date.now(), why } });
    try {
      const layers = layersOf(space, sandbox);
      if (typeof layers === "string") lose(layers);
      else {
        writeEvidence(home, await kept(home, record, layers, true));
        done.push(id);
      }
    } catch (error) {
      const what = error instanceof Error ? error.message : String(error);
      failures.push({ id: sandbox, what: `its files are evidence (${id}) and cannot be kept: ${what}` });
    }
  }
  return { kept: done, failures };
}

/** What is still wanted of a directory that is about to go. */
export function loseWanted(home: string, space: string, why: string): void {
  for (const record of evidenceRecords(home).filter(isWantedOf(space)))
    writeEvidence(home, { ...record, files: { type: "lost", atMs: Date.now(), why } });
}

/** Or why there is nothing left of it. */
function layersOf(space: string, sandbox: string): Layers | string {
  const state = readSandboxState(space, sandbox);
  if (state === undefined) return "the sandbox was gone before its files were kept";
  const layers = [state.layer, ...state.lower].map((id) => layerPlace(space, id).upper);
  const missing = layers.find((layer) => !existsSync(layer));
  return missing === undefined
    ? { image: state.image, layers }
    : "its files lay in memory, and went with the machine's restart";
}

/** Undefined where there is none any more. */
export const spaceOf = (home: string, { space }: EvidenceRecord): string | undefined => {
  const directory = join(home, "rock", space);
  return existsSync(directory) ? directory : undefined;
};
