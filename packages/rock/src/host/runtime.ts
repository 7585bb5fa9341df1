import { spawnSync } from "node:child_process";
import { findTool } from "./tools.ts";

/**
 * The programs that can run a sandbox's container, and what is different about each. gVisor's runsc is not among them: it starts, but
 * counts its own hundred threads as the sandbox's processes, does not know the size limits of tmpfs, and applies no filter of ours, so that
 * limits that the record promises would not hold.
 */

export const RUNTIMES = ["crun", "runc"] as const;
export type RuntimeName = (typeof RUNTIMES)[number];

export interface Runtime {
  readonly name: RuntimeName;
  readonly path: string;
  /** E.g. "1.8.1". */
  readonly version: string;
}

/** The wanted runtime, or the first of crun and runc that runs here. */
export function findRuntime(wanted?: RuntimeName): Runtime | undefined {
  for (const name of wanted === undefined ? RUNTIMES : [wanted]) {
    const path = findTool(name);
    const version = path === undefined ? undefined : versionOf(name, path);
    if (path !== undefined && version !== undefined) return { name, path, version };
  }
  return undefined;
}

/** Undefined where it does not run. */
function versionOf(name: RuntimeName, path: string): string | undefined {
  const result = spawnSync(path, ["--version"], { encoding: "utf8" });
  const text = result.status === 0 ? result.stdout : "";
  return new RegExp(`^${name} version (?:release-)?(\\S+)`, "m").exec(text)?.[1];
}

export interface RunRequest {
  /** Where the runtime keeps its own state. */
  readonly state: string;
  readonly bundle: string;
  readonly id: string;
  /** Whether it makes control groups. */
  readonly groups: boolean;
  /** Where it writes the number of the container's first process. */
  readonly pidFile: string;
}

export interface Invocation {
  readonly argv: readonly string[];
  /** The descriptor on which it waits for its configuration; undefined for one that wants it in its bundle. */
  readonly configurationFd?: number;
  /** The control groups that it enters by itself (own-groups.ts). */
  readonly groups?: string | undefined;
}

/** Above all that a launcher has open. Runtimes close it for the container. */
const CONFIGURATION_FD = 100;

/** What makes the runtime start a container, and end when that has begun. */
export function runInvocation(runtime: Runtime, request: RunRequest): Invocation {
  if (runtime.name !== "crun") return { argv: runArguments(runtime, request) };
  const waiting = ["--config", `/proc/self/fd/${CONFIGURATION_FD}`];
  return { argv: runArguments(runtime, request, waiting), configurationFd: CONFIGURATION_FD };
}

function runArguments(
  runtime: Runtime,
  { state, bundle, id, groups, pidFile }: RunRequest,
  more: readonly string[] = [],
): string[] {
  const options: Record<RuntimeName, string[]> = {
    crun: [`--cgroup-manager=${groups ? "cgroupfs" : "disabled"}`],
    runc: [],
  };
  return [
    "--root",
    state,
    ...options[runtime.name],
    "run",
    "--detach",
    "--pid-file",
    pidFile,
    "--bundle",
    bundle,
    ...more,
    id,
  ];
}

/** Whether it can be made to leave its control groups as they are. */
export const canKeepGroups = ({ name }: Runtime): boolean => name === "crun";

/** Whether the runtime can have the kernel log the calls that the filter refuses. runc learnt it with 1.2. */
export function logsDenied({ name, version }: Runtime): boolean {
  if (name === "crun") return true;
  const [major = 0, minor = 0] = version.split(/[.+~-]/).map(Number);
  return major > 1 || (major === 1 && minor >= 2);
}

/** Whether it stops where it sees controllers on a v2 hierarchy beside those on v1. */
export const refusesHybrid = ({ name }: Runtime): boolean => name === "crun";
