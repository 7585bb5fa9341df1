import { randomBytes } from "node:crypto";
import { AleError } from "@ale/core";
import type { Tree } from "../files/tree.ts";
import type { SandboxSpec } from "../port/sandbox.ts";

/** Puts the workdir and the spec's files in place. `onPlanted` gets every file, open. Throws an AleError. */
export function plant(
  tree: Tree,
  spec: SandboxSpec,
  imageWorkdir: string,
  onPlanted: (path: string, fd: number) => void,
): void {
  const workdir = spec.workdir ?? imageWorkdir;
  // The image's own stays as the image has it; only one that is not there is made.
  if (spec.workdir !== undefined || isMissing(tree, workdir)) {
    const made = tree.makeDirectory(workdir, "agent");
    if (!made.ok) throw unusable("workdir", workdir, made.error.type);
  }
  for (const file of spec.files) {
    const written = tree.write(file, (fd) => onPlanted(file.path, fd));
    if (!written.ok) throw unusable("file", file.path, written.error.type);
  }
}

function isMissing(tree: Tree, path: string): boolean {
  const found = tree.read(path, 0);
  return !found.ok && found.error.type === "not-found";
}

/** Where the image has a machine's identity, every sandbox gets one of its own, forks too. */
export function giveIdentity(tree: Tree): void {
  const path = "/etc/machine-id";
  const found = tree.read(path, 64);
  if (!found.ok || !/^[0-9a-f]{32}\n?$/.test(Buffer.from(found.value).toString("latin1"))) return;
  tree.write({ path, content: `${randomBytes(16).toString("hex")}\n`, mode: 0o444, owner: "root" });
}

function unusable(what: string, path: string, why: string): AleError {
  return new AleError("spec-invalid", `the ${what} ${path} cannot be put into the sandbox: ${why}`, {
    next: "use an absolute path without `..` and without symbolic links of the image on the way",
  });
}
