import { mkdirSync, mkdtempSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Limits, type SandboxFile } from "@ale/core";
import { probeCgroups } from "../src/host/cgroup.ts";
import { removeTree } from "../src/host/mounts.ts";
import {
  BASE_IMAGE,
  defaultHome,
  ensureBaseImage,
  OciDriver,
  probeHost,
  type Sandbox,
  type SandboxDriver,
  type SandboxSpec,
} from "../src/index.ts";

/** Why real sandboxes cannot run here, or undefined where they can. */
export const obstacle: string | undefined = probeHost(defaultHome())
  .filter((check) => !check.ok && check.name !== "base image")
  .map((check) => `${check.name}: ${check.detail}`)[0];

/** For `describe.skipIf(obstacle)`: the suite's name says why it is skipped. */
export const suite = (name: string): string => (obstacle ? `${name} (skipped: ${obstacle})` : name);

export function file(path: string, content: string, more: Partial<SandboxFile> = {}): SandboxFile {
  return { path, content, mode: 0o644, owner: "agent", ...more };
}

export function spec(
  more: Partial<Omit<SandboxSpec, "limits">> & { limits?: Partial<Limits> } = {},
): SandboxSpec {
  const { limits, ...rest } = more;
  return {
    image: BASE_IMAGE,
    files: [],
    network: { mode: "none" },
    workdir: "/work",
    ...rest,
    limits: Limits.parse({ execTimeoutMs: 20_000, ...limits }),
  };
}

/** A home of its own that shares the images, so that what a test leaves behind is seen by this test alone. */
export async function freshHome(): Promise<{ path: string } & Disposable> {
  await ensureBaseImage(defaultHome());
  const path = mkdtempSync(join(tmpdir(), "ale-rock-"));
  mkdirSync(path, { recursive: true });
  symlinkSync(join(defaultHome(), "images"), join(path, "images"));
  return { path, [Symbol.dispose]: () => removeTree(path) };
}

let shared: Promise<OciDriver> | undefined;
let other: (() => Promise<SandboxDriver>) | undefined;

/** The same tests with another driver: to be called before their file is imported. Only for tests of what all drivers have. */
export function useDriver(opener: () => Promise<SandboxDriver>): void {
  other = opener;
}

/** Where the tests run with another driver: for what is the OCI driver's own. */
export const isOtherDriver = (): boolean => other !== undefined;

/** One driver for all tests of a file; close it with `closeDriver` in `afterAll`. */
export function driver(): Promise<OciDriver> {
  shared ??= open();
  return shared;
}

async function open(): Promise<OciDriver> {
  if (other !== undefined) return (await other()) as OciDriver;
  await ensureBaseImage(defaultHome());
  return new OciDriver();
}

export async function closeDriver(): Promise<void> {
  await (await shared)?.[Symbol.asyncDispose]();
}

/** A sandbox for one test: `await using box = await sandbox()`. */
export async function sandbox(...more: Parameters<typeof spec>): Promise<Sandbox> {
  return (await driver()).create(spec(...more));
}

/** What is left on the host of sandboxes under `home`: mounts, groups, processes, directories. */
export function traces(home: string, ids: readonly string[]): string[] {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .filter((line) => line.includes(` ${home}/`));
  const groups = probeCgroups().hierarchies.flatMap((hierarchy) =>
    list(join(hierarchy, "ale")).filter((name) => ids.includes(name)),
  );
  const processes = list("/proc").filter((pid) => {
    const command = /^\d+$/.test(pid) ? read(`/proc/${pid}/cmdline`) : "";
    return command.includes(home) || ids.some((id) => command.includes(id));
  });
  const loops = list("/sys/block").filter((name) =>
    read(`/sys/block/${name}/loop/backing_file`).includes(home),
  );
  return [
    ...loops.map((name) => `loop device ${name}`),
    ...mounts.map((line) => `mount ${line}`),
    ...groups.map((name) => `cgroup ${name}`),
    ...processes.map(
      (pid) => `process ${pid} ${read(`/proc/${pid}/cmdline`).replaceAll("\0", " ").slice(0, 200)}`,
    ),
    ...list(join(home, "rock")).map((name) => `directory ${name}`),
  ];
}

export async function until(what: string, holds: () => boolean, timeoutMs = 20_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`never came true: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
