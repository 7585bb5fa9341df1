import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { AleError } from "@ale/core";
import { type CgroupHost, cgroupsPath, killGroup, removeGroup } from "./cgroup.ts";
import { ControlChannel } from "./control.ts";
import type { Image } from "./image.ts";
import { environmentOf, initArgv, startFields } from "./init.ts";
import { unmount } from "./native.ts";
import { ociConfig } from "./oci-config.ts";
import type { ReadWatch } from "./read-watch.ts";
import { mountRoot, plant } from "./rootfs.ts";
import type { SandboxSpec } from "./sandbox.ts";
import { type Places, places, removeSandboxDirectory } from "./state.ts";
import { Tree } from "./tree.ts";

/** One container's life on the host: mounts, runtime process, control channel, and the removal of all of it. */

export interface Host {
  /** The driver's directory. */
  readonly space: string;
  readonly runtime: string;
  readonly cgroups: CgroupHost;
  readonly reads: ReadWatch;
  /** Put before the runtime's command line, to run it where it can work (see mount-space.ts). */
  readonly prefix: readonly string[];
}

/** Told of every container from its first process to its last trace, so that its owner can always end it. */
export interface Tracker {
  add(container: RunningContainer): void;
  remove(id: string): void;
}

/** How long PID 1 may take to follow its closed control channel before it is killed. */
const POLITE_EXIT_MS = 500;

export class RunningContainer {
  readonly id: string;
  readonly control: ControlChannel;
  readonly tree: Tree;
  readonly #host: Host;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #track: Tracker;
  #stderr = "";
  #ended = false;
  #destroyed: Promise<void> | undefined;
  #lifetime: NodeJS.Timeout | undefined;

  constructor(host: Host, id: string, tree: Tree, child: ChildProcess, track: Tracker) {
    this.id = id;
    this.#track = track;
    this.tree = tree;
    this.#host = host;
    this.#child = child;
    const { stdin, stdout, stderr } = child as { stdin: Writable; stdout: Readable; stderr: Readable };
    this.control = new ControlChannel(stdin, stdout);
    stderr.on("data", (chunk: Buffer) => {
      if (this.#stderr.length < 4096) this.#stderr += chunk.toString("utf8");
    });
    this.#exited = new Promise((resolve) => {
      const done = (): void => {
        this.#ended = true;
        this.control.close();
        resolve();
      };
      child.once("exit", done);
      child.once("error", (error) => {
        this.#stderr += error.message;
        done();
      });
    });
  }

  /** True as soon as destruction has begun or PID 1 is gone. */
  get ended(): boolean {
    return this.#ended;
  }

  get reads(): ReadWatch {
    return this.#host.reads;
  }

  /** Throws an AleError if the container ended instead of starting. */
  async started(lifetimeMs: number): Promise<void> {
    if (!(await this.control.ready)) {
      await this.#exited;
      throw new AleError("sandbox-start-failed", `the container did not start: ${this.#stderr.trim()}`, {
        next: "run `ale doctor`",
      });
    }
    this.#lifetime = setTimeout(() => void this.destroy(), lifetimeMs);
    this.#lifetime.unref();
  }

  destroy(): Promise<void> {
    this.#destroyed ??= this.#destroy();
    return this.#destroyed;
  }

  async #destroy(): Promise<void> {
    clearTimeout(this.#lifetime);
    this.#ended = true;
    this.control.close();
    // PID 1 ends with its control channel, and with PID 1 everything in its namespace.
    this.#child.stdin?.destroy();
    this.#child.stdout?.destroy();
    await Promise.race([this.#exited, sleep(POLITE_EXIT_MS, undefined, { ref: false })]);
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.#kill();
    this.tree.close();
    await removeTraces(this.#host, this.id);
    this.#host.reads.forget(this.id);
    this.#track.remove(this.id);
  }

  async #kill(): Promise<void> {
    for (let round = 0; round < 100; round++) {
      if (killGroup(this.#host.cgroups, this.id)) this.#child.kill("SIGKILL");
      const gone = await Promise.race([this.#exited.then(() => true), sleep(20, false)]);
      if (gone) return;
    }
  }
}

/** Makes the mounts and files of a sandbox and starts its runtime. On failure nothing is left. */
export async function startContainer(
  host: Host,
  id: string,
  image: Image,
  spec: SandboxSpec,
  track: Tracker,
): Promise<RunningContainer> {
  let container: RunningContainer | undefined;
  try {
    const place = places(host.space, id);
    await mountRoot(place, image, spec.limits);
    const tree = new Tree(place.root);
    try {
      plant(tree, spec, (path, fd) => host.reads.add(id, path, fd));
      container = new RunningContainer(host, id, tree, launch(host, id, place, spec), track);
      track.add(container);
    } catch (error) {
      tree.close();
      throw error;
    }
    container.control.send("start", ...startFields(spec.workdir, environmentOf("agent", spec.env)));
    await container.started(spec.limits.lifetimeMs);
    return container;
  } catch (error) {
    if (container !== undefined) await container.destroy();
    else await removeTraces(host, id);
    throw error;
  }
}

function launch(host: Host, id: string, place: Places, spec: SandboxSpec): ChildProcess {
  const bundle = join(place.layer, "bundle");
  const config = ociConfig({
    id,
    rootfs: place.root,
    init: initArgv(),
    limits: spec.limits,
    cgroupsPath: cgroupsPath(id),
  });
  writeFileSync(join(bundle, "config.json"), JSON.stringify(config));
  const [program, ...argv] = [
    ...host.prefix,
    host.runtime,
    "--root",
    join(place.layer, "runtime"),
    "--cgroup-manager=cgroupfs",
    "run",
    "--bundle",
    bundle,
    id,
  ];
  // A session of its own: Ctrl-C in the owner's terminal is for the owner, who then destroys in order.
  return spawn(program!, argv, { stdio: ["pipe", "pipe", "pipe"], detached: true, cwd: "/" });
}

/** Removes mounts, groups and directories of a sandbox whose processes are gone or will be killed here. */
export async function removeTraces(host: Pick<Host, "space" | "cgroups">, id: string): Promise<boolean> {
  const place = places(host.space, id);
  // The merged root lies over the writable layer.
  for (const path of [place.root, place.layer]) while (unmount(path));
  let clean = false;
  for (let round = 0; round < 100 && !clean; round++) {
    clean = killGroup(host.cgroups, id) && removeGroup(host.cgroups, id);
    if (!clean) await sleep(10);
  }
  removeSandboxDirectory(host.space, id);
  return clean;
}
