import { AleError } from "@ale/core";
import { isRootless } from "../host/rootless.ts";
import { logsDenied, type Runtime } from "../host/runtime.ts";
import type { Capabilities } from "../port/capabilities.ts";
import type { Host } from "./container-host.ts";
import type { NetworkFindings } from "./network.ts";
import { type TelemetryFindings, telemetrySources } from "./telemetry.ts";

/** What this host can do, and the refusal of what it cannot. */

export interface Findings {
  /** Why sandboxes have no users of their own. */
  readonly usersMissing: string | undefined;
  /** Where refused calls were found. */
  readonly denials: TelemetryFindings["denials"];
  readonly network: NetworkFindings;
}

export function capabilityRecord(host: Host, { usersMissing, denials, network }: Findings): Capabilities {
  const { cgroups, runtime, users, groups, logDenied } = host;
  const rootless = isRootless();
  const telemetry = telemetrySources({ denials, groups, network: network.modes });
  return {
    driver: "oci",
    runtime: `${runtime.name} ${runtime.version}`,
    rootless,
    cgroup: cgroups.kind,
    userns: rootless || users !== undefined,
    idmap: users !== undefined,
    enforces: { cpu: groups, memory: groups, pids: true, disk: true },
    quota: rootless ? ["tmpfs"] : ["tmpfs", "loop"],
    network: network.modes,
    trace: denials === undefined ? [] : [denials],
    telemetry: telemetry.sources,
    arguments: telemetry.arguments,
    checkpoint: "layers",
    weaker: [
      ...(usersMissing === undefined ? [] : [{ what: "userns", why: usersMissing }]),
      ...(groups ? [] : [WITHOUT_GROUPS]),
      ...telemetry.weaker,
      ...network.missing.map((why) => ({ what: "network", why })),
      ...(denials === "kernel-log" ? [LIMITED] : []),
      ...(denials === undefined ? [{ what: "trace", why: whyNotLogged(runtime, logDenied) }] : []),
    ],
  };
}

const LIMITED = {
  what: "trace",
  why: "refused calls come from /dev/kmsg, ten in five seconds for the whole host (what is dropped is counted): the kernel's audit needs CAP_AUDIT_READ in the first namespaces",
} as const;

const WITHOUT_GROUPS = {
  what: "cpu, memory",
  why: "there are no control groups that this user may write: nothing limits them",
} as const;

function whyNotLogged(runtime: Runtime, wanted: boolean): string {
  if (wanted)
    return "refused calls appear neither in the kernel's audit nor in /dev/kmsg: both are closed to this user, or the kernel has no audit";
  return logsDenied(runtime)
    ? "switched off by the driver's option `deniedCalls`"
    : `${runtime.name} ${runtime.version} cannot have them logged; crun can (apt install crun)`;
}

/** Throws an AleError where a limit would not hold that was not given up by name. */
export function refuseUnenforced(host: Host, given: readonly string[] = []): void {
  const missing = host.groups ? [] : ["memory", "cpu"].filter((name) => !given.includes(name));
  if (missing.length === 0) return;
  const way = isRootless()
    ? "run as root"
    : "run on a host, or in a container, with a writable /sys/fs/cgroup that has the controllers cpu, memory and pids";
  throw new AleError(
    "limits-unenforced",
    `limits of ${missing.join(" and ")} cannot be enforced: there are no control groups that this user may write`,
    {
      next: `${way}, or do without them: --without-limit memory,cpu (option \`unenforced\` of the driver)`,
    },
  );
}
