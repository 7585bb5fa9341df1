import { AleError } from "@ale/core";
import { isRootless } from "../host/rootless.ts";
import { logsDenied, type Runtime } from "../host/runtime.ts";
import type { Capabilities } from "../port/capabilities.ts";
import type { Host } from "./container.ts";
import type { NetworkFindings } from "./network.ts";
import { telemetrySources } from "./telemetry.ts";

/** What this host can do, and the refusal of what it cannot. */

export interface Findings {
  /** Why sandboxes have no users of their own. */
  readonly usersMissing: string | undefined;
  /** Whether refused calls were found in the kernel's log. */
  readonly logged: boolean;
  readonly network: NetworkFindings;
}

export function capabilityRecord(host: Host, { usersMissing, logged, network }: Findings): Capabilities {
  const { cgroups, runtime, users, groups, logDenied } = host;
  const rootless = isRootless();
  const telemetry = telemetrySources({ logged, groups, network: network.modes });
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
    trace: logged ? ["kernel-log"] : [],
    telemetry: telemetry.sources,
    arguments: telemetry.arguments,
    checkpoint: "layers",
    weaker: [
      ...(usersMissing === undefined ? [] : [{ what: "userns", why: usersMissing }]),
      ...(groups ? [] : [WITHOUT_GROUPS]),
      ...telemetry.weaker,
      ...network.missing.map((why) => ({ what: "network", why })),
      ...(logged ? [] : [{ what: "trace", why: whyNotLogged(runtime, logDenied) }]),
    ],
  };
}

const WITHOUT_GROUPS = {
  what: "cpu, memory",
  why: "there are no control groups that this user may write: nothing limits them",
} as const;

function whyNotLogged(runtime: Runtime, wanted: boolean): string {
  if (wanted)
    return "refused calls do not appear in /dev/kmsg: it is closed to this user, or auditd takes them, or the kernel has no audit";
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
