import { AleError } from "@ale/core";
import { resolveImage } from "../image/image.ts";
import type { EngineImage, EngineImages } from "./engine-images.ts";

/** What a spec's image is at an engine: the local store's comes first, then the engine's own. */

/** Throws an AleError `image-missing`. */
export async function findImage(
  images: EngineImages,
  home: string,
  name: string,
  signal?: AbortSignal,
): Promise<EngineImage> {
  const local = localImage(home, name);
  if (local !== undefined) return images.import(local, signal);
  const found = await images.find(name, signal);
  if (found !== undefined) return found;
  throw new AleError("image-missing", `neither the engine nor the local store has the image ${name}`, {
    next: `pull it: docker pull ${name} (or podman pull ${name})`,
  });
}

function localImage(home: string, name: string): ReturnType<typeof resolveImage> | undefined {
  try {
    return resolveImage(home, name);
  } catch (reason) {
    if (reason instanceof AleError && (reason.code === "image-unknown" || reason.code === "image-missing"))
      return undefined;
    throw reason;
  }
}
