import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { probeCgroups } from "../src/host/cgroup.ts";
import { findTool } from "../src/host/tools.ts";

/** A container engine of the test's own: Podman's service, with everything it has in one directory. */

/** Why no engine can be started here, or undefined where one can. */
export const engineObstacle: string | undefined = obstacleOf();

function obstacleOf(): string | undefined {
  if (process.platform !== "linux") return "the test's engine needs Linux";
  if (process.getuid?.() !== 0) return "the test's engine needs root";
  for (const tool of ["podman", "conmon", "crun", "unshare", "setpriv"])
    if (findTool(tool) === undefined) return `${tool} is not installed`;
  return undefined;
}

/** For `describe.skipIf(engineObstacle)`: the suite's name says why it is skipped. */
export const engineSuite = (name: string): string =>
  engineObstacle ? `${name} (skipped: ${engineObstacle})` : name;

export interface TestEngine extends AsyncDisposable {
  readonly socket: string;
  readonly directory: string;
}

const CONFIG = `[containers]
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
`;

const NAME = /^ale-engine-(\d+)-/;

/** Directories of tests that were killed: their engines ended with them, and with those everything that was mounted there. */
function sweep(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = NAME.exec(name)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    const directory = join(tmpdir(), name);
    if (processesOf(directory).length > 0 || hasMounts(directory)) continue;
    rmSync(directory, { recursive: true, force: true });
  }
}

/**
 * In a mount namespace of its own: its mounts go with its processes, and crun does not see the v2 hierarchy of a hybrid host. It ends with
 * the process that started it, however that ends; its containers end with it, as sandboxes do without their owner. `insecure`: registries that speak plain HTTP.
 */
export async function startEngine(
  options: { readonly insecure?: readonly string[] } = {},
): Promise<TestEngine> {
  sweep();
  const directory = mkdtempSync(join(tmpdir(), `ale-engine-${process.pid}-`));
  const at = (name: string): string => join(directory, name);
  writeFileSync(at("containers.conf"), CONFIG);
  const registries = (options.insecure ?? []).map(
    (host) => `[[registry]]\nlocation = ${JSON.stringify(host)}\ninsecure = true\n`,
  );
  writeFileSync(at("registries.conf"), `unqualified-search-registries = []\n${registries.join("")}`);
  const { unified } = probeCgroups();
  const socket = at("engine.sock");
  const script = `${unified === undefined ? "" : `umount -l ${unified} && `}exec podman --root ${at("root")} --runroot ${at("run")} \
--tmpdir ${at("tmp")} --storage-driver overlay --cgroup-manager cgroupfs system service --time 0 unix://${socket}`;
  const bound = ["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"];
  const child = spawn("setpriv", [...bound, "sh", "-c", script], {
    stdio: ["ignore", "ignore", "pipe"],
    // Monitors leave their marks where the engine was started.
    cwd: directory,
    env: {
      PATH: process.env.PATH,
      CONTAINERS_CONF: at("containers.conf"),
      CONTAINERS_REGISTRIES_CONF: at("registries.conf"),
    },
  });
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  const deadline = Date.now() + 20_000;
  while (!existsSync(socket)) {
    if (child.exitCode !== null || Date.now() > deadline)
      throw new Error(`the engine did not start: ${said}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  let stopped: Promise<void> | undefined;
  return {
    socket,
    directory,
    [Symbol.asyncDispose]: () => {
      stopped ??= stop(child, directory);
      return stopped;
    },
  };
}

async function stop(child: ChildProcess, directory: string): Promise<void> {
  const gone = new Promise((resolve) => child.once("exit", resolve));
  if (child.exitCode === null && child.signalCode === null) {
    child.kill("SIGTERM");
    await gone;
  }
  // Mounts were the engine's own. Were one left in this namespace, removing the directory would reach through it.
  if (hasMounts(directory)) throw new Error(`the engine left mounts below ${directory}`);
  rmSync(directory, { recursive: true, force: true });
}

const hasMounts = (directory: string): boolean =>
  readFileSync("/proc/self/mountinfo", "utf8").includes(` ${directory}`);

/** What runs of an engine: it and the monitors of its containers name its directory. */
export function processesOf(directory: string): string[] {
  const { stdout } = spawnSync("ps", ["-e", "-o", "pid=,args="], { encoding: "utf8" });
  return stdout.split("\n").filter((line) => line.includes(directory));
}
