import { closeSync } from "node:fs";
import koffi from "koffi";

/**
 * The few system calls that Node does not offer: mounts (plain and idmapped), advisory locks, and inotify with the events of reading. Called in process, a
 * mount costs about 0.2 ms; through mount(8) it costs 5 ms and a blocked event loop.
 */

export const MS_RDONLY = 1;
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MS_REMOUNT = 32;
export const MS_BIND = 4096;
export const MS_REC = 16384;
export const MS_PRIVATE = 1 << 18;
export const MS_SLAVE = 1 << 19;
export const MS_SHARED = 1 << 20;
export const MNT_DETACH = 2;

interface LibC {
  mount(
    source: string | null,
    target: string,
    type: string | null,
    flags: number,
    data: string | null,
  ): number;
  umount2(target: string, flags: number): number;
  inotify_init1(flags: number): number;
  inotify_add_watch(fd: number, path: string, mask: number): number;
  inotify_rm_watch(fd: number, watch: number): number;
  flock(fd: number, operation: number): number;
  lseek(fd: number, offset: number, whence: number): number;
  open_tree(number: number, directory: number, path: string, flags: number): number;
  mount_setattr(
    number: number,
    directory: number,
    path: string,
    flags: number,
    attributes: Buffer,
    size: number,
  ): number;
  move_mount(
    number: number,
    from: number,
    fromPath: string,
    to: number,
    toPath: string,
    flags: number,
  ): number;
}

let loaded: LibC | undefined;

/** Loaded on first use, so that importing the package on another system does no harm. */
function libc(): LibC {
  if (loaded === undefined) {
    const library = koffi.load("libc.so.6");
    loaded = {
      mount: library.func(
        "int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)",
      ),
      umount2: library.func("int umount2(const char *target, int flags)"),
      inotify_init1: library.func("int inotify_init1(int flags)"),
      inotify_add_watch: library.func("int inotify_add_watch(int fd, const char *path, uint32_t mask)"),
      lseek: library.func("int64_t lseek(int fd, int64_t offset, int whence)"),
      inotify_rm_watch: library.func("int inotify_rm_watch(int fd, int watch)"),
      flock: library.func("int flock(int fd, int operation)"),
      // Younger than many a libc; their numbers are the same on every machine.
      open_tree: library.func("syscall", "long", ["long", "int", "str", "uint"]),
      mount_setattr: library.func("syscall", "long", ["long", "int", "str", "uint", "void *", "size_t"]),
      move_mount: library.func("syscall", "long", ["long", "int", "str", "int", "str", "uint"]),
    };
  }
  return loaded;
}

export class SystemCallError extends Error {
  readonly code: string;
  constructor(call: string, errno: number) {
    const code = Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0] ?? `E${errno}`;
    super(`${call}: ${code}`);
    this.name = "SystemCallError";
    this.code = code;
  }
}

export interface MountRequest {
  readonly type: string | null;
  readonly source: string | null;
  readonly target: string;
  readonly flags: number;
  readonly data?: string;
}

/** Throws a SystemCallError. */
export function mount(request: MountRequest): void {
  const { source, target, type, flags, data } = request;
  if (libc().mount(source, target, type, flags, data ?? null) !== 0)
    throw new SystemCallError(`mount ${type ?? ""} on ${target}`, koffi.errno());
}

/** Detaches a mount. Returns false where nothing was mounted. */
export function unmount(target: string): boolean {
  if (libc().umount2(target, MNT_DETACH) === 0) return true;
  const errno = koffi.errno();
  if (errno === koffi.os.errno.EINVAL || errno === koffi.os.errno.ENOENT) return false;
  throw new SystemCallError(`umount ${target}`, errno);
}

const SYS_OPEN_TREE = 428;
const SYS_MOVE_MOUNT = 429;
const SYS_MOUNT_SETATTR = 442;
const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const OPEN_TREE_CLONE_CLOEXEC = 0o2000001;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const MOUNT_ATTR_IDMAP = 0x100000n;

/**
 * A copy of the mount that `path` lies on, rooted there, in which ids are those of a user namespace: what is 0 on disk is the namespace's
 * root. It is attached nowhere and goes with its descriptor. Throws a SystemCallError where kernel or file system cannot do that.
 */
export function cloneMountMapped(path: string, userNamespace: number): number {
  const fd = libc().open_tree(SYS_OPEN_TREE, AT_FDCWD, path, OPEN_TREE_CLONE_CLOEXEC);
  if (fd < 0) throw new SystemCallError(`open_tree ${path}`, koffi.errno());
  // struct mount_attr: what to set, what to clear, propagation, user namespace.
  const attributes = Buffer.alloc(32);
  attributes.writeBigUInt64LE(MOUNT_ATTR_IDMAP, 0);
  attributes.writeBigUInt64LE(BigInt(userNamespace), 24);
  if (libc().mount_setattr(SYS_MOUNT_SETATTR, fd, "", AT_EMPTY_PATH, attributes, 32) !== 0) {
    const errno = koffi.errno();
    closeSync(fd);
    throw new SystemCallError(`mount_setattr ${path}`, errno);
  }
  return fd;
}

/** Attaches what `cloneMountMapped` made. Throws a SystemCallError. */
export function attachMount(fd: number, target: string): void {
  if (libc().move_mount(SYS_MOVE_MOUNT, fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) !== 0)
    throw new SystemCallError(`move_mount to ${target}`, koffi.errno());
}

const LOCK_EXCLUSIVE_NONBLOCKING = 2 | 4;

/** Locks an open file until its descriptor is closed or the process ends. False where another holds the lock. */
export function tryLock(fd: number): boolean {
  return libc().flock(fd, LOCK_EXCLUSIVE_NONBLOCKING) === 0;
}

/** Goes to the end of what can be read now. */
export function seekEnd(fd: number): void {
  if (libc().lseek(fd, 0, 2) < 0) throw new SystemCallError("lseek", koffi.errno());
}

export const IN_ACCESS = 0x01;
export const IN_CLOSE_NOWRITE = 0x10;
export const IN_Q_OVERFLOW = 0x4000;
const IN_NONBLOCK_CLOEXEC = 0o2004000;

/** A descriptor of inotify events, or undefined where the user has no instance left. */
export function inotifyOpen(): number | undefined {
  const fd = libc().inotify_init1(IN_NONBLOCK_CLOEXEC);
  return fd >= 0 ? fd : undefined;
}

/** The number of the watch, or undefined where the user has no watch left. */
export function inotifyWatch(fd: number, path: string, mask: number): number | undefined {
  const watch = libc().inotify_add_watch(fd, path, mask);
  return watch >= 0 ? watch : undefined;
}

/** A watch that is gone already is no error. */
export function inotifyUnwatch(fd: number, watch: number): void {
  libc().inotify_rm_watch(fd, watch);
}
