import type { ImageShelf, StoredImage } from "../server/images.ts";
import { listImages, removeImage } from "./manage.ts";
import { type PullOptions, pullImage } from "./pull.ts";
import { canonicalName } from "./reference.ts";

/** The home's images for the server. */
export function imageShelf(home: string, options: PullOptions = {}): ImageShelf {
  const list = (): StoredImage[] =>
    listImages(home).map(({ name, digest, bytes, updatedAtMs }) => ({
      name,
      digest,
      bytes,
      createdAtMs: updatedAtMs,
    }));
  return {
    list: async () => list(),
    pull: async (name, progress, signal) => {
      const onProgress: PullOptions["onProgress"] = ({ type, digest, doneBytes, totalBytes }) => {
        const short = digest.slice("sha256:".length, "sha256:".length + 12);
        progress(
          type === "downloading" ? `${short}: ${doneBytes} of ${totalBytes} bytes` : `${short}: ${type}`,
        );
      };
      await pullImage(home, name, { ...options, onProgress }, signal);
      return list().find((image) => image.name === canonicalName(name))!;
    },
    remove: async (name) => {
      removeImage(home, name);
    },
  };
}
