import { availableParallelism, totalmem } from "node:os";
import type { Limits } from "@ale/core";
import type { CreateRequest } from "../../server/service.ts";
import { parseByteSize } from "../../wire/byte-size.ts";
import { badRequest } from "./envelope.ts";
import type { StartRequest } from "./requests.ts";

/**
 * What a start request of ROCK's means here. Sizes are caps, not reservations: what is asked for beyond this host is cut to the host and
 * the status says so, what is beyond the allowed maximum is refused as ROCK refuses it. Pure but for what the host has.
 */

const GIB = 2 ** 30;
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

export const DEFAULT_MAX_ALLOWED = { cpus: 16, memoryBytes: 64 * GIB, diskBytes: 256 * GIB };
export const DEFAULT_MEMORY = "8g";
export const DEFAULT_CPUS = 2;
export const DEFAULT_DISK = "50G";
/** Of a sandbox whose request says nothing of it. */
const DEFAULT_AUTO_CLEAR_MINUTES = 30;
/** Longer than any client waits: commands end by their own timeout, with their client, or with the sandbox. */
const LONGEST_COMMAND_MS = DAY_MS;
const LIFETIME_MS = 14 * DAY_MS;

export interface HostSize {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
}

export const hostSize = (freeDiskBytes: number): HostSize => ({
  cpus: availableParallelism(),
  memoryBytes: totalmem(),
  diskBytes: freeDiskBytes,
});

/** Who asks, from ROCK's headers. */
export interface Asker {
  readonly userId: string;
  readonly experimentId: string;
  readonly namespace: string;
  readonly cluster: string;
}

/** Throws a RockFailure 4000 for what is no size, above the maximum, or cannot be had here at all. */
export function createRequestOf(
  request: StartRequest,
  asker: Asker,
  host: HostSize,
  max: HostSize = DEFAULT_MAX_ALLOWED,
  /** What the image is called in the store. */
  image: string = request.image,
): CreateRequest {
  refuseUnavailable(request);
  const asked = {
    cpus: request.cpus ?? DEFAULT_CPUS,
    memory: request.memory ?? DEFAULT_MEMORY,
    disk: request.disk ?? DEFAULT_DISK,
  };
  const [memoryBytes, diskBytes] = [sizeOf("memory", asked.memory), sizeOf("disk", asked.disk)];
  const most = Math.max(asked.cpus, request.limit_cpus ?? 0);
  refuseAbove("CPUs", most, max.cpus, String(most), String(max.cpus));
  refuseAbove("memory", memoryBytes, max.memoryBytes, asked.memory, `${max.memoryBytes / GIB}g`);
  refuseAbove("disk", diskBytes, max.diskBytes, asked.disk, `${max.diskBytes / GIB}g`);
  const limits: Limits = {
    cpus: Math.min(request.limit_cpus ?? asked.cpus, host.cpus),
    memoryBytes: Math.min(memoryBytes, host.memoryBytes),
    diskBytes: Math.min(diskBytes, host.diskBytes),
    pids: 4_096,
    execTimeoutMs: LONGEST_COMMAND_MS,
    lifetimeMs: LIFETIME_MS,
    outputBytes: 4 * 2 ** 20,
  };
  const { auto_delete_seconds: autoDelete, sandbox_id: id } = request;
  return {
    spec: {
      ...(id ? { id } : {}),
      image,
      files: [],
      limits,
      network: { mode: "none" },
      workdir: "/",
      user: "root",
      idleMs: Math.max(1, request.auto_clear_time_minutes ?? DEFAULT_AUTO_CLEAR_MINUTES) * MINUTE_MS,
      labels: { api: "rock" },
    },
    ...(autoDelete == null ? {} : { deleteAfterStopMs: autoDelete * 1_000 }),
    notes: {
      api: "rock",
      image: request.image,
      cpus: String(asked.cpus),
      memory: asked.memory,
      disk: asked.disk,
      ...asker,
    },
  };
}

/** Where ROCK's worker mounts its interpreter and its scripts, read-only. Here there is nothing behind them. */
const WORKER_FILES = ["/tmp/miniforge/bin/.keep", "/tmp/local_files/docker_run.sh"];

export const withWorkerFiles = (request: CreateRequest): CreateRequest => ({
  ...request,
  spec: {
    ...request.spec,
    files: WORKER_FILES.map((path) => ({ path, content: "", mode: 0o644, owner: "root" })),
    readOnlyPaths: ["/tmp/miniforge", "/tmp/local_files"],
  },
});

function refuseUnavailable(request: StartRequest): void {
  if (request.image_os && request.image_os.toLowerCase() !== "linux")
    throw badRequest(`Unsupported image_os '${request.image_os}': this host runs linux images`);
  if (request.num_gpus || request.accelerator_type)
    throw badRequest("Accelerators are not available: this host gives none to sandboxes");
  if (request.use_kata_runtime)
    throw badRequest("The kata runtime is not available: set use_kata_runtime to false");
  if (request.auto_archive_seconds != null)
    throw badRequest(
      "auto_archive_seconds is not available: stopped sandboxes keep their files until deleted",
    );
}

function sizeOf(what: "memory" | "disk", text: string): number {
  const bytes = parseByteSize(text);
  if (bytes === undefined)
    throw badRequest(`Invalid ${what} size: ${JSON.stringify(text)}: use e.g. 512m, 8g or 2GiB`);
  return bytes;
}

function refuseAbove(what: string, asked: number, most: number, text: string, mostText: string): void {
  if (asked > most) throw badRequest(`Requested ${what} ${text} exceed the maximum allowed ${mostText}`);
}
