import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { AleError } from "@ale/core";
import { z } from "zod";
import { ControlChannel } from "../inside/control.ts";
import { startFields } from "../inside/init.ts";
import { INSIDE, type Toolbox } from "../inside/toolbox.ts";
import { Activity } from "../life/activity.ts";
import { Deadlines } from "../life/deadlines.ts";
import type { EndReason, Hold, SandboxSpec, SandboxStats } from "../port/sandbox.ts";
import { containerBody } from "./container-options.ts";
import { standardStreams } from "./demultiplex.ts";
import type { Engine } from "./engine.ts";
import type { EngineImage } from "./engine-images.ts";
import { statsOf } from "./engine-stats.ts";
import { fileFields, programChunk, starterArgv } from "./inside.ts";
import { LABEL, ownerLabel } from "./labels.ts";

/** One sandbox's container at the engine: its making, its control channel, and its removal. */

export interface ContainerHost {
  readonly engine: Engine;
  readonly seccomp: string | undefined;
  readonly diskLimit: boolean;
  readonly processUlimit: number | undefined;
  /** What runs PID 1 and shells where the image has nothing for it. Undefined where the engine's host is not this one. */
  readonly toolbox: Toolbox | undefined;
}

/** Told when the last trace of a container is gone. */
export interface ContainerTracker {
  remove(id: string): void;
}

/** A longer one would fire at once. */
/** How long PID 1 may take to say its first word. Its image is there already. */
const READY_MS = 30_000;
/** How long the engine may take to remove what it was told to remove. */
const REMOVAL_MS = 30_000;

const Created = z.object({ Id: z.string() });

export class DockerContainer {
  readonly id: string;
  readonly control = new ControlChannel();
  readonly activity = new Activity();
  readonly image: EngineImage;
  /** Who reads what is noticed inside, by PID 1. */
  readonly reads = { collect: (): void => {} };
  /** Resolves when its last trace is gone. */
  readonly whenEnded: Promise<EndReason>;
  readonly #engine: Engine;
  /** The engine's own id of it: a name could be another's. Undefined until it is made. */
  #name: string | undefined;
  readonly #track: ContainerTracker;
  readonly #settleEnded: (reason: EndReason) => void;
  #connection: Duplex | undefined;
  #complaint = "";
  #endReason: EndReason | undefined;
  #destroyed: Promise<void> | undefined;
  #started = false;
  #frozen = false;
  #held: Disposable | undefined;
  /** Of one that has started. */
  #spec: SandboxSpec | undefined;
  readonly #deadlines = new Deadlines((reason) => void this.destroy(reason));

  constructor(engine: Engine, id: string, image: EngineImage, track: ContainerTracker) {
    this.id = id;
    this.image = image;
    this.#engine = engine;
    this.#track = track;
    const { promise, resolve } = Promise.withResolvers<EndReason>();
    this.whenEnded = promise;
    this.#settleEnded = resolve;
  }

  /** True as soon as destruction has begun or PID 1 is gone. */
  get ended(): boolean {
    return this.control.gone;
  }

