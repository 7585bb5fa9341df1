import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { MS_BIND, MS_SHARED, mount } from "../host/native.ts";
import { syscallNumbers } from "../host/syscalls.ts";
import { encodeFrame, FrameReader } from "../inside/control.ts";

/** The driver's end of launcher.pl: starts runtimes, hands out their control connections, and tells when they end. */

export interface Launched {
  /** Null where the runtime ended without connecting. */
  readonly connection: Promise<Socket | null>;
  /** Resolves when the runtime is gone, also when the launcher itself is. */
  readonly exited: Promise<void>;
  /** Kills the runtime (not what runs in the container). */
  kill(): void;
}

interface Pending {
  readonly connect: (socket: Socket | null) => void;
  readonly exit: () => void;
}

export interface LauncherRequest {
  readonly perl: string;
  readonly runtime: string;
  /** The driver's directory. */
  readonly space: string;
  /** Where a hybrid host keeps its v2 hierarchy, to be hidden from the runtime. */
  readonly unified: string | undefined;
}

export class Launcher {
  readonly #child: ChildProcess;
  readonly #server: Server;
  readonly #pending = new Map<string, Pending>();
  #gone = false;

  /** Throws an AleError. */
  static async open(request: LauncherRequest): Promise<Launcher> {
    const { space, unified } = request;
    if (unified !== undefined) share(space);
    const server = createServer();
    await listen(server, space);
    const argv = [join(import.meta.dirname, "launcher.pl"), syscallNumbers(), unified ?? "", request.runtime];
    // Detached: Ctrl-C in the owner's terminal is for the owner, who then ends its sandboxes in order.
    const child = spawn(request.perl, argv, {
      stdio: ["pipe", "pipe", "inherit"],
      detached: true,
      cwd: space,
    });
    const launcher = new Launcher(child, server);
    const refusal = await launcher.#ready;
    launcher.#keepAlive();
    if (refusal === undefined) return launcher;
    launcher.close();
    throw new AleError("launcher-failed", `cannot prepare for starting containers: ${refusal}`, {
      next:
        unified === undefined
          ? "run `./ale doctor`"
          : "run as root with the right to mount, or boot with cgroup v2 only",
    });
  }

  /** Undefined when all is well, else why not. */
  readonly #ready: Promise<string | undefined>;
  #settleReady: (refusal: string | undefined) => void = () => {};

  private constructor(child: ChildProcess, server: Server) {
    this.#child = child;
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

  /** `log` gets what the runtime and PID 1 have to say on stderr. */
  launch(id: string, log: string, argv: readonly string[]): Launched {
    const connection = Promise.withResolvers<Socket | null>();
    const exit = Promise.withResolvers<void>();
    this.#pending.set(id, { connect: connection.resolve, exit: exit.resolve });
    this.#keepAlive();
    if (this.#gone) this.#exited(id);
    else this.#child.stdin!.write(encodeFrame(["launch", id, log, ...argv]));
    return {
      connection: connection.promise,
      exited: exit.promise,
      kill: () => {
        if (this.#pending.has(id) && !this.#gone) this.#child.stdin!.write(encodeFrame(["kill", id]));
      },
    };
  }

  close(): void {
    this.#server.close();
    this.#child.stdin!.destroy();
    this.#end("closed");
  }

  #receive(type: string, fields: readonly string[]): void {
    if (type === "ready") this.#settleReady(undefined);
    else if (type === "refused") this.#settleReady(fields[0] ?? "");
    else if (type === "exit") this.#exited(fields[0] ?? "");
  }

  /** A runtime's first words are its sandbox's id; nothing follows them before we speak. */
  #welcome(socket: Socket): void {
    socket.on("error", () => {});
    socket.once("data", (chunk: Buffer) => {
      socket.pause();
      const pending = this.#pending.get(chunk.toString("latin1"));
      if (pending === undefined) socket.destroy();
      else pending.connect(socket);
    });
  }

  #exited(id: string): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    this.#keepAlive();
    pending?.connect(null);
    pending?.exit();
  }

  #end(reason: string): void {
    this.#gone = true;
    this.#settleReady(reason);
    for (const id of [...this.#pending.keys()]) this.#exited(id);
  }

  /** The launcher alone does not keep its owner from ending; a sandbox that is not yet gone does. */
  #keepAlive(): void {
    const streams = [this.#child.stdin, this.#child.stdout] as unknown as { ref(): void; unref(): void }[];
    for (const stream of streams) {
      if (this.#pending.size > 0) stream.ref();
      else stream.unref();
    }
  }
}

/** A socket's address holds 107 bytes; named through a descriptor, the directory may lie as deep as it likes. */
async function listen(server: Server, space: string): Promise<void> {
  const directory = openSync(space, "r");
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(`/proc/self/fd/${directory}/control.sock`, () => resolve());
    });
  } finally {
    closeSync(directory);
  }
}

function share(directory: string): void {
  mount({ type: null, source: directory, target: directory, flags: MS_BIND });
  mount({ type: null, source: null, target: directory, flags: MS_SHARED });
}
