import { type ChildProcess, spawn } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { findTool } from "../host/tools.ts";
import { debianSources, proxySettings } from "./apt.ts";

/** Bootstraps a Debian root filesystem with mmdebstrap, or with debootstrap where only that is installed. */

/** Beyond Debian's essential set (bash, coreutils, grep, sed, tar, gzip, findutils, diffutils, perl-base, util-linux). */
export const PACKAGES = ["mawk", "procps"] as const;

export const AGENT = { name: "agent", uid: 1000, gid: 1000, home: "/home/agent" } as const;

export interface BootstrapProgress {
  readonly step: string;
  readonly elapsedMs: number;
}

export interface BootstrapRequest {
  readonly suite: string;
  /** Debian packages beyond the essential set; what they depend on comes with them. */
  readonly packages: readonly string[];
  /** Whether there is to be a user `agent`. */
  readonly agent: boolean;
  /** Must not exist yet. */
  readonly target: string;
  readonly onProgress: (progress: BootstrapProgress) => void;
}

/** Throws an AleError. On failure the target may be half-made: the caller owns and removes it. */
export async function bootstrap(request: BootstrapRequest, signal?: AbortSignal): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new AleError("need-root", "only root can bootstrap an image", {
      next: "run the same command with sudo",
    });
  const { suite, packages, target } = request;
  mkdirSync(join(target, ".."), { recursive: true });
  const startedAt = performance.now();
  const report = (step: string): void =>
    request.onProgress({ step, elapsedMs: Math.round(performance.now() - startedAt) });
  report(`bootstrapping Debian ${suite}`);
  if (findTool("mmdebstrap")) await runMmdebstrap(suite, packages, target, report, signal);
  else if (findTool("debootstrap")) await runDebootstrap(suite, packages, target, report, signal);
  else
    throw new AleError("tool-missing", "neither mmdebstrap nor debootstrap is installed", {
      next: "apt install mmdebstrap",
    });
  report("trimming");
  trim(target);
  if (request.agent) addAgent(target);
  report("done");
}

const EXCLUDED = ["/usr/share/man", "/usr/share/doc", "/usr/share/info", "/usr/share/locale"] as const;

async function runMmdebstrap(
  suite: string,
  packages: readonly string[],
  target: string,
  report: (step: string) => void,
  signal?: AbortSignal,
): Promise<void> {
  const sources = debianSources(suite);
  const argv = [
    "--mode=root",
    "--variant=essential",
    `--include=${packages.join(",")}`,
    ...EXCLUDED.map((path) => `--dpkgopt=path-exclude=${path}/*`),
    '--aptopt=Acquire::Languages "none"',
    ...proxySettings().map((line) => `--aptopt=${line}`),
    suite,
    target,
    // Without sources of its own, the host has no opinion and mmdebstrap uses Debian's default mirror.
    ...(sources === "" ? [] : ["-"]),
  ];
  await runTool("mmdebstrap", argv, sources, report, signal);
}

async function runDebootstrap(
  suite: string,
  packages: readonly string[],
  target: string,
  report: (step: string) => void,
  signal?: AbortSignal,
): Promise<void> {
  const argv = ["--variant=minbase", `--include=${packages.join(",")}`, suite, target];
  const mirror = /^URIs: (\S+)$/m.exec(debianSources(suite))?.[1];
  await runTool("debootstrap", mirror ? [...argv, mirror] : argv, "", report, signal);
}

const POLITE_EXIT_MS = 2_000;

async function runTool(
  tool: string,
  argv: readonly string[],
  stdin: string,
  report: (step: string) => void,
  signal?: AbortSignal,
): Promise<void> {
  signal?.throwIfAborted();
  const [program, ...options] = [...shelter(), tool, ...argv];
  // A group of its own, so that all of it can be ended.
  const child = spawn(program!, options, { stdio: ["pipe", "pipe", "pipe"], detached: true });
  let insist: NodeJS.Timeout | undefined;
  const abort = (): void => {
    killGroup(child, "SIGTERM");
    // It waits for the package manager's current step, which may take half a minute; what it leaves is removed anyway.
    insist = setTimeout(killGroup, POLITE_EXIT_MS, child, "SIGKILL");
  };
  signal?.addEventListener("abort", abort, { once: true });
  const tail: string[] = [];
  const read = (chunk: Buffer): void => {
    for (const line of chunk.toString("utf8").split("\n")) {
      if (line.trim() === "") continue;
      tail.push(line);
      if (tail.length > 20) tail.shift();
      const step = /^I: (.*)$/.exec(line)?.[1];
      if (step) report(step);
    }
  };
  child.stdout.on("data", read);
  child.stderr.on("data", read);
  // A tool that stops before it has read everything is reported by its exit code.
  child.stdin.on("error", () => {});
  child.stdin.end(stdin);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  clearTimeout(insist);
  signal?.removeEventListener("abort", abort);
  signal?.throwIfAborted();
  if (code !== 0)
    throw new AleError("bootstrap-failed", `${tool} failed (exit ${code}):\n${tail.join("\n")}`, {
      next: "check that the host's apt sources work (`apt-get update`) and that the disk is not full, then try again",
    });
}

/**
 * A bootstrap that is left by its owner ends, and its mounts are its own: what it leaves half-made must not have the host's /proc
 * and /dev mounted in it.
 */
function shelter(): string[] {
  const [setpriv, unshare] = [findTool("setpriv"), findTool("unshare")];
  return [
    ...(setpriv ? [setpriv, "--pdeathsig", "TERM", "--"] : []),
    ...(unshare ? [unshare, "--mount", "--"] : []),
  ];
}

function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal);
  } catch {
    // It has ended by itself.
  }
}

/** Removes what no sandbox needs, and what must not travel into one: the host's name, resolver, mirrors and proxies. */
function trim(root: string): void {
  for (const path of EXCLUDED) empty(join(root, path));
  for (const path of ["/var/cache", "/var/lib/apt", "/var/log", "/tmp", "/run"]) empty(join(root, path));
  for (const path of ["/etc/apt", "/etc/resolv.conf", "/etc/machine-id", "/var/lib/dbus"])
    rmSync(join(root, path), { recursive: true, force: true });
  writeFileSync(join(root, "etc/hostname"), "sandbox\n");
  writeFileSync(join(root, "etc/hosts"), "127.0.0.1 localhost sandbox\n::1 localhost\n");
}

function empty(directory: string): void {
  if (!existsSync(directory)) return;
  for (const name of readdirSync(directory)) rmSync(join(directory, name), { recursive: true, force: true });
}

function addAgent(root: string): void {
  const { name, uid, gid, home } = AGENT;
  const append = (file: string, line: string): void => {
    const path = join(root, file);
    const text = existsSync(path) ? readFileSync(path, "utf8") : "";
    writeFileSync(path, `${text}${line}\n`);
  };
  append("etc/passwd", `${name}:x:${uid}:${gid}::${home}:/bin/bash`);
  append("etc/group", `${name}:x:${gid}:`);
  append("etc/shadow", `${name}:!:19000:0:99999:7:::`);
  mkdirSync(join(root, home), { recursive: true });
  chownSync(join(root, home), uid, gid);
  chmodSync(join(root, home), 0o750);
}
