import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { AleError } from "@ale/core";
import { MS_NODEV, MS_NOSUID, MS_RDONLY, mount } from "../host/native.ts";
import { findTool } from "../host/tools.ts";
import { interpreterOf } from "./elf.ts";
import { waiterProgram } from "./waiter.ts";

/**
 * The host's own perl and bash with their loader and libraries, copied to a directory that every sandbox sees, read-only, at
 * `/dev/.ale`. So PID 1 needs nothing of an image, and nothing that was written into a sandbox's files, by root either, decides what its
 * PID 1 is when it starts again.
 */

/** Where sandboxes see it. Below /dev, which is never part of an image. */
export const INSIDE = "/dev/.ale";
/** Raised when what is put in changes. */
const VERSION = 2;

export interface Toolbox {
  /** On the host. */
  readonly directory: string;
  /** Argument vectors that begin them inside, to be followed by their own arguments. */
  readonly perl: readonly string[];
  readonly bash: readonly string[];
  /** What becomes the program that its arguments name when there is something to read; empty where there is none for this machine. */
  readonly waiter: readonly string[];
}

export interface MountedToolbox extends Toolbox {
  /** Where it is mounted on the host, for sandboxes to bind. */
  readonly mount: string;
}

interface Part {
  readonly from: string;
  readonly name: string;
}

/** Makes it under `home` where it is not there; what it is made of decides where. Throws an AleError. */
export function ensureToolbox(home: string): Toolbox {
  const programs = (["perl", "bash"] as const).map((name) => ({
    from: realpathSync(requireTool(name)),
    name,
  }));
  const parts = [...programs, ...programs.flatMap(({ from }) => librariesOf(from))];
  const key = JSON.stringify([VERSION, parts.map((part) => [part.name, ...identityOf(part.from)])]);
  const parent = join(home, "inside");
  const directory = join(parent, createHash("sha256").update(key).digest("hex").slice(0, 16));
  if (!existsSync(directory)) make(parent, directory, parts);
  return toolboxAt(directory, new Set(parts.map(({ name }) => name)));
}

function requireTool(name: string): string {
  const tool = findTool(name);
  if (tool === undefined)
    throw new AleError("tool-missing", `${name} is not installed`, { next: `apt install ${name}` });
  return tool;
}

const LOADER = "ld.so";
const WAITER = "wait";

/** The loader says itself which libraries it would take. None for a static program. */
function librariesOf(program: string): Part[] {
  const loader = interpreterOf(program);
  if (loader === undefined) return [];
  const listed = execFileSync(loader, ["--list", program], { encoding: "utf8", env: {} });
  const found = [...listed.matchAll(/^\s*(\S+) => (\/\S+)/gm)].map(([, name, from]) => ({
    name: basename(name!),
    from: realpathSync(from!),
  }));
  return [
    { name: LOADER, from: realpathSync(loader) },
    ...found.filter(({ name }) => name !== basename(loader)),
  ];
}

function identityOf(path: string): (string | number)[] {
  const { size, mtimeMs, ino } = statSync(path);
  return [path, size, mtimeMs, ino];
}

/** Built beside its place and renamed, so that a crash leaves nothing that could be taken for it. */
function make(parent: string, directory: string, parts: readonly Part[]): void {
  mkdirSync(parent, { recursive: true, mode: 0o755 });
  const building = mkdtempSync(join(parent, ".building-"));
  try {
    for (const { from, name } of parts) {
      const to = join(building, name);
      if (existsSync(to)) continue;
      if (name === LOADER) writeFileSync(to, withoutPreload(readFileSync(from)));
      else copyFileSync(from, to);
      chmodSync(to, 0o755);
    }
    const waiter = waiterProgram();
    if (waiter !== undefined) writeFileSync(join(building, WAITER), waiter, { mode: 0o755 });
    chmodSync(building, 0o755);
    check(building, new Set(parts.map(({ name }) => name)));
    renameSync(building, directory);
  } catch (cause) {
    rmSync(building, { recursive: true, force: true });
    // Another process was quicker; its toolbox is as good as ours.
    if (existsSync(directory)) return;
    if (cause instanceof AleError) throw cause;
    throw new AleError(
      "toolbox-failed",
      `perl and bash of this host cannot be used in sandboxes: ${String(cause)}`,
      {
        next: "install the distribution's perl and bash; they have to be ELF programs of this machine",
        cause,
      },
    );
  }
}

/**
 * The loader would put what a sandbox names in its /etc/ld.so.preload into PID 1. It is made to look in a place that sandboxes cannot
 * write, by a name of the same length.
 */
export function withoutPreload(loader: Buffer): Buffer {
  const [from, to] = ["/etc/ld.so.preload", `${INSIDE}/preload.`];
  const copy = Buffer.from(loader);
  for (let at = copy.indexOf(from); at >= 0; at = copy.indexOf(from, at)) copy.write(to, at, "latin1");
  return copy;
}

/** That they run at all from where they are now. */
function check(directory: string, names: ReadonlySet<string>): void {
  for (const [name, ...script] of [
    ["perl", "-e", "print 'ok'"],
    // With a socket for stdin bash would read the owner's .bashrc.
    ["bash", "--norc", "-c", "printf ok"],
  ] as const) {
    const [program, ...argv] = [...invocation(directory, name, names), ...script];
    const said = execFileSync(program!, argv, {
      encoding: "utf8",
      env: {},
      stdio: ["ignore", "pipe", "pipe"],
    });
    if (said !== "ok") throw new Error(`${name} said ${JSON.stringify(said.slice(0, 200))}`);
  }
}

function invocation(directory: string, name: string, names: ReadonlySet<string>): string[] {
  if (!names.has(LOADER)) return [join(directory, name)];
  return [join(directory, LOADER), "--library-path", directory, join(directory, name)];
}

const toolboxAt = (directory: string, names: ReadonlySet<string>): Toolbox => ({
  directory,
  perl: invocation(INSIDE, "perl", names),
  bash: invocation(INSIDE, "bash", names),
  waiter: waiterProgram() === undefined ? [] : [join(INSIDE, WAITER)],
});

/**
 * Mounts it at `target`, which is made, for sandboxes to bind: through an overlay, because sandboxes can read in their mount table which
 * directory of the host's file system is bound, and of an overlay that is its root.
 */
export function mountToolbox(toolbox: Toolbox, target: string): MountedToolbox {
  const { directory } = toolbox;
  const empty = join(directory, "..", ".empty");
  for (const path of [empty, target]) mkdirSync(path, { recursive: true, mode: 0o755 });
  const opened = [directory, empty].map((path) => openSync(path, "r"));
  try {
    const data = `lowerdir=${opened.map((fd) => `/proc/self/fd/${fd}`).join(":")}`;
    mount({ type: "overlay", source: "ale", target, flags: MS_RDONLY | MS_NOSUID | MS_NODEV, data });
  } finally {
    for (const fd of opened) closeSync(fd);
  }
  return { ...toolbox, mount: target };
}
