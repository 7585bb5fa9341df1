import { closeSync, readSync } from "node:fs";
import koffi from "koffi";
import { MS_NODEV, MS_NOSUID, mount, SystemCallError } from "./native.ts";
import { isRootless } from "./rootless.ts";

/**
 * Overlays of many layers. The old mount call takes its options in one page, room for some two hundred short names; the newer calls
 * (Linux 6.8 for overlay's `lowerdir+`) take them one by one.
 */

interface OverlayRequest {
  readonly target: string;
  /** Names of at most 20 bytes, uppermost first. */
  readonly lower: readonly string[];
  readonly upper: string;
  readonly work: string;
}

const CLOEXEC = 1;
const FSCONFIG_SET_FLAG = 0;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;
const MOUNT_ATTR_NOSUID = 2;
const MOUNT_ATTR_NODEV = 4;
const MOUNT_ATTR_NOEXEC = 8;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const AT_FDCWD = -100;
/** The same on every machine: these calls are younger than the common numbering. */
const NUMBER = { move_mount: 429, fsopen: 430, fsconfig: 431, fsmount: 432 } as const;

/**
 * What every layer must be by itself, whatever the kernel's defaults are: complete, without references to the layer below it, so that
 * it can be read, copied and put under another.
 */
const SELF_CONTAINED = { redirect_dir: "off", metacopy: "off", index: "off" } as const;
/** Where root is an ordinary user of the host, overlayfs keeps its notes in attributes that he may write. */
const SELF_CONTAINED_ROOTLESS = { ...SELF_CONTAINED, redirect_dir: "nofollow" } as const;

const settingsHere = () => (isRootless() ? SELF_CONTAINED_ROOTLESS : SELF_CONTAINED);

type Argument = readonly ["int" | "long" | "const char *" | "void *", string | number | null];
let library: { syscall(number: number, ...rest: unknown[]): number } | undefined;

function call(name: keyof typeof NUMBER, ...args: readonly Argument[]): number {
  library ??= { syscall: koffi.load("libc.so.6").func("long syscall(long number, ...)") };
  const result = library.syscall(NUMBER[name], ...args.flat());
  if (result < 0) throw new SystemCallError(name, koffi.errno());
  return Number(result);
}

/** Throws a SystemCallError. Nothing is synced to a disk when the last user is gone (`volatile`). */
export function mountLayers({ target, lower, upper, work }: OverlayRequest): void {
  if (lower.length > ONE_PAGE) mountWithManyLayers(target, upper, work, lower);
  else mountWithOptions(target, upper, work, lower);
}

/** Layers whose names are sure to fit into a page. */
const ONE_PAGE = 150;

function mountWithOptions(target: string, upper: string, work: string, lower: readonly string[]): void {
  const settings = Object.entries(settingsHere()).map(([key, value]) => `${key}=${value}`);
  if (isRootless()) settings.push("userxattr");
  const data = [`lowerdir=${lower.join(":")},upperdir=${upper},workdir=${work},volatile`, ...settings].join(
    ",",
  );
  mount({ type: "overlay", source: "ale", target, flags: MS_NOSUID | MS_NODEV, data });
}

function mountWithManyLayers(target: string, upper: string, work: string, lower: readonly string[]): void {
  const fs = call("fsopen", ["const char *", "overlay"], ["int", CLOEXEC]);
  try {
    const set = (key: string, value: string): void => configure(fs, FSCONFIG_SET_STRING, key, value);
    set("source", "ale");
    for (const path of lower) set("lowerdir+", path);
    set("upperdir", upper);
    set("workdir", work);
    for (const [key, value] of Object.entries(settingsHere())) set(key, value);
    if (isRootless()) configure(fs, FSCONFIG_SET_FLAG, "userxattr", null);
    configure(fs, FSCONFIG_SET_FLAG, "volatile", null);
    configure(fs, FSCONFIG_CMD_CREATE, null, null);
    const attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    const mounted = call("fsmount", ["int", fs], ["int", CLOEXEC], ["int", attributes]);
    try {
      const nowhere = ["const char *", ""] as const;
      const flags = ["int", MOVE_MOUNT_F_EMPTY_PATH] as const;
      call("move_mount", ["int", mounted], nowhere, ["int", AT_FDCWD], ["const char *", target], flags);
    } finally {
      closeSync(mounted);
    }
  } catch (error) {
    if (error instanceof SystemCallError) error.message += complaintOf(fs);
    throw error;
  } finally {
    closeSync(fs);
  }
}

/**
 * A file system that is attached nowhere and goes with its descriptor: reached below /proc/self/fd, seen by nobody else. Throws a
 * SystemCallError.
 */
export function mountDetached(type: string): number {
  const fs = call("fsopen", ["const char *", type], ["int", CLOEXEC]);
  try {
    configure(fs, FSCONFIG_CMD_CREATE, null, null);
    const attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    return call("fsmount", ["int", fs], ["int", CLOEXEC], ["int", attributes]);
  } finally {
    closeSync(fs);
  }
}

function configure(fs: number, command: number, key: string | null, value: string | null): void {
  const text = (of: string | null): Argument => (of === null ? ["void *", null] : ["const char *", of]);
  call("fsconfig", ["int", fs], ["int", command], text(key), text(value), ["int", 0]);
}

/** What the kernel has to say about a refusal, e.g. "overlay: too many lower directories". */
function complaintOf(fs: number): string {
  const buffer = Buffer.alloc(1024);
  try {
    const length = readSync(fs, buffer);
    return `: ${buffer.toString("utf8", 0, length).trim()}`;
  } catch {
    return "";
  }
}
