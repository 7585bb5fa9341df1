import { type ChildProcess, spawn } from "node:child_process";
import { AleError } from "@ale/core";
import { MS_BIND, MS_SHARED, mount } from "./native.ts";
import { findTool } from "./tools.ts";

/**
 * crun refuses to run on hosts that keep some controllers on cgroup v1 and others on v2 ("hybrid"). It works in a mount
 * namespace that does not show the v2 hierarchy. One such namespace serves a driver; it is held by one small process and ends with it.
 * What is mounted under the driver's directory is seen there too, and its end as well, because that directory is shared with it.
 */
export interface MountSpace {
  /** Command line that enters the namespace. */
  readonly prefix: readonly string[];
  close(): void;
}

export async function openMountSpace(space: string, unified: string): Promise<MountSpace> {
  const [unshare, nsenter] = [findTool("unshare"), findTool("nsenter")];
  if (unshare === undefined || nsenter === undefined)
    throw new AleError("tool-missing", "unshare and nsenter are not installed", {
      next: "apt install util-linux",
    });
  share(space);
  const script = 'umount -l "$1" && echo ready && read -r _';
  const argv = ["--mount", "--propagation", "slave", "sh", "-c", script, "sh", unified];
  const holder = spawn(unshare, argv, { stdio: ["pipe", "pipe", "inherit"], detached: true, cwd: "/" });
  await readiness(holder);
  holder.unref();
  for (const stream of [holder.stdin, holder.stdout])
    (stream as unknown as { unref(): void } | null)?.unref();
  return {
    prefix: [nsenter, `--mount=/proc/${holder.pid}/ns/mnt`, "--"],
    close: () => {
      holder.stdin?.destroy();
      holder.kill("SIGKILL");
    },
  };
}

function share(directory: string): void {
  mount({ type: null, source: directory, target: directory, flags: MS_BIND });
  mount({ type: null, source: null, target: directory, flags: MS_SHARED });
}

function readiness(holder: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    holder.stdout!.once("data", () => resolve());
    const fail = (): void =>
      reject(
        new AleError(
          "cgroup-hybrid",
          "cannot hide the v2 hierarchy of this hybrid cgroup host from the runtime",
          {
            next: "run as root, or boot with systemd.unified_cgroup_hierarchy=1",
          },
        ),
      );
    holder.once("error", fail);
    holder.once("exit", fail);
  });
}
