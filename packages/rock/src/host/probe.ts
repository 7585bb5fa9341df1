import { existsSync, mkdirSync, readFileSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { baseImage } from "../image/image.ts";
import { missingControllers, probeCgroups } from "./cgroup.ts";
import { removeTree } from "./mounts.ts";
import { mount, unmount } from "./native.ts";
import { isRootless, rootlessObstacle } from "./rootless.ts";
import { findRuntime } from "./runtime.ts";
import { isSupportedMachine } from "./syscalls.ts";
import { findTool } from "./tools.ts";

/** What this host has and lacks for sandboxes, in words for `ale doctor`. */

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** What was found. */
  readonly detail: string;
  /** What to do about it; only where `ok` is false. */
  readonly fix?: string;
}

/** The image takes 110 MB, its making as much again. */
const NEEDED_BYTES = 512 * 2 ** 20;

/** Runs every check and changes nothing on the host (the overlay check mounts and unmounts in a directory of its own). */
export function probeHost(home: string): readonly Check[] {
  const checks = [platform(), root(), runtime(), cgroups(), seccomp(), tools(), space(home), image(home)];
  return process.platform === "linux" ? [...checks, overlay(home)] : checks;
}

const check = (name: string, ok: boolean, detail: string, fix: string): Check =>
  ok ? { name, ok, detail } : { name, ok, detail, fix };

function platform(): Check {
  const supported = process.platform === "linux" && isSupportedMachine();
  const fix = "use Linux on x86-64 or arm64 (on macOS or Windows: inside a Linux virtual machine)";
  return check("platform", supported, `${process.platform} ${process.arch}`, fix);
}

function root(): Check {
  const uid = process.getuid?.() ?? -1;
  const why = uid === 0 ? undefined : rootlessObstacle();
  const detail = isRootless()
    ? "an ordinary user, as root of a namespace of his own"
    : `running as uid ${uid}`;
  const fix =
    why ??
    "run the same command with sudo, or through ./ale, which makes an ordinary user root of a namespace";
  return check("root", uid === 0, detail, fix);
}

function runtime(): Check {
  const found = findRuntime();
  const detail = found === undefined ? "neither crun nor runc runs here" : `${found.name} ${found.version}`;
  return check("runtime", found !== undefined, detail, "apt install crun");
}

function cgroups(): Check {
  const host = probeCgroups();
  const missing = missingControllers(host);
  const detail = `${host.kind}${missing.length === 0 ? "" : `, without a writable ${missing.join(", ")}`}`;
  const fix = "run as root on a host (or in a container) with a writable /sys/fs/cgroup";
  return check("cgroups", missing.length === 0, detail, fix);
}

function seccomp(): Check {
  const status = existsSync("/proc/self/status") ? readFileSync("/proc/self/status", "utf8") : "";
  const ok = /^Seccomp:/m.test(status);
  const detail = ok ? "available" : "missing from this kernel";
  return check("seccomp", ok, detail, "use a kernel with CONFIG_SECCOMP_FILTER");
}

function tools(): Check {
  const builder = findTool("mmdebstrap") ?? findTool("debootstrap");
  const packages = [...(findTool("perl") ? [] : ["perl-base"]), ...(builder ? [] : ["mmdebstrap"])];
  const found = ["perl", "mmdebstrap", "debootstrap"].filter((name) => findTool(name) !== undefined);
  return check("tools", packages.length === 0, found.join(", "), `apt install ${packages.join(" ")}`);
}

function space(home: string): Check {
  const place = nearestExisting(home);
  const { bavail, bsize } = statfsSync(place);
  const free = bavail * bsize;
  const detail = `${(free / 2 ** 30).toFixed(1)} GiB free at ${place}`;
  return check(
    "disk",
    free >= NEEDED_BYTES,
    detail,
    `free at least ${NEEDED_BYTES >> 20} MiB, or set ALE_HOME`,
  );
}

function nearestExisting(path: string): string {
  return existsSync(path) ? path : nearestExisting(join(path, ".."));
}

function image(home: string): Check {
  const { name, version, rootfs } = baseImage(home);
  const there = existsSync(rootfs);
  const detail = `${name} ${version}${there ? "" : " is not there yet"}`;
  return check("base image", there, detail, "run `./ale setup image`, which bootstraps it once");
}

function overlay(home: string): Check {
  const fix = "load the overlay module (`modprobe overlay`), and run as root";
  if (process.getuid?.() !== 0) return check("overlay", false, "not tried: needs root", fix);
  const place = join(home, "rock", `.probe-${process.pid}`);
  const part = (name: string): string => join(place, name);
  try {
    mkdirSync(part("ram"), { recursive: true });
    mount({ type: "tmpfs", source: "ale", target: part("ram"), flags: 0, data: "size=1m" });
    for (const name of ["lower", "upper", "work", "root"]) mkdirSync(part(`ram/${name}`));
    const data = `lowerdir=${part("ram/lower")},upperdir=${part("ram/upper")},workdir=${part("ram/work")}`;
    mount({ type: "overlay", source: "ale", target: part("ram/root"), flags: 0, data });
    unmount(part("ram/root"));
    return check("overlay", true, "overlay on tmpfs works", fix);
  } catch (error) {
    return check("overlay", false, error instanceof Error ? error.message : String(error), fix);
  } finally {
    unmount(part("ram"));
    removeTree(place);
  }
}
