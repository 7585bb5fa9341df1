import { existsSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { removeTree } from "../host/mounts.ts";
import { mount, unmount } from "../host/native.ts";
import { mountOverlay } from "./overlay.ts";
import type { SandboxUsers } from "./sandbox-users.ts";
import type { UserNamespaces } from "./user-namespaces.ts";

/**
 * Why sandboxes cannot have users of their own on this host; undefined where they can. Tried out, with a layer in memory above a directory
 * of `images`: that a kernel knows idmapped mounts does not say that its file systems do.
 */
export async function whyNotMapped(
  space: string,
  images: string,
  users: UserNamespaces,
): Promise<string | undefined> {
  const place = join(space, ".mapping");
  const [layer, root] = [join(place, "layer"), join(place, "root")];
  let taken: SandboxUsers | undefined;
  try {
    taken = await users.take();
    for (const path of [place, layer, root]) mkdirSync(path);
    mount({ type: "tmpfs", source: "ale", target: layer, flags: 0, data: "size=64k" });
    for (const name of ["upper", "work"]) mkdirSync(join(layer, name));
    const lower = existsSync(images) ? images : space;
    mountOverlay({ layer, lower: [lower], root, users: taken });
    mkdirSync(join(root, "written"));
    const { uid } = statSync(join(layer, "upper", "written"));
    return uid === taken.size
      ? undefined
      : `a directory of the host's root has owner ${uid} in a mapped layer`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    for (const path of [root, layer]) while (unmount(path));
    removeTree(place);
    if (taken !== undefined) users.giveBack(taken);
  }
}
