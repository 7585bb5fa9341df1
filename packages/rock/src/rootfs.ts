import { closeSync, constants, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { AleError } from "@ale/core";
import type { Image } from "./image.ts";
import { MS_NODEV, MS_NOSUID, mount } from "./native.ts";
import type { SandboxSpec } from "./sandbox.ts";
import type { Places } from "./state.ts";
import type { Tree } from "./tree.ts";

/** The root filesystem of a sandbox: the image below, a bounded writable layer above, the spec's files in it. */

const { O_RDONLY, O_DIRECTORY } = constants;

/** A tmpfs carries the writable layer: its size is the hard disk limit, and it vanishes with its mount. */
export function mountRoot(place: Places, image: Image, spec: SandboxSpec): void {
  mkdirSync(place.ram);
  mkdirSync(place.root);
  const { diskBytes } = spec.limits;
  const inodes = Math.max(1024, Math.min(1 << 20, Math.floor(diskBytes / 4096)));
  mount({
    type: "tmpfs",
    source: "ale",
    target: place.ram,
    flags: MS_NOSUID | MS_NODEV,
    data: `size=${diskBytes},nr_inodes=${inodes},mode=700`,
  });
  const [upper, work] = [join(place.ram, "upper"), join(place.ram, "work")];
  for (const path of [upper, work]) mkdirSync(path, { mode: 0o755 });
  for (const name of ["bundle", "runtime"]) mkdirSync(join(place.ram, name), { mode: 0o700 });
  const opened = [image.rootfs, upper, work].map((path) => openSync(path, O_RDONLY | O_DIRECTORY));
  try {
    // The sandbox can read its mount table; named by descriptor, the layers do not tell it where they lie on the host.
    const [lowerdir, upperdir, workdir] = opened.map((fd) => `/proc/self/fd/${fd}`);
    mount({
      type: "overlay",
      source: "ale",
      target: place.root,
      flags: MS_NOSUID | MS_NODEV,
      data: `lowerdir=${lowerdir},upperdir=${upperdir},workdir=${workdir}`,
    });
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/** Puts the spec's workdir and files in place. `onPlanted` gets every file, open. Throws an AleError. */
export function plant(tree: Tree, spec: SandboxSpec, onPlanted: (path: string, fd: number) => void): void {
  const workdir = tree.makeDirectory(spec.workdir, "agent");
  if (!workdir.ok) throw unusable("workdir", spec.workdir, workdir.error.type);
  for (const file of spec.files) {
    const written = tree.write(file, (fd) => onPlanted(file.path, fd));
    if (!written.ok) throw unusable("file", file.path, written.error.type);
  }
}

function unusable(what: string, path: string, why: string): AleError {
  return new AleError("spec-invalid", `the ${what} ${path} cannot be put into the sandbox: ${why}`, {
    next: "use an absolute path without `..` and without symbolic links of the image on the way",
  });
}
