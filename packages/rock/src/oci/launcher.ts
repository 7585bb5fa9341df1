import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, existsSync, openSync, realpathSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join, relative } from "node:path";
import { AleError } from "@ale/core";
import { isMountPoint } from "../host/mounts.ts";
import { MS_BIND, MS_SHARED, mount } from "../host/native.ts";
import { isRootless } from "../host/rootless.ts";
import type { Invocation } from "../host/runtime.ts";
import { syscallNumbers } from "../host/syscalls.ts";
import { encodeFrame, FrameReader } from "../inside/control.ts";

/** The driver's end of launcher.pl: starts runtimes, hands out their control connections, and tells when they end. */

export interface Launched {
  /** Null where the runtime ended without connecting. */
  readonly connection: Promise<Socket | null>;
  /** Resolves when the runtime has ended: what is left is the container, or nothing. */
  readonly begun: Promise<void>;
  /** Resolves when PID 1 is gone, or a runtime that did not get that far, also when the launcher itself is. */
  readonly exited: Promise<void>;
  /** Without it, it waits. An empty one ends it. */
  configure(configuration: string): void;
  /** Kills the runtime (not what runs in the container). */
  kill(): void;
}

interface PendingNamespace {
  readonly resolve: (pid: number) => void;
  readonly reject: (error: AleError) => void;
}

interface Pending {
  readonly connect: (socket: Socket | null) => void;
  readonly begin: () => void;
  readonly exit: () => void;
}

export interface LauncherRequest {
  readonly perl: string;
  readonly runtime: string;
  /** The driver's directory. */
  readonly space: string;
  /** Where a hybrid host keeps its v2 hierarchy, to be hidden from a runtime that cannot stand it. */
  readonly unified: string | undefined;
}

export class Launcher {
  readonly #child: ChildProcess;
  readonly #server: Server;
  readonly #pending = new Map<string, Pending>();
  readonly #namespaces = new Map<string, PendingNamespace>();
  readonly #space: string;
  readonly #place: string;
  #gone = false;

  /** Throws an AleError. */
  static async open(request: LauncherRequest): Promise<Launcher> {
    const { space, unified } = request;
    share(space);
    const place = placeFor(space);
    const server = createServer();
    await listen(server, space);
    const program = join(import.meta.dirname, "launcher.pl");
    const argv = [
      program,
      syscallNumbers(),
      unified ?? "",
      request.runtime,
      space,
      place,
      isRootless() ? "1" : "",
    ];
    // Detached: Ctrl-C in the owner's terminal is for the owner, who then ends its sandboxes in order.
    const child = spawn(request.perl, argv, {
      stdio: ["pipe", "pipe", "inherit"],
      detached: true,
      cwd: space,
    });
    const launcher = new Launcher(child, server, space, place);
    const refusal = await launcher.#ready;
    launcher.#keepAlive();
    if (refusal === undefined) return launcher;
    launcher.close();
    throw new AleError("launcher-failed", `cannot prepare for starting containers: ${refusal}`, {
      next: "run as root with the right to make mount namespaces (in a container: with CAP_SYS_ADMIN)",
    });
  }

  /** Undefined when all is well, else why not. */
  readonly #ready: Promise<string | undefined>;
  #settleReady: (refusal: string | undefined) => void = () => {};

