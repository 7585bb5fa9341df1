import { readFileSync } from "node:fs";
import { join } from "node:path";
import { entries } from "./store.ts";

/** Which layers sandboxes and snapshots stand on, read from the state that drivers keep on disk, whoever owns them. */

export interface LayerUse {
  /** Ids of sandboxes and snapshots by the name of a layer's directory. */
  readonly layers: ReadonlyMap<string, readonly string[]>;
}

const LAYER = /\/images\/layers\/([0-9a-f]{32})\//g;

/** A state that cannot be understood still counts: its text is searched, not its structure. */
export function layersInUse(home: string): LayerUse {
  const layers = new Map<string, string[]>();
  const note = (id: string, path: string): void => {
    for (const [, layer] of textOf(path).matchAll(LAYER))
      layers.set(layer!, [...new Set([...(layers.get(layer!) ?? []), id])]);
  };
  const rock = join(home, "rock");
  for (const space of entries(rock)) {
    for (const id of entries(join(rock, space))) {
      if (id !== ".snapshots") note(id, join(rock, space, id, "state.json"));
      else
        for (const file of entries(join(rock, space, id)))
          note(file.replace(/\.json$/, ""), join(rock, space, id, file));
    }
  }
  return { layers };
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
