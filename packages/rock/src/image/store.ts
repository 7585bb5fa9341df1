import { createHash, randomBytes } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AleError } from "@ale/core";
import { removeTree } from "../host/mounts.ts";
import { isAlive, ownerName, parseOwnerName, self } from "../host/owner.ts";
import { tryLock } from "./native-image.ts";

/**
 * Where images lie: `<home>/images`. Whatever is made is made under `staging/` in a directory that names its owner and renamed into
 * place when it is whole, so that a crash leaves nothing that could be taken for a part of an image, and many processes can work
 * on one store.
 *
 *     names/<name>.json      what a name stands for
 *     blobs/sha256/<hex>     manifests, configurations, layers as they came from a registry
 *     layers/<hex>/          `diff`: a layer unpacked in overlayfs form; `layer.json`: what is known about it
 *     staging/, locks/       under way
 */

export type Digest = `sha256:${string}`;

const DIGEST = /^sha256:[0-9a-f]{64}$/;
export const isDigest = (text: string): text is Digest => DIGEST.test(text);

export const digestOf = (bytes: Uint8Array | string): Digest =>
  `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

export interface Store {
  readonly root: string;
}

export const openStore = (home: string): Store => ({ root: join(home, "images") });

/** The hexadecimal digits of a digest. Throws for what is none, so that a digest is always safe in a path. */
export function hexOf(digest: string): string {
  if (!isDigest(digest))
    throw new AleError("digest-invalid", `${JSON.stringify(digest.slice(0, 100))} is no sha256 digest`);
  return digest.slice("sha256:".length);
}

export const blobPath = (store: Store, digest: string): string =>
  join(store.root, "blobs", "sha256", hexOf(digest));

export const hasBlob = (store: Store, digest: string): boolean => existsSync(blobPath(store, digest));

/** A small blob: a manifest or a configuration. */
export function writeBlob(store: Store, bytes: Uint8Array | string): Digest {
  const digest = digestOf(bytes);
  if (!hasBlob(store, digest)) replaceFile(store, blobPath(store, digest), bytes);
  return digest;
}

/** Undefined where there is none, or where its bytes are no longer those that the digest names. */
export function readBlob(store: Store, digest: string): Buffer | undefined {
  try {
    const bytes = readFileSync(blobPath(store, digest));
    return digestOf(bytes) === digest ? bytes : undefined;
  } catch {
    return undefined;
  }
}

/** Puts a file in place whole or not at all. */
export function replaceFile(store: Store, path: string, content: Uint8Array | string): void {
  mkdirSync(join(path, ".."), { recursive: true });
  using place = stage(store);
  const fresh = join(place.path, "file");
  writeFileSync(fresh, content, { flush: true });
  renameSync(fresh, path);
}

/** A directory of one's own, gone with everything in it when it is disposed of, or when its owner has died and another stages. */
export interface Stage extends Disposable {
  readonly path: string;
}

export function stage(store: Store): Stage {
  const parent = join(store.root, "staging");
  mkdirSync(parent, { recursive: true, mode: 0o700 });
  const path = join(parent, `${ownerName(self())}-${randomBytes(6).toString("hex")}`);
  mkdirSync(path, { mode: 0o700 });
  return { path, [Symbol.dispose]: () => removeTree(path) };
}

/** Removes what processes left that died half-way. */
export function clearDeadStages(store: Store): void {
  for (const name of entries(join(store.root, "staging"))) {
    const owner = parseOwnerName(name);
    if (owner !== undefined && !isAlive(owner)) removeTree(join(store.root, "staging", name));
  }
}

const LOCK_POLL_MS = 50;

/** Waits until no other has the lock. It goes with its process, however that ends. */
export async function lock(
  store: Store,
  name: string,
  signal?: AbortSignal,
  kind: "shared" | "alone" = "alone",
): Promise<Disposable> {
  const parent = join(store.root, "locks");
  mkdirSync(parent, { recursive: true, mode: 0o700 });
  const fd = openSync(join(parent, name), "w", 0o600);
  try {
    while (!tryLock(fd, kind)) await sleep(LOCK_POLL_MS, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return { [Symbol.dispose]: () => closeSync(fd) };
}

/** Held while something is made whose parts nothing refers to yet; whoever clears the store waits for it. */
export const holdStore = (store: Store, signal?: AbortSignal): Promise<Disposable> =>
  lock(store, "store", signal, "shared");

/** For clearing up. Undefined while something is being made. */
export function holdStoreAlone(store: Store): Disposable | undefined {
  const parent = join(store.root, "locks");
  mkdirSync(parent, { recursive: true, mode: 0o700 });
  const fd = openSync(join(parent, "store"), "w", 0o600);
  if (tryLock(fd, "alone")) return { [Symbol.dispose]: () => closeSync(fd) };
  closeSync(fd);
  return undefined;
}

export function entries(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

export const removeFile = (path: string): void => rmSync(path, { force: true });

/** What went wrong while the store was written, in words; anything but a full or read-only disk is thrown as it came. */
export function writeFailure(error: unknown, what: string): unknown {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (code === "ENOSPC" || code === "EDQUOT")
    return new AleError("disk-full", `no space left while ${what}; nothing half-made was kept`, {
      next: "free some space (`ale rock image prune`), or set ALE_HOME to a larger disk",
      cause: error,
    });
  if (code === "EROFS" || code === "EACCES")
    return new AleError("store-unwritable", `the image store cannot be written while ${what}: ${code}`, {
      next: "check the permissions of $ALE_HOME/images, or set ALE_HOME to a directory of your own",
      cause: error,
    });
  return error;
}