  private constructor(child: ChildProcess, server: Server, space: string, place: string) {
    this.#child = child;
    this.#space = space;
    this.#place = place;
    this.#server = server;
    this.#ready = new Promise((resolve) => {
      this.#settleReady = resolve;
    });
    server.on("connection", (socket) => this.#welcome(socket));
    const reader = new FrameReader();
    child.stdout!.on("data", (chunk: Buffer) => {
      for (const [type, ...fields] of reader.push(chunk)) this.#receive(String(type), fields.map(String));
    });
    child.stdin!.on("error", () => {});
    child.once("error", (error) => this.#end(error.message));
    child.once("exit", () => this.#end("the launcher ended"));
    child.unref();
    server.unref();
  }

  /** How runtimes name a path below the driver's directory. */
  seen(path: string): string {
    const inside = relative(this.#space, path);
    if (inside.startsWith("..")) throw new RangeError(`${path} is not below ${this.#space}`);
    return join(this.#place, inside);
  }

  /**
   * Makes a user namespace with this map of users and groups and lets `open` take hold of it (a path in /proc), without which it is gone
   * again. Throws an AleError.
   */
  async userNamespace(map: string, open: (path: string) => number): Promise<number> {
    const id = randomBytes(8).toString("hex");
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.#namespaces.set(id, { resolve, reject });
    this.#keepAlive();
    if (this.#gone) this.#refuseNamespace(id, "the launcher ended");
    else this.#tell("userns", id, map);
    try {
      return open(`/proc/${await promise}/ns/user`);
    } finally {
      this.#tell("release", id);
    }
  }

  #refuseNamespace(id: string, why: string): void {
    const pending = this.#namespaces.get(id);
    this.#namespaces.delete(id);
    this.#keepAlive();
    pending?.reject(
      new AleError("userns-failed", `cannot make a user namespace: ${why}`, {
        next: 'raise user.max_user_namespaces, or open the driver with userns: "off"',
      }),
    );
  }

  /**
   * Starts a runtime, which is then to be given its configuration; one that can wait for that starts meanwhile. `log` gets what the runtime and PID 1 have to say on stderr. The runtime ends when the container has begun, and has written PID 1's
   * number into `pidFile` by then; both paths as runtimes see them.
   */
  launch(
    id: string,
    places: { readonly log: string; readonly pidFile: string },
    invocation: Invocation,
  ): Launched {
    const connection = Promise.withResolvers<Socket | null>();
    const begin = Promise.withResolvers<void>();
    const exit = Promise.withResolvers<void>();
    const [connect, begun] = [connection.resolve, begin.resolve];
    this.#pending.set(id, { connect, begin: begun, exit: exit.resolve });
    this.#keepAlive();
    const { argv, configurationFd, groups = "" } = invocation;
    const launch = (): void => {
      if (this.#gone) this.#exited(id);
      else this.#tell("launch", id, places.log, places.pidFile, configurationFd ?? "", groups, ...argv);
    };
    if (configurationFd !== undefined) launch();
    return {
      connection: connection.promise,
      begun: begin.promise,
      exited: exit.promise,
      configure: (configuration) => {
        if (configurationFd !== undefined) this.#tell("configure", id, configuration);
        else if (configuration === "") this.#exited(id);
        else launch();
      },
      kill: () => {
        if (this.#pending.has(id)) this.#tell("kill", id);
      },
    };
  }

  #tell(...fields: (string | number)[]): void {
    if (!this.#gone) this.#child.stdin!.write(encodeFrame(fields));
  }

  close(): void {
    this.#server.close();
    this.#child.stdin!.destroy();
    this.#end("closed");
  }

  #receive(type: string, fields: readonly string[]): void {
    if (type === "ready") this.#settleReady(undefined);
    else if (type === "refused") this.#settleReady(fields[0] ?? "");
    else if (type === "begun") this.#pending.get(fields[0] ?? "")?.begin();
    else if (type === "exit") this.#exited(fields[0] ?? "");
    else if (type === "no-userns") this.#refuseNamespace(fields[0] ?? "", fields[1] ?? "");
    else if (type === "userns") {
      this.#namespaces.get(fields[0] ?? "")?.resolve(Number(fields[1]));
      this.#namespaces.delete(fields[0] ?? "");
      this.#keepAlive();
    }
  }

  /** A runtime's first line is its sandbox's id. PID 1 may have spoken by the time we hear it. */
  #welcome(socket: Socket): void {
    socket.on("error", () => {});
    socket.once("data", (chunk: Buffer) => {
      socket.pause();
      const end = chunk.indexOf("\n");
      const pending = this.#pending.get(chunk.toString("latin1", 0, end));
      if (end + 1 < chunk.length) socket.unshift(chunk.subarray(end + 1));
      if (pending === undefined) socket.destroy();
      else pending.connect(socket);
    });
  }

  #exited(id: string): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    this.#keepAlive();
    pending?.connect(null);
    pending?.begin();
    pending?.exit();
  }

  #end(reason: string): void {
    this.#gone = true;
    this.#settleReady(reason);
    for (const id of [...this.#pending.keys()]) this.#exited(id);
    for (const id of [...this.#namespaces.keys()]) this.#refuseNamespace(id, reason);
  }

  /** The launcher alone does not keep its owner from ending; a sandbox that is not yet gone does. */
  #keepAlive(): void {
    const streams = [this.#child.stdin, this.#child.stdout] as unknown as { ref(): void; unref(): void }[];
    for (const stream of streams) {
      if (this.#pending.size + this.#namespaces.size > 0) stream.ref();
      else stream.unref();
    }
  }
}

/** A socket's address holds 107 bytes; named through a descriptor, the directory may lie as deep as it likes. */
async function listen(server: Server, space: string): Promise<void> {
  const directory = openSync(space, "r");
  rmSync(join(space, "control.sock"), { force: true });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(`/proc/self/fd/${directory}/control.sock`, () => resolve());
    });
  } finally {
    closeSync(directory);
  }
}

/** A directory that every system has and every user may enter, and that the runtime does not need; its own content is out of sight. */
function placeFor(space: string): string {
  const found = ["/mnt", "/media", "/srv", "/opt"].find(
    (path) => existsSync(path) && !realpathSync(space).startsWith(`${path}/`),
  );
  if (found === undefined)
    throw new AleError("launcher-failed", "none of the directories /mnt, /media, /srv, /opt exists", {
      next: "make /mnt",
    });
  return found;
}

/** A durable driver's directory still is, with all that is mounted below it, when its last owner crashed. */
function share(directory: string): void {
  if (isMountPoint(directory)) return;
  mount({ type: null, source: directory, target: directory, flags: MS_BIND });
  mount({ type: null, source: null, target: directory, flags: MS_SHARED });
}
