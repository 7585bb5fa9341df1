import type { Limits } from "@ale/core";
import { CPU_PERIOD_US, quotaOf } from "../host/own-groups.ts";
import { type SeccompProfile, seccompProfile } from "./seccomp.ts";

/** The OCI runtime configuration of one sandbox. Pure: everything about the host comes in as arguments. */

interface IdMapping {
  readonly containerID: number;
  readonly hostID: number;
  readonly size: number;
}

export interface UserMappings {
  readonly uids: readonly IdMapping[];
  readonly gids: readonly IdMapping[];
}

export interface ConfigRequest {
  readonly rootfs: string;
  readonly hostname: string;
  /** Files and directories of the host, as the runtime sees them, that the sandbox's root may enter. */
  readonly binds: readonly {
    readonly source: string;
    readonly destination: string;
    readonly readonly?: boolean;
  }[];
  /** Argument vector of PID 1. */
  readonly init: readonly string[];
  readonly limits: Limits;
  /** Beside those that every sandbox has. */
  readonly readOnlyPaths?: readonly string[] | undefined;
  /** Undefined: there are no control groups; processes are then counted by the kernel's limit for users (the runtime and PID 1 are two more), and nothing else is limited. */
  readonly cgroupsPath: string | undefined;
  /** Which numbers of the host the sandbox's users and groups are. Without it they are the host's own. */
  readonly users?: UserMappings | undefined;
  /** Whether the kernel logs what the filter refuses. */
  readonly logDenied: boolean;
  /** The host's network instead of one with nothing in it. Set by image builds alone, where their user spelled it out. */
  readonly hostNetwork?: boolean;
  /** Null: leave the compilation to the runtime. */
  readonly compileSeccomp: (profile: SeccompProfile) => Buffer | null;
}

/** What root inside the sandbox may do to the sandbox's own files and processes. Nothing here reaches the host. */
const CAPABILITIES = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETPCAP",
] as const;

const MASKED = [
  "/proc/acpi",
  "/proc/asound",
  "/proc/config.gz",
  "/proc/kallsyms",
  "/proc/kcore",
  "/proc/keys",
  "/proc/kmsg",
  "/proc/latency_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/sys/devices/virtual/powercap",
  "/sys/firmware",
] as const;
const READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] as const;

export function ociConfig(request: ConfigRequest) {
  const seccomp = seccompProfile();
  const bpf = request.compileSeccomp(seccomp);
  return {
    ociVersion: "1.0.2",
    hostname: request.hostname,
    root: { path: request.rootfs, readonly: false },
    process: processOf(request),
    // The kernel shows /sys only to whom its network belongs.
    mounts: [
      ...mountsOf(request.limits).filter(({ type }) => !(request.hostNetwork === true && type === "sysfs")),
      ...request.binds.map(bindOf),
    ],
    // Spares the runtime the compilation; one that does not know the annotation compiles `linux.seccomp`.
    annotations: bpf === null ? {} : { "run.oci.seccomp_bpf_data": bpf.toString("base64") },
    linux: {
      ...namespacesOf(request.users, request.hostNetwork === true),
      maskedPaths: MASKED,
      readonlyPaths: [...READ_ONLY, ...(request.readOnlyPaths ?? [])],
      seccomp: request.logDenied ? { ...seccomp, flags: ["SECCOMP_FILTER_FLAG_LOG"] } : seccomp,
      ...(request.cgroupsPath === undefined
        ? {}
        : { cgroupsPath: request.cgroupsPath, resources: resourcesOf(request.limits) }),
    },
  };
}

function namespacesOf(users: UserMappings | undefined, hostNetwork: boolean) {
  const network = hostNetwork ? [] : ["network"];
  const shared = ["pid", "ipc", "uts", "mount", "cgroup", ...network].map((type) => ({ type }));
  if (users === undefined) return { namespaces: shared };
  const { uids, gids } = users;
  return { namespaces: [...shared, { type: "user" }], uidMappings: uids, gidMappings: gids };
}

function processOf(request: ConfigRequest) {
  return {
    terminal: false,
    user: { uid: 0, gid: 0 },
    args: request.init,
    env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    cwd: "/",
    capabilities: {
      bounding: CAPABILITIES,
      effective: CAPABILITIES,
      permitted: CAPABILITIES,
      inheritable: [],
      ambient: [],
    },
    rlimits: [
      { type: "RLIMIT_NOFILE", soft: 1024, hard: 1024 },
      { type: "RLIMIT_CORE", soft: 0, hard: 0 },
      ...(request.cgroupsPath === undefined
        ? [{ type: "RLIMIT_NPROC", soft: request.limits.pids + 1, hard: request.limits.pids + 1 }]
        : []),
    ],
    noNewPrivileges: true,
    // PID 1 raises this for everything it starts, so that memory pressure ends the workload and never the sandbox.
    oomScoreAdj: 0,
  };
}

function mountsOf(limits: Limits) {
  const shm = Math.min(limits.diskBytes, Math.floor(limits.memoryBytes / 4));
  const tmpfs = (destination: string, ...options: string[]) => ({
    destination,
    type: "tmpfs",
    source: "tmpfs",
    options,
  });
  return [
    { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
    tmpfs("/dev", "nosuid", "noexec", "strictatime", "mode=755", "size=64k"),
    {
      destination: "/dev/pts",
      type: "devpts",
      source: "devpts",
      options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    tmpfs("/dev/shm", "nosuid", "noexec", "nodev", "mode=1777", `size=${shm}`),
    { destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", "ro"] },
  ];
}

const bindOf = ({ source, destination, readonly }: ConfigRequest["binds"][number]) => ({
  destination,
  type: "bind",
  source,
  options: ["bind", "nosuid", "nodev", ...(readonly === true ? ["ro"] : [])],
});

function resourcesOf(limits: Limits) {
  return {
    // The runtime adds the standard nodes (null, zero, full, random, urandom, tty) again.
    devices: [{ allow: false, access: "rwm" }],
    memory: { limit: limits.memoryBytes, swap: limits.memoryBytes },
    cpu: { quota: quotaOf(limits), period: CPU_PERIOD_US },
    // One more for PID 1, which is not the agent's.
    pids: { limit: limits.pids + 1 },
  };
}
