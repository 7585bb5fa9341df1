import { AleError } from "@ale/core";
import { BASE_IMAGE, resolveImage } from "../image/image.ts";
import { readLayer } from "../image/layers.ts";
import { getName, listNames, removeName } from "../image/names.ts";
import { type PullOptions, type PullProgress, pullImage } from "../image/pull.ts";
import { canonicalName } from "../image/reference.ts";
import { openStore, type Store } from "../image/store.ts";
import { loadImage } from "../image/stored-image.ts";
import type { ImageShelf, StoredImage } from "./images.ts";

/** The images of a home as a server offers them. */
export function localShelf(home: string, options: PullOptions = {}): ImageShelf {
  const store = openStore(home);
  return {
    list: async () => {
      const others = listNames(store).map(({ name }) => name);
      const names = [BASE_IMAGE, ...others.filter((name) => name !== canonicalName(BASE_IMAGE))];
      return names.flatMap((name) => shown(home, store, name) ?? []);
    },
    pull: async (name, progress, signal) => {
      refuseBase(name, "pulled");
      const onProgress = (step: PullProgress): void => progress(progressText(step));
      await pullImage(home, name, { ...options, onProgress }, signal);
      return shown(home, store, name)!;
    },
    remove: async (name) => {
      refuseBase(name, "removed");
      if (getName(store, name) === undefined)
        throw new AleError("image-unknown", `there is no local image called ${name}`, {
          next: "list the images",
        });
      removeName(store, name);
    },
  };
}

/** undefined: the name stands for something that is not there. */
function shown(home: string, store: Store, name: string): StoredImage | undefined {
  try {
    const { digest, mappedTo } = resolveImage(home, name);
    const record = getName(store, mappedTo ?? name);
    const image = record?.target.type === "image" ? loadImage(store, record.target.manifest) : undefined;
    const layers = image?.config.rootfs.diff_ids ?? [];
    const bytes = layers.reduce((sum, diffId) => sum + (readLayer(store, diffId)?.bytes ?? 0), 0);
    return { name, digest, bytes, createdAtMs: record?.updatedAtMs ?? null };
  } catch (error) {
    if (error instanceof AleError) return undefined;
    throw error;
  }
}

function refuseBase(name: string, what: string): void {
  if (canonicalName(name) === canonicalName(BASE_IMAGE))
    throw new AleError("image-in-use", `${BASE_IMAGE} is made on the host and cannot be ${what}`, {
      next: "ale setup image",
    });
}

function progressText({ type, digest, doneBytes, totalBytes }: PullProgress): string {
  const short = digest.replace(/^sha256:/, "").slice(0, 12);
  return totalBytes === 0 ? `${type} ${short}` : `${type} ${short} ${doneBytes}/${totalBytes}`;
}