  /** Throws an AleError `sandbox-gone` before it is made. */
  get engineId(): string {
    if (this.#name !== undefined) return this.#name;
    throw new AleError("sandbox-gone", `sandbox ${this.id} has no container`, {
      next: "create a new sandbox",
    });
  }

  get endReason(): EndReason | undefined {
    return this.#endReason;
  }

  /** Its time counts from `handOver` on. Throws an AleError. What is left then is `destroy`'s to remove. */
  async start(host: ContainerHost, spec: SandboxSpec, signal?: AbortSignal): Promise<void> {
    const { arch } = this.#engine.version;
    const { toolbox } = host;
    const body = containerBody({
      image: this.image.id,
      init: starterArgv(toolbox?.perl),
      limits: spec.limits,
      labels: labelsOf(this.id, spec, this.image),
      seccomp: host.seccomp,
      diskLimit: host.diskLimit,
      interpreter: toolbox && { source: toolbox.directory, target: INSIDE },
      processUlimit: host.processUlimit,
    });
    const query = { name: `ale-${this.id}` };
    // Not to be aborted: it would be unknown whether there is a container.
    const { Id } = await this.#engine.json("POST", "/containers/create", Created, { query, json: body });
    this.#name = Id;
    // Before it starts, so that not a byte of it is missed.
    const streams = { stream: true, stdin: true, stdout: true, stderr: true };
    const attached = this.#engine.hijack(`/containers/${Id}/attach`, streams, signal);
    this.#connection = await this.#beginning(spec.image, attached);
    const channel = standardStreams(this.#connection, (bytes) => this.#note(bytes));
    this.control.attach(channel);
    // Before it has started, its starter removes it and reads what it has to say.
    channel.once("close", () => this.#started && void this.destroy("crashed"));
    const started = this.#engine.order("POST", `/containers/${Id}/start`, {}, signal);
    await this.#beginning(spec.image, started);
    channel.write(programChunk());
    this.control.send("start", ...startFields(arch, toolbox?.bash));
    const late = sleep(READY_MS, false, { ref: false });
    const ready = await Promise.race([this.control.ready, late]);
    if (!ready) throw this.#notStarted(spec.image);
    await Promise.race([this.control.request("files-begin", fileFields(arch)), late]);
    this.#started = true;
    this.#spec = spec;
  }

  /** Somebody has it: from now on its lifetime, its idle time and its uptime count. */
  handOver(): void {
    if (this.#spec === undefined || this.ended) return;
    this.activity.restart();
    this.#deadlines.lifetime(this.#spec.limits.lifetimeMs);
    if (this.#spec.idleMs !== undefined) this.#deadlines.idle(this.#spec.idleMs, this.activity);
  }

  /** What engines and their runtimes say of a program that is not in the image, Podman at the attaching already. */
  async #beginning<T>(image: string, step: Promise<T>): Promise<T> {
    try {
      return await step;
    } catch (reason) {
      const isMissing = reason instanceof AleError && /perl.*(not found|no such file)/is.test(reason.message);
      if (!isMissing) throw reason;
      this.#complaint ||= reason.message;
      throw this.#notStarted(image);
    }
  }

  #note(bytes: Buffer): void {
    if (this.#complaint.length < 4_096) this.#complaint += bytes.toString("utf8");
  }

  #notStarted(image: string): AleError {
    const said = this.#complaint.trim();
    return new AleError(
      "sandbox-start-failed",
      `the container did not start: ${said === "" ? "it said nothing" : said}`,
      {
        next: `use an image that has /usr/bin/perl and /bin/bash (${image} may not), or an engine on this host, which needs nothing of an image`,
      },
    );
  }

  /** None of its processes runs. */
  get frozen(): boolean {
    return this.#frozen;
  }

  async freeze(hold: boolean): Promise<void> {
    if (!this.#frozen) await this.#engine.order("POST", `/containers/${this.engineId}/pause`, {});
    this.#frozen = true;
    if (hold) this.#held ??= this.#deadlines.hold();
  }

  async thaw(): Promise<void> {
    if (!this.#frozen) return;
    await this.#engine.order("POST", `/containers/${this.engineId}/unpause`, {});
    this.#frozen = false;
    this.#held?.[Symbol.dispose]();
    this.#held = undefined;
  }

  /** See `Sandbox.hold`. */
  hold(maxMs: number): Hold {
    return this.#deadlines.holdWithin(maxMs);
  }

  async stats(): Promise<SandboxStats> {
    const { activity } = this;
    return {
      ...(await statsOf(this.#engine, this.engineId)),
      outputBytes: activity.outputBytes,
      uptimeMs: activity.uptimeMs,
      idleMs: activity.idleMs,
    };
  }

  /** The first reason counts. */
  destroy(reason: EndReason = "destroyed"): Promise<void> {
    this.#endReason ??= reason;
    this.#destroyed ??= this.#destroy();
    return this.#destroyed;
  }

  async #destroy(): Promise<void> {
    this.#deadlines.clear();
    this.control.close();
    // PID 1 ends with its control channel, and with PID 1 everything in its namespace; then the engine removes the container by itself.
    this.#connection?.destroy();
    try {
      if (this.#name !== undefined) await removeContainer(this.#engine, this.#name);
    } finally {
      this.#track.remove(this.id);
      this.#settleEnded(this.#endReason ?? "destroyed");
    }
  }
}

function labelsOf(id: string, spec: SandboxSpec, image: EngineImage): Record<string, string> {
  return {
    [LABEL.kind]: "sandbox",
    [LABEL.id]: id,
    [LABEL.owner]: ownerLabel(),
    [LABEL.image]: `${image.name}@${image.digest}`,
    [LABEL.createdAt]: String(Date.now()),
    [LABEL.labels]: JSON.stringify(spec.labels ?? {}),
  };
}

/** Ends and removes a container, also one that the engine removes at this moment. Throws an AleError where it stays. */
export async function removeContainer(engine: Engine, name: string): Promise<void> {
  const deadline = Date.now() + REMOVAL_MS;
  const query = { force: true, v: true };
  for (;;) {
    const status = await engine.order("DELETE", `/containers/${name}`, { query, accept: [404, 409, 500] });
    if (status === 404) return;
    if (Date.now() > deadline)
      throw new AleError("engine-failed", `the engine does not remove container ${name}`, {
        next: "see the engine's own log",
      });
    await sleep(50);
  }
}
