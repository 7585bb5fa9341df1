import { close, closeSync, constants, mkdirSync, openSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { mountLayers } from "../host/fsmount.ts";
import { attachMount, cloneMountMapped, SystemCallError, unmount } from "../host/native.ts";
import type { SandboxUsers } from "./sandbox-users.ts";

/** Lays a writable layer over read-only ones. */

export interface OverlayRequest {
  /** A file system of its own, with the directories `upper` and `work`. */
  readonly layer: string;
  /** Uppermost first. */
  readonly lower: readonly string[];
  /** Where the merged tree is mounted. */
  readonly root: string;
  /** Undefined: users of the layers are those of the host. */
  readonly users: SandboxUsers | undefined;
}

const { O_RDONLY, O_DIRECTORY } = constants;

/** Throws a SystemCallError; then nothing is mounted by it. */
export function mountOverlay(request: OverlayRequest): void {
  if (request.users === undefined) mountPlain(request);
  else mountForUsers(request, request.users);
}

function mountForUsers(request: OverlayRequest, users: SandboxUsers): void {
  try {
    mountMapped(request, users.mountNamespace, (fd) => fd);
  } catch (error) {
    // Before Linux 6.15 layers have to be attached somewhere.
    if (!(error instanceof SystemCallError) || error.code !== "EINVAL") throw error;
    mountMappedAttached(request, users.mountNamespace);
  }
}

function mountPlain({ layer, lower, root }: OverlayRequest): void {
  const writable = openDirectory(layer);
  const opened = [writable];
  try {
    for (const path of lower) opened.push(openDirectory(path));
    overlay(writable, opened.slice(1), root);
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

function mountMapped(
  request: OverlayRequest,
  namespace: number,
  place: (fd: number, n: number) => number,
): void {
  const { layer, lower, root } = request;
  const opened: number[] = [];
  try {
    const mapped = [layer, ...lower].map((path, n) => {
      const clone = cloneMountMapped(path, namespace);
      opened.push(clone);
      const placed = place(clone, n);
      if (placed !== clone) opened.push(placed);
      return placed;
    });
    overlay(mapped[0]!, mapped.slice(1), root);
  } finally {
    // Each waits a millisecond or two for the kernel to take the clone apart, which nobody here has to.
    for (const fd of opened) close(fd, () => {});
  }
}

/** Attached for as long as it takes: the overlay keeps what it is made of. */
export function mountMappedAttached(request: OverlayRequest, namespace: number): void {
  const places: string[] = [];
  try {
    mountMapped(request, namespace, (clone, n) => {
      const path = join(request.root, "..", `mapped-${n}`);
      mkdirSync(path);
      places.push(path);
      attachMount(clone, path);
      return openDirectory(path);
    });
  } finally {
    for (const path of places) {
      unmount(path);
      rmdirSync(path);
    }
  }
}

const openDirectory = (path: string): number => openSync(path, O_RDONLY | O_DIRECTORY);

/** The sandbox can read its mount table; named by descriptor, the layers do not tell it where they lie on the host. */
function overlay(writable: number, lower: readonly number[], root: string): void {
  const at = (fd: number): string => `/proc/self/fd/${fd}`;
  const [upper, work] = [`${at(writable)}/upper`, `${at(writable)}/work`];
  mountLayers({ target: root, lower: lower.map(at), upper, work });
}
