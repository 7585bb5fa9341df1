import { execFile } from "node:child_process";
import { mkdir, rm, statfs, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { AleError, Limits } from "@ale/core";
import { BASE_IMAGE, baseImage, type Capabilities, openOciDriver } from "@ale/rock";

/** What a person may want of a machine: `loop` is training and everything else that lets a model act, `rock` sandboxes alone. */
export const PARTS = ["rock", "loop"] as const;
export type Part = (typeof PARTS)[number];

/** What this machine must have. Each check looks at the real thing: it opens the port, imports the module, starts the sandbox. */
export interface Check {
  readonly name: string;
  readonly part: "machine" | Part;
  /** `weak`: works, but less well than it could. `missing`: something required for that part is not there. */
  readonly state: "ok" | "weak" | "missing";
  readonly found: string;
  readonly next?: string;
  /** Of the sandbox driver. */
  readonly capabilities?: Capabilities;
}

type Environment = Readonly<Record<string, string | undefined>>;

type Finding = Omit<Check, "part">;

export interface Question {
  readonly home: string;
  readonly env: Environment;
  /** Default: all of them. What every part needs is looked at in any case. */
  readonly parts?: readonly Part[];
}

export async function* checkMachine(question: Question, signal: AbortSignal): AsyncGenerator<Check, void> {
  const { home, env, parts = PARTS } = question;
  const place = await checkHome(home);
  for (const finding of [checkNode(), checkCapacity(), place, await checkPort()])
    yield { ...finding, part: "machine" };
  if (parts.includes("rock") && place.state === "missing")
    yield { name: "sandbox", state: "missing", found: "not tried without a home", part: "rock" };
  else if (parts.includes("rock"))
    for await (const finding of checkSandboxes(home, signal)) yield { ...finding, part: "rock" };
  if (parts.includes("loop")) yield { ...(await checkEngine(home, env, signal)), part: "loop" };
}

function checkNode(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const runsTypeScript = major > 23 || (major === 23 && minor >= 6) || (major === 22 && minor >= 18);
  const name = "node";
  if (runsTypeScript) return { name, state: "ok", found: `${process.version} (${process.execPath})` };
  return {
    name,
    state: "missing",
    found: `${process.version} cannot run TypeScript from source`,
    next: "run ale with node_modules/.bin/node, as ./quickstart does",
  };
}

function checkCapacity(): Finding {
  const cores = availableParallelism();
  const memory = totalmem() / 2 ** 30;
  const found = `${cores} processors, ${memory.toFixed(0)} GiB of memory`;
  if (memory < 3)
    return {
      name: "machine",
      state: "weak",
      found,
      next: "the quickstart needs about 3 GiB; close other programs",
    };
  if (cores < 2)
    return { name: "machine", state: "weak", found, next: "the quickstart takes about twice as long" };
  return { name: "machine", state: "ok", found };
}

async function checkHome(home: string): Promise<Finding> {
  const name = "home";
  try {
    await mkdir(home, { recursive: true });
    const trial = join(home, `.doctor-${process.pid}`);
    await writeFile(trial, "");
    await rm(trial);
    const { bavail, bsize } = await statfs(home);
    const freeGb = (bavail * bsize) / 1e9;
    const found = `${home}, ${freeGb.toFixed(1)} GB free`;
    if (freeGb < 1)
      return { name, state: "missing", found, next: "free at least 1 GB, or choose another --home" };
    return { name, state: "ok", found };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { name, state: "missing", found: why, next: "choose a folder that can be written: --home DIR" };
  }
}

const run = promisify(execFile);

async function checkEngine(home: string, env: Environment, signal: AbortSignal): Promise<Finding> {
  const name = "engine";
  const { locateEngine } = await import("@ale/roll");
  const located = locateEngine(home, env);
  if (!located.ok)
    return { name, state: "missing", found: located.error.message, next: "./ale setup engine" };
  const { python, sources } = located.value;
  const script =
    "import sys, torch, transformers, ale_engine; print(sys.version.split()[0], torch.__version__, transformers.__version__)";
  try {
    const { stdout } = await run(python, ["-c", script], {
      cwd: sources,
      env: { ...process.env, PYTHONPATH: sources },
      signal,
      timeout: 120_000,
    });
    const [pythonVersion, torch, transformers] = stdout.trim().split(" ");
    return {
      name,
      state: "ok",
      found: `Python ${pythonVersion}, torch ${torch}, transformers ${transformers} (${python})`,
    };
  } catch (error) {
    signal.throwIfAborted();
    const lines = String((error as { stderr?: string }).stderr ?? error).trim();
    return {
      name,
      state: "missing",
      found: `cannot be imported: ${lines.split("\n").at(-1)}`,
      next: "./ale setup engine",
    };
  }
}

const ARGUMENTS_FROM = {
  kernel: "the kernel, as they start",
  proc: "/proc, after the fact",
} as const;

/** The whole record goes into `--json`. */
function describeCapabilities(can: Capabilities): Finding {
  const enforced = Object.entries(can.enforces).filter(([, hard]) => hard);
  const weak = can.weaker.filter(({ what }) => what !== "trace");
  return {
    name: "sandbox runtime",
    state: weak.length === 0 ? "ok" : "weak",
    found: [
      can.runtime,
      can.rootless ? "an ordinary user's" : "root's",
      `cgroup ${can.cgroup}`,
      `enforces ${enforced.map(([what]) => what).join(", ") || "no limits"}`,
      can.userns
        ? `users of their own${can.idmap ? ", layers shared by idmapped mounts" : ""}`
        : "the host's users",
      `network ${can.network.join(", ")}`,
      can.trace.includes("audit")
        ? "refused calls in the kernel's audit"
        : can.trace.includes("kernel-log")
          ? "refused calls in the kernel's log"
          : "refused calls are not seen",
      `telemetry from ${can.telemetry.join(", ") || "nothing"}`,
      ...(can.arguments === "none" ? [] : [`arguments of programs from ${ARGUMENTS_FROM[can.arguments]}`]),
    ].join("; "),
    ...(weak.length === 0 ? {} : { next: weak.map(({ what, why }) => `${what}: ${why}`).join("; ") }),
    capabilities: can,
  };
}

/** Root, the runtime, limits, the image, and whether a sandbox really starts. */
async function* checkSandboxes(home: string, signal: AbortSignal): AsyncGenerator<Finding, void> {
  // The one sandbox made here does nothing that a limit would have to stop.
  await using driver = openOciDriver({ home, unenforced: ["memory", "cpu"] });
  try {
    yield describeCapabilities(await driver.capabilities());
    const { version, rootfs } = baseImage(home);
    const name = "sandbox";
    const startedAt = performance.now();
    await using sandbox = await driver.create(
      {
        image: BASE_IMAGE,
        files: [],
        limits: Limits.parse({}),
        network: { mode: "none" },
        workdir: "/work",
        labels: { purpose: "doctor" },
      },
      signal,
    );
    const { exitCode, output } = await sandbox.shell.run("id -un", {}, signal);
    const elapsed = (performance.now() - startedAt).toFixed(0);
    yield exitCode === 0
      ? {
          name,
          state: "ok",
          found: `${BASE_IMAGE} ${version} started and answered as ${output.trim()} in ${elapsed} ms`,
        }
      : {
          name,
          state: "missing",
          found: `a command ended with ${exitCode}: ${output.trim()}`,
          next: `remove ${rootfs} and run ./ale setup image`,
        };
  } catch (error) {
    signal.throwIfAborted();
    yield {
      name: "sandbox",
      state: "missing",
      found: error instanceof Error ? error.message : String(error),
      next:
        (error instanceof AleError
          ? error.code === "image-missing"
            ? "./ale setup image"
            : error.next
          : undefined) ?? "the container runtime's message above says why",
    };
  }
}

/** The engine listens on a free loopback port that the system chooses; some machines have no loopback at all. */
function checkPort(): Promise<Finding> {
  return new Promise((done) => {
    const server = createServer();
    server.once("error", (error) =>
      done({
        name: "loopback",
        state: "missing",
        found: error.message,
        next: "bring the loopback interface up: ip link set lo up",
      }),
    );
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() =>
        done({ name: "loopback", state: "ok", found: `127.0.0.1, for example port ${port}` }),
      );
    });
  });
}
