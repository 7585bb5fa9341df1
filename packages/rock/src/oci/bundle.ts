import { chmodSync, chownSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Limits } from "@ale/core";
import { cgroupsPath } from "../host/cgroup.ts";
import type { Hierarchies } from "../host/own-groups.ts";
import { type Runtime, runInvocation } from "../host/runtime.ts";
import { starterArgv } from "../inside/init.ts";
import { INSIDE, type MountedToolbox } from "../inside/toolbox.ts";
import type { Launched, Launcher } from "./launcher.ts";
import type { LayerPlace } from "./layer.ts";
import type { Networks } from "./network.ts";
import { ociConfig, type UserMappings } from "./oci-config.ts";
import type { SandboxUsers } from "./sandbox-users.ts";
import { compiledSeccomp } from "./seccomp-compile.ts";

/** What a runtime is given to run a sandbox: its configuration, and the few files that are bound over the image's. */

export interface BundleRequest {
  readonly id: string;
  /** The sandbox's own directory. */
  readonly directory: string;
  readonly root: string;
  readonly layer: LayerPlace;
  readonly limits: Limits;
  readonly readOnlyPaths?: readonly string[] | undefined;
  readonly users: SandboxUsers | undefined;
}

export interface BundleHost {
  readonly launcher: Launcher;
  readonly runtime: Runtime;
  readonly logDenied: boolean;
  readonly toolbox: MountedToolbox;
  /** Whether sandboxes share the host's network instead of having none. */
  readonly hostNetwork: boolean;
  /** Undefined: its sandboxes never have any. */
  readonly networks: Networks | undefined;
  /** Whether limits are those of control groups. */
  readonly groups: boolean;
  /** Where sandboxes enter their groups by themselves; undefined where the runtime puts them into them. */
  readonly ownHierarchies: Hierarchies | undefined;
  /** Of a sandbox without users of its own that still has a namespace of its own for them. */
  readonly sharedUsers: UserMappings | undefined;
}

const RESOLVER = "/etc/resolv.conf";

/** What a runtime says on stderr, and PID 1 after it. */
export const logOf = (layer: LayerPlace): string => join(layer.bundle, "log");

/** What starts the runtime, which then waits for its configuration. `enter`: what puts it into groups of its own. */
export function launchRuntime(host: BundleHost, id: string, layer: LayerPlace, enter?: string): Launched {
  const { launcher } = host;
  const [bundle, state] = [launcher.seen(layer.bundle), launcher.seen(layer.runtime)];
  const [log, pidFile] = [launcher.seen(logOf(layer)), join(bundle, "pid")];
  const groups = host.groups && enter === undefined;
  const invocation = runInvocation(host.runtime, { state, bundle, id, groups, pidFile });
  return launcher.launch(id, { log, pidFile }, { ...invocation, groups: enter });
}

/** Its configuration. */
export function writeBundle(host: BundleHost, request: BundleRequest): string {
  const { id, directory, root, layer, limits, readOnlyPaths, users } = request;
  const { launcher } = host;
  if (users !== undefined) for (const place of [directory, layer.directory]) letIn(place, users);
  const config = ociConfig({
    rootfs: launcher.seen(root),
    hostname: hostnameOf(id),
    binds: [
      { source: launcher.seen(writeHosts(layer.hosts, id, users)), destination: "/etc/hosts" },
      { source: launcher.seen(host.toolbox.mount), destination: INSIDE, readonly: true },
      ...resolverOf(host, layer, users),
    ],
    users: users === undefined ? host.sharedUsers : mappingsOf(users),
    init: starterArgv(host.toolbox.perl, host.toolbox.waiter),
    limits,
    readOnlyPaths,
    cgroupsPath: host.groups ? cgroupsPath(id) : undefined,
    compileSeccomp: compiledSeccomp,
    logDenied: host.logDenied,
    hostNetwork: host.hostNetwork,
  });
  const text = JSON.stringify(config);
  writeFileSync(join(layer.bundle, "config.json"), text);
  return text;
}

function mappingsOf({ first, size }: SandboxUsers): UserMappings {
  const mappings = [{ containerID: 0, hostID: first, size }];
  return { uids: mappings, gids: mappings };
}

/** Empty, and filled when there is a resolver; nobody inside can. */
function resolverOf(host: BundleHost, { resolver }: LayerPlace, users: SandboxUsers | undefined) {
  const bind = (source: string) => [{ source, destination: RESOLVER, readonly: true }];
  if (host.hostNetwork) return existsSync(RESOLVER) ? bind(RESOLVER) : [];
  return host.networks === undefined ? [] : bind(host.launcher.seen(writeOwned(resolver, "", users)));
}

/** The runtime enters the root with the rights of the sandbox's own root; nobody else may. */
function letIn(directory: string, users: SandboxUsers): void {
  chownSync(directory, 0, users.first);
  chmodSync(directory, 0o710);
}

/** The names that a machine knows without a network. Beside the writable layer, so that it is the sandbox's own and no change of its image. */
function writeHosts(path: string, id: string, users: SandboxUsers | undefined): string {
  const names = `127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 ${hostnameOf(id)}\n`;
  return writeOwned(path, names, users);
}

/** As its root's own. */
function writeOwned(path: string, content: string, users: SandboxUsers | undefined): string {
  writeFileSync(path, content);
  if (users !== undefined) chownSync(path, users.first, users.first);
  return path;
}

/** Long enough to tell sandboxes apart, short enough for a prompt. */
const hostnameOf = (id: string): string => (id.length <= 16 ? id : id.slice(-12).replace(/^-+/, ""));
