import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, fstatSync, mkdirSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AleError, refuseFullDisk } from "@ale/core";
import { z } from "zod";
import { jsonTransport } from "./http.ts";
import { ENGINE_SOURCES } from "./locate.ts";

/**
 * The engine's process: started, waited for, watched and stopped. It has its own process group, so that Ctrl-C in a terminal
 * reaches us alone and we end it in order; it watches our pid and ends itself when we are killed without a chance to.
 */

export interface EngineOptions {
  /** Interpreter, as `locateEngine` finds it. */
  readonly python: string;
  /** Directory that holds the package `ale_engine`; the repository's own by default. */
  readonly sources?: string;
  /** Base models by name, each a directory with config.json. */
  readonly models: Readonly<Record<string, string>>;
  /** Where the engine keeps saved weights. Made if missing. */
  readonly stateDir: string;
  /** Threads for arithmetic. */
  readonly threads: number;
  /** Everything the engine prints is appended here. */
  readonly logPath: string;
  /** 0, the default, takes any free port. */
  readonly port?: number;
  /** Longest wait for the engine to be ready; two minutes by default. */
  readonly startTimeoutMs?: number;
}

export interface EngineExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface EngineProcess {
  readonly baseUrl: string;
  readonly pid: number;
  /** Settles when the process has ended, for whatever reason. */
  readonly exited: Promise<EngineExit>;
  /** Settles with `engine-died` when the process has ended without having been stopped; give it to `connectTinker`. */
  readonly died: Promise<AleError>;
  /** SIGTERM, after five seconds SIGKILL. Resolves when the process is gone; may be called again. */
  stop(): Promise<void>;
}

/**
 * glibc gives big buffers back to the kernel at every free and faults them in again at the next step; keeping them makes training at
 * nano scale faster by about half. Other C libraries ignore it.
 */
export const ENGINE_ALLOCATOR = {
  MALLOC_MMAP_THRESHOLD_: "1073741824",
  MALLOC_TRIM_THRESHOLD_: "4294967296",
} as const;

const STOP_MS = 5_000;
const POLL_MS = 25;
const TAIL_BYTES = 4_096;
const REPAIR = "./quickstart or `./ale setup engine` repairs the engine's Python";

const Ready = z.object({ port: z.number().int().positive() });

/**
 * Starts the engine and resolves when it answers. Fails with `engine-missing` (no such Python), `engine-broken` (its packages cannot
 * be imported), `engine-port-taken`, `engine-crashed` (it ended while starting), `engine-slow` or `disk-full`; nothing is left behind then.
 */
export async function startEngine(options: EngineOptions, signal?: AbortSignal): Promise<EngineProcess> {
  signal?.throwIfAborted();
  mkdirSync(options.stateDir, { recursive: true });
  // It would listen, and could not say where.
  refuseFullDisk(options.stateDir);
  mkdirSync(dirname(options.logPath), { recursive: true });
  const readyFile = join(options.stateDir, `.ready-${process.pid}-${randomBytes(4).toString("hex")}.json`);
  const log = openSync(options.logPath, "a+");
  const logStart = fstatSync(log).size;
  const tail = (): string => tailOf(options.logPath, logStart);
  try {
    const child = spawn(options.python, engineArguments(options, readyFile), {
      cwd: options.sources ?? ENGINE_SOURCES,
      env: engineEnvironment(options),
      stdio: ["ignore", log, log],
      detached: true,
    });
    const engine = watch(child, tail, options.logPath);
    try {
      const port = await readyPort(engine, readyFile, options, tail, signal);
      const baseUrl = `http://127.0.0.1:${port}`;
      await answers(baseUrl, engine.died, signal);
      return { ...engine, baseUrl, pid: child.pid! };
    } catch (error) {
      await engine.stop();
      throw error;
    }
  } finally {
    closeSync(log);
    rmSync(readyFile, { force: true });
  }
}

function engineArguments(options: EngineOptions, readyFile: string): string[] {
  return [
    "-m",
    "ale_engine",
    ...["--host", "127.0.0.1", "--port", String(options.port ?? 0)],
    ...["--ready-file", readyFile, "--parent-pid", String(process.pid)],
    ...["--state", resolve(options.stateDir), "--threads", String(options.threads)],
    "--models",
    ...Object.entries(options.models).map(([name, directory]) => `${name}=${resolve(directory)}`),
  ];
}

function engineEnvironment(options: EngineOptions): NodeJS.ProcessEnv {
  const sources = options.sources ?? ENGINE_SOURCES;
  const threads = String(options.threads);
  const { PYTHONPATH, ...environment } = process.env;
  return {
    ...environment,
    PYTHONPATH: PYTHONPATH ? `${sources}${delimiter}${PYTHONPATH}` : sources,
    PYTHONUNBUFFERED: "1",
    // Every arithmetic library reads its own variable; one that is missed takes all cores and slows the others down.
    OMP_NUM_THREADS: threads,
    MKL_NUM_THREADS: threads,
    OPENBLAS_NUM_THREADS: threads,
    NUMEXPR_NUM_THREADS: threads,
    ...ENGINE_ALLOCATOR,
    TOKENIZERS_PARALLELISM: "false",
    HF_HUB_OFFLINE: "1",
  };
}

