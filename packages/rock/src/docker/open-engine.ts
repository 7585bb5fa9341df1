import { createHash } from "node:crypto";
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { seccompProfile } from "../oci/seccomp.ts";
import { engineSeccomp } from "./container-options.ts";
import type { ContainerHost } from "./docker-container.ts";
import { DockerSnapshots } from "./docker-snapshots.ts";
import { Engine } from "./engine.ts";
import { EngineImages } from "./engine-images.ts";
import { type EngineInfo, engineInfo } from "./engine-info.ts";
import { toolboxFor } from "./engine-toolbox.ts";
import { reapContainers } from "./reap.ts";
import { findSocket } from "./socket.ts";

/** An engine that was met, and found fit for sandboxes. */

/** What an engine may be unable to enforce. */
export type Unenforced = "cpu" | "memory" | "pids" | "disk" | "seccomp";

export interface DockerDriverOptions {
  /** Path of the engine's socket. Default: $DOCKER_HOST, else the usual places. */
  readonly socket?: string;
  /** Where local images lie. Default: $ALE_HOME, else ~/.ale. */
  readonly home?: string;
  /** Sandboxes started at the same time. Default: the number of processors. */
  readonly concurrency?: number;
  /**
   * What sandboxes may do without where this engine cannot enforce it. `disk`: a sandbox can fill the engine's disk. `seccomp`: the engine's
   * own system call filter is used, which allows more. Default: nothing; such an engine is refused.
   */
  readonly unenforced?: readonly Unenforced[];
}

export interface OpenEngine {
  readonly engine: Engine;
  readonly info: EngineInfo;
  readonly images: EngineImages;
  /** Its toolbox is dropped where the engine turns out not to reach it. */
  host: ContainerHost;
  readonly snapshots: DockerSnapshots;
}

/** Rootful Podman asks for a million processes where none are named, which a process without CAP_SYS_RESOURCE may not give; the control group bounds them anyway. */
const PODMAN_PROCESSES = 32_768;

/** Throws an AleError: `engine-missing`, `engine-unsupported`, `engine-unenforced`. */
export async function openEngine(home: string, options: DockerDriverOptions): Promise<OpenEngine> {
  const engine = await Engine.open(options.socket ?? findSocket());
  try {
    const info = await engineInfo(engine);
    const accepted = new Set(options.unenforced);
    const missing = missingFrom(info).filter((limit) => !accepted.has(limit));
    if (missing.length > 0) throw unenforceable(missing);
    const seccomp = accepted.has("seccomp") ? undefined : seccompOption(engine, home);
    const isPodman = engine.version.name === "podman";
    const host: ContainerHost = {
      engine,
      seccomp,
      diskLimit: info.enforces.disk && !accepted.has("disk"),
      processUlimit: isPodman && !info.rootless ? PODMAN_PROCESSES : undefined,
      toolbox: toolboxFor(engine, info, home),
    };
    await reapContainers(engine);
    const images = new EngineImages(engine);
    return { engine, info, images, host, snapshots: new DockerSnapshots(engine, images, home) };
  } catch (reason) {
    engine.close();
    throw reason;
  }
}

function missingFrom(info: EngineInfo): Unenforced[] {
  const limits = (["cpu", "memory", "pids", "disk"] as const).filter((limit) => !info.enforces[limit]);
  return info.seccomp ? limits : [...limits, "seccomp"];
}

const MEANING: Readonly<Record<Unenforced, string>> = {
  cpu: "processor time",
  memory: "memory with its swap",
  pids: "the number of processes",
  disk: "the size of a sandbox's files",
  seccomp: "the filter of system calls",
};

export function unenforceable(missing: readonly Unenforced[]): AleError {
  const what = missing.map((limit) => MEANING[limit]).join(", ");
  return new AleError("engine-unenforced", `this engine cannot enforce ${what}`, {
    next: `use an engine that can (disk: overlay on xfs with project quotas, btrfs or zfs), or do without: unenforced: ${JSON.stringify(missing)}`,
  });
}

/** Docker takes the profile itself; Podman reads it from a path on its own host. */
function seccompOption(engine: Engine, home: string): string {
  const profile = JSON.stringify(engineSeccomp(seccompProfile(engine.version.arch)));
  if (engine.version.name === "docker") return profile;
  const digest = createHash("sha256").update(profile).digest("hex").slice(0, 16);
  const directory = join(home, "engine");
  const path = join(directory, `seccomp-${digest}.json`);
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  // The engine may be reading another owner's of the same content.
  const fresh = `${path}.${process.pid}`;
  writeFileSync(fresh, profile, { mode: 0o644 });
  renameSync(fresh, path);
  return path;
}
