import { randomBytes } from "node:crypto";
import { realpathSync } from "node:fs";
import { totalmem } from "node:os";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { salvage } from "../evidence/salvage.ts";
import { ReadWatch } from "../files/read-watch.ts";
import { type CgroupHost, missingControllers, probeCgroups } from "../host/cgroup.ts";
import { IdRanges } from "../host/id-ranges.ts";
import { mountsUnder, removeTreeAside } from "../host/mounts.ts";
import { unmount } from "../host/native.ts";
import { ownHierarchies } from "../host/own-groups.ts";
import { everybodyHere, isRootless, rootlessObstacle } from "../host/rootless.ts";
import {
  canKeepGroups,
  findRuntime,
  logsDenied,
  type Runtime,
  type RuntimeName,
  refusesHybrid,
} from "../host/runtime.ts";
import { isSupportedMachine } from "../host/syscalls.ts";
import { findTool } from "../host/tools.ts";
import { ensureToolbox, type MountedToolbox, mountToolbox } from "../inside/toolbox.ts";
import { SnapshotStore } from "../snapshot/snapshot-store.ts";
import { adopt, endAll, type Lost } from "./adopt.ts";
import type { Host } from "./container-host.ts";
import { Launcher } from "./launcher.ts";
import { LayerStore } from "./layer-store.ts";
import { whyNotMapped } from "./mapping-probe.ts";
import { Networks } from "./network.ts";
import type { OciDriverOptions } from "./options.ts";
import { reapDead } from "./reap.ts";
import { lockSpace } from "./space-lock.ts";
import { createSpace, durableSpace, prepareSpace, toolboxMount } from "./state.ts";
import { UserNamespaces } from "./user-namespaces.ts";

/** Takes hold of a host for a driver: checks what is there, clears up after others, and opens what all its sandboxes share. */

export interface OpenHost {
  readonly host: Host;
  readonly snapshots: SnapshotStore;
  readonly budgetBytes: number;
  /** Why sandboxes have no users of their own. */
  readonly usersMissing: string | undefined;
  /** Of a durable space. */
  readonly lost: Lost;
  /** When no sandbox is left that runs. */
  close(): Promise<void>;
}

/** Throws an AleError that says what is missing and how to get it. */
export async function openHost(home: string, options: OciDriverOptions): Promise<OpenHost> {
  requireLinux();
  requireRoot();
  const rootless = isRootless();
  const runtime = requireRuntime(rootless ? "crun" : options.runtime);
  const perl = requireTool("perl", "tool-missing", "perl-base");
  const cgroups = probeCgroups();
  const groups = missingControllers(cgroups).length === 0;
  await reapDead(home, cgroups);
  const releases: (() => void | Promise<void>)[] = [];
  const release = async (): Promise<void> => {
    for (const one of releases.splice(0).reverse()) await one();
  };
  try {
    const space = await openSpace(home, options.durable, cgroups, releases);
    const unified = refusesHybrid(runtime) ? cgroups.unified : undefined;
    const launcher = await Launcher.open({ perl, runtime: runtime.path, space, unified });
    releases.push(() => launcher.close());
    const reads = new ReadWatch();
    releases.push(() => reads.close());
    const { users, missing } = await openUsers(home, space, launcher, options);
    releases.push(() => users?.[Symbol.dispose]());
    const toolbox = openToolbox(home, space);
    releases.push(() => void unmount(toolbox.mount));
    const hostNetwork = options.buildNetwork === "host";
    const networks = hostNetwork ? undefined : new Networks(cgroups, options.egress);
    releases.push(() => networks?.[Symbol.dispose]());
    const layers = new LayerStore(space);
    const snapshots = new SnapshotStore(space, layers);
    const lost = await adopt(space, layers, snapshots);
    const durable = options.durable !== undefined;
    // What could not be kept now is kept later: the files of a durable space stay.
    if (durable) await salvage(home, space);
    const logDenied = options.deniedCalls !== "off" && logsDenied(runtime);
    return {
      host: {
        space,
        durable,
        runtime,
        cgroups,
        groups,
        ownHierarchies: groups && !rootless && canKeepGroups(runtime) ? ownHierarchies() : undefined,
        sharedUsers: rootless ? everybodyHere() : undefined,
        reads,
        launcher,
        layers,
        users,
        logDenied,
        toolbox,
        hostNetwork,
        networks,
      },
      snapshots,
      budgetBytes: options.snapshotBytes ?? totalmem() / 2,
      usersMissing: missing,
      lost,
      close: release,
    };
  } catch (error) {
    await release();
    throw error;
  }
}

