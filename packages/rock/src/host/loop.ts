import { closeSync, constants, openSync } from "node:fs";
import koffi from "koffi";
import { MS_NODEV, MS_NOSUID, mount, SystemCallError } from "./native.ts";

/** File systems in files, through loop devices that free themselves with their last mount. */

const { O_RDWR } = constants;
const LOOP_CTL_GET_FREE = 0x4c82;
const LOOP_CONFIGURE = 0x4c0a;
const LO_FLAGS_AUTOCLEAR = 4;
/** struct loop_config: fd and block size, then struct loop_info64 with its flags at 52, then reserved words. */
const CONFIG_BYTES = 8 + 232 + 64;
const FLAGS_AT = 8 + 52;

let library:
  | {
      number(fd: number, request: number): number;
      pointer(fd: number, request: number, value: Buffer): number;
    }
  | undefined;

function ioctl(): NonNullable<typeof library> {
  if (library === undefined) {
    const libc = koffi.load("libc.so.6");
    const any = libc.func("int ioctl(int fd, unsigned long request, ...)");
    library = {
      number: (fd, request) => any(fd, request, "long", 0),
      pointer: (fd, request, value) => any(fd, request, "void *", value),
    };
  }
  return library;
}

/** Mounts the ext4 in `image`. Throws a SystemCallError; then no device is left. */
export function mountImage(image: string, target: string): void {
  const file = openSync(image, O_RDWR);
  try {
    const device = attach(file);
    try {
      mount({ type: "ext4", source: device.path, target, flags: MS_NOSUID | MS_NODEV });
    } finally {
      // The mount holds the device; without one it frees itself here.
      closeSync(device.fd);
    }
  } finally {
    closeSync(file);
  }
}

function attach(file: number): { path: string; fd: number } {
  const control = openSync("/dev/loop-control", O_RDWR);
  try {
    for (let round = 0; ; round++) {
      const number = ioctl().number(control, LOOP_CTL_GET_FREE);
      if (number < 0) throw new SystemCallError("LOOP_CTL_GET_FREE", koffi.errno());
      const path = `/dev/loop${number}`;
      const fd = openSync(path, O_RDWR);
      const config = Buffer.alloc(CONFIG_BYTES);
      config.writeUInt32LE(file, 0);
      config.writeUInt32LE(LO_FLAGS_AUTOCLEAR, FLAGS_AT);
      if (ioctl().pointer(fd, LOOP_CONFIGURE, config) === 0) return { path, fd };
      const errno = koffi.errno();
      closeSync(fd);
      // Another process was quicker with that device.
      if (errno !== koffi.os.errno.EBUSY || round === 100) throw new SystemCallError("LOOP_CONFIGURE", errno);
    }
  } finally {
    closeSync(control);
  }
}
