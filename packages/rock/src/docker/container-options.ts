import type { Limits } from "@ale/core";
import type { SeccompProfile } from "../oci/seccomp.ts";

/** The engine's description of one sandbox's container. Pure: everything about the engine comes in as arguments. */

export interface ContainerRequest {
  /** The engine's image id: a name could come to mean another image meanwhile. */
  readonly image: string;
  /** Argument vector of PID 1. */
  readonly init: readonly string[];
  readonly limits: Limits;
  readonly labels: Readonly<Record<string, string>>;
  /** Value of the option `seccomp=`: the profile itself, or where the engine finds it; undefined leaves the engine's own. */
  readonly seccomp: string | undefined;
  /** Whether the engine bounds the writable layer. */
  readonly diskLimit: boolean;
  /** Directory of the engine's host with the interpreter of PID 1, where the image's own is not used, and where it is seen. */
  readonly interpreter: { readonly source: string; readonly target: string } | undefined;
  /** Podman as root raises the process count where it is not given, which it may not everywhere. */
  readonly processUlimit: number | undefined;
}

/** What root inside the sandbox may do to the sandbox's own files and processes. Nothing here reaches the host. */
const CAPABILITIES = [
  "CHOWN",
  "DAC_OVERRIDE",
  "FOWNER",
  "FSETID",
  "KILL",
  "SETGID",
  "SETUID",
  "SETPCAP",
] as const;

/** Engines hand the proxies of their host to containers; nothing is reachable from here, and their names are nobody's business. */
const NO_PROXY = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"].flatMap((name) => [
  `${name}=`,
  `${name.toUpperCase()}=`,
]);

const ulimit = (name: string, value: number) => ({ Name: name, Soft: value, Hard: value });

export function containerBody(request: ContainerRequest) {
  const [program, ...args] = request.init;
  return {
    Image: request.image,
    Entrypoint: [program],
    Cmd: args,
    User: "0:0",
    WorkingDir: "/",
    Env: NO_PROXY,
    Hostname: "sandbox",
    Labels: request.labels,
    Tty: false,
    OpenStdin: true,
    // The control channel: when its one connection ends, so does stdin, and with it PID 1. An owner that dies takes its sandboxes along.
    StdinOnce: true,
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
    StopTimeout: 0,
    // The image's own check would run beside the sandbox's programs.
    Healthcheck: { Test: ["NONE"] },
    HostConfig: hostConfig(request),
  };
}

function hostConfig(request: ContainerRequest) {
  const { limits, seccomp, interpreter, processUlimit } = request;
  return {
    AutoRemove: true,
    Init: false,
    Privileged: false,
    NetworkMode: "none",
    // With no network there is nobody to ask, and the host's resolvers are not told.
    Dns: ["127.0.0.1"],
    IpcMode: "private",
    CgroupnsMode: "private",
    CapDrop: ["ALL"],
    CapAdd: CAPABILITIES,
    SecurityOpt: ["no-new-privileges", ...(seccomp === undefined ? [] : [`seccomp=${seccomp}`])],
    Memory: limits.memoryBytes,
    MemorySwap: limits.memoryBytes,
    NanoCpus: Math.max(1e7, Math.round(limits.cpus * 1e9)),
    // One more for PID 1, which is not the agent's.
    PidsLimit: limits.pids + 1,
    ShmSize: Math.min(limits.diskBytes, Math.floor(limits.memoryBytes / 4)),
    Ulimits: [
      ulimit("nofile", 1024),
      ulimit("core", 0),
      ...(processUlimit === undefined ? [] : [ulimit("nproc", processUlimit)]),
    ],
    // PID 1 raises this for everything it starts, so that memory pressure ends the workload and never the sandbox.
    OomScoreAdj: 0,
    // Its stdout is the control channel: a log of that would fill the host's disk.
    LogConfig: { Type: "none" },
    ...(request.diskLimit ? { StorageOpt: { size: String(limits.diskBytes) } } : {}),
    ...(interpreter === undefined
      ? {}
      : {
          Mounts: [
            {
              // A volume or `Binds` would make a source that is not there.
              Type: "bind",
              Source: interpreter.source,
              Target: interpreter.target,
              ReadOnly: true,
              BindOptions: { Propagation: "rprivate" },
            },
          ],
        }),
  };
}

/** An older Docker answers what its profile does not name with "not permitted", and then no libc falls back from clone3 to clone. */
export function engineSeccomp(profile: SeccompProfile): SeccompProfile {
  const clone3 = { names: ["clone3"], action: "SCMP_ACT_ERRNO", errnoRet: profile.defaultErrnoRet } as const;
  return { ...profile, syscalls: [...profile.syscalls, clone3] };
}