async function openSpace(
  home: string,
  durable: string | undefined,
  cgroups: CgroupHost,
  releases: (() => void | Promise<void>)[],
): Promise<string> {
  if (durable === undefined) {
    const { directory } = createSpace(home, randomBytes(3).toString("hex"));
    releases.push(() => removeTreeAside(directory));
    return directory;
  }
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(durable))
    throw new AleError("space-invalid", `${JSON.stringify(durable.slice(0, 80))} cannot name sandboxes`, {
      next: "use 1 to 63 lower-case letters, digits and hyphens, beginning with a letter or digit",
    });
  const space = durableSpace(home, durable);
  prepareSpace(space);
  const lock = lockSpace(space);
  releases.push(() => lock[Symbol.dispose]());
  releases.push(() => unshare(space));
  await endAll(space, cgroups);
  return space;
}

/** The launcher has the space mounted on itself. It stays so for the layers that are mounted in it, and goes when none is. */
function unshare(space: string): void {
  const real = realpathSync(space);
  const mounts = mountsUnder(real);
  if (mounts.length === 1 && mounts[0] === real) unmount(real);
}

function openToolbox(home: string, space: string): MountedToolbox {
  const target = toolboxMount(space);
  // A durable space's last owner may have left it.
  while (unmount(target));
  return mountToolbox(ensureToolbox(home), target);
}

async function openUsers(
  home: string,
  space: string,
  launcher: Launcher,
  options: OciDriverOptions,
): Promise<{ users: UserNamespaces | undefined; missing: string | undefined }> {
  if (isRootless())
    return {
      users: undefined,
      missing: "all sandboxes of an ordinary user have the users that /etc/subuid gives him",
    };
  const users = new UserNamespaces(launcher, new IdRanges(options.idRange));
  const missing =
    options.userns === "off"
      ? "switched off by the driver's option `userns`"
      : await whyNotMapped(space, join(home, "images"), users);
  if (missing === undefined) return { users, missing };
  users[Symbol.dispose]();
  return { users: undefined, missing };
}

function requireLinux(): void {
  if (process.platform !== "linux" || !isSupportedMachine())
    throw new AleError("host-unsupported", `no sandboxes on ${process.platform}/${process.arch}`, {
      next: "use Linux on x86-64 or arm64 (on macOS: inside a Linux virtual machine)",
    });
}

function requireRuntime(wanted?: RuntimeName): Runtime {
  const runtime = findRuntime(wanted);
  if (runtime === undefined)
    throw new AleError(
      "runtime-missing",
      wanted === undefined ? "neither crun nor runc runs here" : `${wanted} does not run here`,
      {
        next: `apt install ${wanted ?? "crun"}`,
      },
    );
  return runtime;
}

export function requireTool(name: string, code: string, debianPackage: string): string {
  const tool = findTool(name);
  if (tool === undefined)
    throw new AleError(code, `${name} is not installed`, { next: `apt install ${debianPackage}` });
  return tool;
}

export function requireRoot(): void {
  if (process.getuid?.() !== 0)
    throw new AleError(
      "need-root",
      `sandboxes need root on this host: ${rootlessObstacle() ?? NOT_STARTED_FOR_IT}`,
      {
        next: "run the same command with sudo, or through ./ale, which makes an ordinary user root of a namespace",
      },
    );
}

const NOT_STARTED_FOR_IT = "this program was not started for an ordinary user";
