import type { NetworkPolicy, TelemetrySource } from "@ale/core";

/** What a driver can do on this host, said honestly: a task that asks for more is refused, never run weaker. */
export interface Capabilities {
  readonly driver: "oci" | "docker";
  /** OCI runtime or engine and its version, e.g. "crun 1.8.1". */
  readonly runtime: string;
  readonly rootless: boolean;
  readonly cgroup: "v1" | "v2" | "hybrid" | "none";
  /** Root inside the sandbox is an unprivileged user of the host. */
  readonly userns: boolean;
  /** Image layers are shared between user namespaces through idmapped mounts, without a copy. */
  readonly idmap: boolean;
  /** Limits that the host can enforce hard. */
  readonly enforces: {
    readonly cpu: boolean;
    readonly memory: boolean;
    readonly pids: boolean;
    readonly disk: boolean;
  };
  /** How the disk limit is enforced. */
  readonly quota: readonly ("tmpfs" | "loop" | "project" | "engine" | "none")[];
  readonly network: readonly NetworkPolicy["mode"][];
  /** Where system calls that were refused can be read. */
  readonly trace: readonly ("audit" | "kernel-log" | "tracefs")[];
  /** What `Sandbox.onTelemetry` tells of; `weaker` says why a source is missing. */
  readonly telemetry: readonly TelemetrySource[];
  /**
   * Where telemetry has the arguments of programs from. `kernel`: written down the moment a program starts. `proc`: read while it runs, so that those
   * of very short ones are unknown.
   */
  readonly arguments: "kernel" | "proc" | "none";
  /** `layers`: constant-time snapshots by sealing the writable layer. `commit`: by the engine. */
  readonly checkpoint: "layers" | "commit" | "none";
  /** What is weaker on this host than it could be, and why, in words for people. */
  readonly weaker: readonly { readonly what: string; readonly why: string }[];
}
