import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { Limits, NetworkPolicy, type Telemetry } from "../../packages/core/src/index.ts";
import { type NetNamespace, namespaceOf, newNamespace } from "../../packages/rock/src/egress/native-net.ts";
import { probeCgroups, processesOf } from "../../packages/rock/src/host/cgroup.ts";
import {
  defaultHome,
  ensurePythonImage,
  openOciDriver,
  PYTHON_IMAGE,
  type Sandbox,
} from "../../packages/rock/src/index.ts";
import { addAddresses, listeningSocket, plug } from "../../packages/roll/test/incident/link.ts";

/**
 * A server in a process of its own that is reached in two ways: over a cable that leads straight into its network, and through the gateway
 * of this process. The same client runs in a sandbox on either way.
 */

/** Where the server is for those with a cable, and where the name `files.test` leads. */
const SERVER = "203.0.113.5";
const PORTS = [80, 443] as const;
const NAME = "files.test";

export interface Lab extends AsyncDisposable {
  readonly direct: Sandbox;
  readonly behind: Sandbox;
  /** Another sandbox behind the gateway. */
  another(): Promise<Sandbox>;
  readonly records: Telemetry[];
}

const POLICY = NetworkPolicy.parse({ mode: "allowlist", hosts: [{ name: NAME }] });
const CLIENT = readFileSync(join(import.meta.dirname, "client.py"), "utf8");

export async function openLab(): Promise<Lab> {
  await ensurePythonImage(defaultHome());
  await using stack = new AsyncDisposableStack();
  const world = stack.use(newNamespace());
  addAddresses(world, [SERVER]);
  const { child, ports } = await startServer(world);
  stack.defer(() => void child.kill());
  const records: Telemetry[] = [];
  const upstream = {
    resolve: async () => [SERVER],
    dial: (_address: string, port: number) =>
      connect({ host: "127.0.0.1", port: ports[PORTS.indexOf(port as 80)]!, noDelay: true }),
  };
  const driver = stack.use(openOciDriver({ egress: { upstream } }));
  await driver.onNetwork((record) => records.push(record));
  const open = (network: NetworkPolicy): Promise<Sandbox> =>
    driver.create({
      image: PYTHON_IMAGE,
      files: [{ path: "/work/client.py", content: CLIENT, mode: 0o644, owner: "root" }],
      network,
      workdir: "/work",
      limits: Limits.parse({ lifetimeMs: 3_600_000, execTimeoutMs: 120_000, cpus: 2 }),
    });
  const groups = probeCgroups();
  const behindGateway = (): Promise<Sandbox> => open(POLICY);
  const direct = await open({ mode: "none" });
  using theirs = namespaceOf(Math.min(...processesOf(groups, direct.id)));
  plug(world, theirs, "direct", ["100.127.0.0", "100.127.0.1"]);
  await sh(direct, `echo ${SERVER} ${NAME} >> /etc/hosts`);
  const behind = await behindGateway();
  const owned = stack.move();
  return {
    direct,
    behind,
    another: behindGateway,
    records,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function sh(box: Sandbox, script: string): Promise<string> {
  const { exitCode, stdout, stderr } = await box.exec({ argv: ["sh", "-c", script] });
  if (exitCode !== 0) throw new Error(`${script}: ${stderr}`);
  return stdout;
}

/** Runs the client; milliseconds of each thing that it did. */
export async function client(box: Sandbox, ...argv: readonly string[]): Promise<number[]> {
  return JSON.parse(await sh(box, ["python3 /work/client.py", ...argv].join(" "))) as number[];
}

/** Listens in the world's network, with sockets that were made there, and on loopback of the host for the gateway. */
async function startServer(world: NetNamespace): Promise<{ child: ChildProcess; ports: readonly number[] }> {
  const sockets = PORTS.map((port) => listeningSocket(world, SERVER, port));
  const child = spawn(process.execPath, [join(import.meta.dirname, "server.ts")], {
    stdio: ["ignore", "pipe", "inherit", ...sockets],
  });
  const ports = await new Promise<readonly number[]>((resolve, reject) => {
    child.once("exit", (code) => reject(new Error(`the server ended (${code})`)));
    child.stdout!.once("data", (line: Buffer) => resolve(JSON.parse(line.toString()) as number[]));
  });
  return { child, ports };
}