interface Watched extends Pick<EngineProcess, "exited" | "died" | "stop"> {
  /** Why the process could not be started at all, if it could not. */
  readonly spawnError: () => Error | undefined;
  readonly exit: () => EngineExit | undefined;
}

function watch(child: ChildProcess, tail: () => string, logPath: string): Watched {
  let exit: EngineExit | undefined;
  let spawnError: Error | undefined;
  let stopping = false;
  const endWithUs = (): void => void child.kill("SIGTERM");
  process.once("exit", endWithUs);
  const exited = new Promise<EngineExit>((settle) => {
    const end = (code: number | null, signal: NodeJS.Signals | null): void => {
      exit ??= { code, signal };
      process.removeListener("exit", endWithUs);
      settle(exit);
    };
    child.once("exit", end);
    child.once("error", (error) => {
      if (child.pid !== undefined) return; // a signal could not be delivered; the process is there
      spawnError = error;
      end(null, null);
    });
  });
  const died = new Promise<AleError>((settle) => {
    exited.then((ended) => {
      if (stopping) return;
      const message = `the engine ended unexpectedly (${describe(ended)})${excerpt(tail())}`;
      const next = `what is saved is safe: start again to go on from there (the engine's log is ${logPath})`;
      settle(new AleError("engine-died", message, { next }));
    });
  });
  const stop = async (): Promise<void> => {
    stopping = true;
    if (exit !== undefined) return;
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
    await exited;
    clearTimeout(timer);
  };
  return { exited, died, stop, spawnError: () => spawnError, exit: () => exit };
}

async function readyPort(
  engine: Watched,
  readyFile: string,
  options: EngineOptions,
  tail: () => string,
  signal?: AbortSignal,
): Promise<number> {
  const { startTimeoutMs = 120_000 } = options;
  const deadline = performance.now() + startTimeoutMs;
  for (;;) {
    signal?.throwIfAborted();
    const port = portIn(readyFile);
    if (port !== null) return port;
    const exit = engine.exit();
    if (exit !== undefined) throw startFailure(options, exit, engine.spawnError(), tail());
    if (performance.now() > deadline)
      throw new AleError(
        "engine-slow",
        `the engine was not ready after ${startTimeoutMs / 1000} s${excerpt(tail())}`,
        {
          next: `see its log, ${options.logPath}`,
        },
      );
    await sleep(POLL_MS);
  }
}

/** The port in the ready file; null while there is none, or only half of one. */
function portIn(readyFile: string): number | null {
  try {
    return Ready.parse(JSON.parse(readFileSync(readyFile, "utf8"))).port;
  } catch {
    return null;
  }
}

function startFailure(
  options: EngineOptions,
  exit: EngineExit,
  spawnError: Error | undefined,
  log: string,
): AleError {
  const see = `see its log, ${options.logPath}`;
  if (spawnError !== undefined)
    return new AleError("engine-missing", `the engine's Python does not start: ${spawnError.message}`, {
      next: REPAIR,
      cause: spawnError,
    });
  const missing = /^(?:ModuleNotFoundError|ImportError): .*|No module named .*/m.exec(log);
  if (missing) {
    const message = `the engine's Python packages cannot be imported (${missing[0]})${excerpt(log)}`;
    return new AleError("engine-broken", message, { next: `${REPAIR}; ${see}` });
  }
  if (/address already in use|EADDRINUSE/i.test(log))
    return new AleError(
      "engine-port-taken",
      `port ${options.port} is taken, so the engine cannot listen on it`,
      {
        next: "choose another port, or 0 for any free one",
      },
    );
  const message = `the engine ended while starting (${describe(exit)})${excerpt(log)}`;
  return new AleError("engine-crashed", message, { next: see });
}

async function answers(baseUrl: string, died: Promise<AleError>, signal?: AbortSignal): Promise<void> {
  const transport = jsonTransport(baseUrl);
  const limit = AbortSignal.timeout(30_000);
  try {
    const answer = transport.send(
      "GET",
      "/api/v1/healthz",
      undefined,
      signal ? AbortSignal.any([signal, limit]) : limit,
    );
    const first = await Promise.race([answer, died]);
    if (first instanceof AleError) throw first;
    if (first.status !== 200)
      throw new AleError("engine-crashed", `the engine says it is not well (HTTP ${first.status})`);
  } finally {
    transport.close();
  }
}

const describe = ({ code, signal }: EngineExit): string =>
  signal === null
    ? `exit code ${code}`
    : signal === "SIGKILL"
      ? "killed; perhaps memory ran out"
      : `signal ${signal}`;

const excerpt = (log: string): string => {
  const lines = log.trimEnd().split("\n").slice(-12).join("\n");
  return lines === "" ? "" : `; it last said:\n${lines}`;
};

/** What was appended to the log since `from`, at most the last few kilobytes. */
function tailOf(path: string, from: number): string {
  const file = openSync(path, "r");
  try {
    const size = fstatSync(file).size;
    const start = Math.max(from, size - TAIL_BYTES);
    const bytes = Buffer.alloc(Math.max(0, size - start));
    readSync(file, bytes, 0, bytes.length, start);
    return bytes.toString("utf8");
  } finally {
    closeSync(file);
  }
}
