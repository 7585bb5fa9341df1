import type { Capabilities } from "../port/capabilities.ts";
import type { ContainerHost } from "./docker-container.ts";
import type { EngineInfo } from "./engine-info.ts";

/** What sandboxes at an engine can do, and where they are weaker than they could be. */

export const NETWORK_MODES: Capabilities["network"] = ["none"];

export function capabilityRecord(info: EngineInfo, host: ContainerHost): Capabilities {
  return {
    driver: "docker",
    runtime: info.runtime,
    rootless: info.rootless,
    cgroup: info.cgroup,
    userns: info.userns,
    idmap: false,
    enforces: { ...info.enforces, disk: host.diskLimit },
    quota: [host.diskLimit ? "engine" : "none"],
    network: NETWORK_MODES,
    trace: [],
    telemetry: [],
    arguments: "none",
    checkpoint: "commit",
    weaker: weaknesses(info, host),
  };
}

function weaknesses(info: EngineInfo, host: ContainerHost): Capabilities["weaker"] {
  const weaker = [
    {
      what: "nothing is told of what happens in a sandbox (telemetry)",
      why: "the collectors read this host's kernel, and an engine may run elsewhere",
    },
    {
      what: "snapshots and forks cost time in proportion to what was written",
      why: "the engine copies the writable layer",
    },
  ];
  if (!host.diskLimit)
    weaker.push({ what: "a sandbox can fill the engine's disk", why: "the engine bounds no writable layer" });
  if (host.seccomp === undefined)
    weaker.push({
      what: "system calls are filtered by the engine's own list",
      why: "`unenforced` names seccomp",
    });
  if (host.toolbox === undefined)
    weaker.push({
      what: "an image needs perl and bash of its own, and they run its sandboxes",
      why: "the engine does not reach this host's files",
    });
  if (!info.userns)
    weaker.push({
      what: "root in a sandbox is root on the engine's host, without its capabilities",
      why: "the engine uses no user namespaces",
    });
  return weaker;
}
