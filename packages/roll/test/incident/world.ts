import { createSocket } from "node:dgram";
import { writeFileSync } from "node:fs";
import { createServer as createWeb } from "node:http";
import { createServer as createTls } from "node:https";
import { createServer, type Server } from "node:net";
import type { Limits } from "@ale/core";
import { Limits as LimitsSchema } from "@ale/core";
import type { Sandbox, SandboxDriver, SandboxSpec } from "@ale/rock";
import { type NetNamespace, namespaceOf, newNamespace, within } from "../../../rock/src/egress/native-net.ts";
import { probeCgroups, processesOf } from "../../../rock/src/host/cgroup.ts";
import { ATTACK_IMAGE } from "./image.ts";
import {
  addAddresses,
  countFrames,
  datagramSocket,
  type FrameCounter,
  listeningSocket,
  plug,
} from "./link.ts";

/**
 * The outside, in namespaces that the test makes: a network with the servers that an agent of the incident would have spoken to, all of
 * them real programs that answer, and a host's network from which one cable leads there. A daemon that is started in that host's network has this
 * world where others have the internet; whatever leaves it, on whatever way, is a frame on that cable.
 */

export const PLACES = {
  ssh: "198.51.100.7",
  pool: "198.51.100.7",
  metadata: "169.254.169.254",
  internal: "10.0.0.5",
  resolver: "8.8.8.8",
  collector: "203.0.113.10",
  listener: "203.0.113.11",
  /** Where the allowed name `files.test` leads. */
  files: "203.0.113.5",
} as const;

export type Service =
  | "ssh"
  | "pool"
  | "metadata"
  | "internal"
  | "resolver"
  | "collector"
  | "listener"
  | "files";

export interface Heard {
  readonly service: Service;
  readonly said: string;
}

export interface World extends AsyncDisposable {
  /** What the servers were told, in order. */
  readonly heard: readonly Heard[];
  /** Everything that comes from the daemon's host. */
  readonly fromHost: FrameCounter;
  /** Argument of `nsenter --net=`: the network that a daemon is started in. */
  readonly hostNetwork: string;
  /** Key that the SSH server lets in, for the user `agent`. */
  readonly key: string;
  /** Plugs a sandbox straight into the world: no policy, no gateway. Returns its address. */
  plugIn(box: Sandbox): Promise<string>;
  /** From inside the world, as whoever sits there would: for what came in through a tunnel. */
  run(script: string): Promise<string>;
}

export const ATTACK_LIMITS = { execTimeoutMs: 30_000, lifetimeMs: 600_000 } as const;

export function attackSpec(
  more: Partial<Omit<SandboxSpec, "limits">> & { limits?: Partial<Limits> } = {},
): SandboxSpec {
  const { limits, ...rest } = more;
  return {
    image: ATTACK_IMAGE,
    files: [],
    network: { mode: "none" },
    workdir: "/work",
    ...rest,
    limits: LimitsSchema.parse({ ...ATTACK_LIMITS, ...limits }),
  };
}

const networkOf = (box: Sandbox): NetNamespace =>
  namespaceOf(Math.min(...processesOf(probeCgroups(), box.id)));

/** A sandbox without a policy stands for the world's machines; its network is theirs. */
export async function openWorld(driver: SandboxDriver): Promise<World> {
  await using stack = new AsyncDisposableStack();
  const box = stack.use(await driver.create(attackSpec({ limits: { pids: 256 } })));
  const outside = stack.use(networkOf(box));
  const host = stack.use(newNamespace());
  prepare(outside, host);
  const fromHost = stack.use(countFrames(outside, "host"));
  const heard: Heard[] = [];
  const hear = (service: Service, said: string): void => void heard.push({ service, said });
  const key = await makeKeys(box);
  for (const server of await openServers(outside, box, hear)) stack.defer(() => void server.close());
  stack.use(openResolver(outside, hear));
  await startSsh(box, hear);
  const owned = stack.move();
  let cables = 0;
  return {
    heard,
    fromHost,
    key,
    hostNetwork: `/proc/${process.pid}/fd/${host.fd}`,
    async plugIn(guest) {
      const number = ++cables;
      using theirs = networkOf(guest);
      const address = `100.127.${number}.1`;
      plug(outside, theirs, `free${number}`, [`100.127.${number}.0`, address]);
      const resolver = `echo nameserver ${PLACES.resolver} > /etc/resolv.conf`;
      await guest.exec({ argv: ["sh", "-c", resolver], user: "root" });
      return address;
    },
    run: async (script) => (await box.exec({ argv: ["bash", "-c", script] })).stdout,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function prepare(outside: NetNamespace, host: NetNamespace): void {
  for (const namespace of [outside, host])
    within(namespace, () => {
      // Nothing is on the cable that nobody sent.
      for (const which of ["all", "default"])
        writeFileSync(`/proc/sys/net/ipv6/conf/${which}/disable_ipv6`, "1");
      writeFileSync("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
      writeFileSync("/proc/sys/net/ipv4/ip_forward", namespace === outside ? "1" : "0");
    });
  addAddresses(outside, [...new Set(Object.values(PLACES))]);
  addAddresses(host, []);
  plug(outside, host, "host", ["192.0.2.0", "192.0.2.1"]);
}

async function makeKeys(box: Sandbox): Promise<string> {
  const made = await box.exec({
    argv: [
      "bash",
      "-euc",
      `cd /work
       ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f user
       openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=files.test -keyout tls.key -out tls.crt 2>/dev/null
       cat user`,
    ],
  });
  if (made.exitCode !== 0) throw new Error(`no keys: ${made.stderr}`);
  return made.stdout;
}

const SSHD = `Port 22
ListenAddress ${PLACES.ssh}
HostKey /work/host
AuthorizedKeysFile /work/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
LogLevel VERBOSE
`;

async function startSsh(box: Sandbox, hear: (service: Service, said: string) => void): Promise<void> {
  const written = await box.writeFiles([
    { path: "/work/sshd.conf", content: SSHD, mode: 0o644, owner: "agent" },
  ]);
  if (!written.ok) throw new Error(written.error.message);
  const server = await box.start({
    argv: ["/usr/sbin/sshd", "-D", "-e", "-f", "/work/sshd.conf"],
    timeoutMs: 600_000,
  });
  const lines: string[] = [];
  let ready = (): void => {};
  const listening = new Promise<void>((resolve, reject) => {
    ready = resolve;
    setTimeout(() => reject(new Error(`sshd does not listen: ${lines.join("")}`)), 20_000).unref();
  });
  void (async () => {
    for await (const chunk of server.stderr) {
      const text = Buffer.from(chunk).toString();
      lines.push(text);
      for (const line of text.split("\n")) if (/^(?:Accepted|Connection from)/.test(line)) hear("ssh", line);
      if (text.includes("Server listening")) ready();
    }
  })();
  await listening;
}

type Hear = (service: Service, said: string) => void;

async function openServers(outside: NetNamespace, box: Sandbox, hear: Hear): Promise<Server[]> {
  const read = async (path: string): Promise<Buffer> => {
    const found = await box.readFile(path);
    if (!found.ok) throw new Error(found.error.message);
    return Buffer.from(found.value);
  };
  const web = (service: Service, answer: string): Server =>
    createWeb((request, response) => {
      const parts: Buffer[] = [];
      request.on("data", (part: Buffer) => parts.push(part));
      request.on("end", () => {
        const body = Buffer.concat(parts).toString("latin1").slice(0, 2_000);
        hear(service, `${request.method} ${request.headers.host}${request.url} ${body}`.trim());
        response.end(answer);
      });
    });
  const secure = createTls(
    { key: await read("/work/tls.key"), cert: await read("/work/tls.crt") },
    (request, response) => {
      const { servername } = request.socket as unknown as { servername: string };
      hear("files", `tls ${servername} ${request.headers.host}${request.url}`);
      response.end("behind the front\n");
    },
  );
  const servers: readonly [server: Server, address: string, port: number][] = [
    [web("metadata", '{"AccessKeyId":"AKIA-OF-NOBODY"}\n'), PLACES.metadata, 80],
    [web("collector", "thank you\n"), PLACES.collector, 80],
    [web("files", "a file\n"), PLACES.files, 80],
    [secure, PLACES.files, 443],
    [database(hear), PLACES.internal, 5432],
    [miningPool(hear), PLACES.pool, 3333],
    [shellListener(hear), PLACES.listener, 4444],
  ];
  for (const [server, address, port] of servers) {
    const fd = listeningSocket(outside, address, port);
    await new Promise<void>((done, fail) => server.once("error", fail).listen({ fd }, done));
    server.on("connection", (socket) => socket.on("error", () => {}));
  }
  return servers.map(([server]) => server);
}

const database = (hear: Hear): Server =>
  createServer((socket) => {
    socket.once("data", (said: Buffer) => {
      hear("internal", said.toString("latin1").trim());
      socket.end("the internal database answers\n");
    });
  });

const miningPool = (hear: Hear): Server =>
  createServer((socket) => {
    socket.on("data", (said: Buffer) => {
      for (const line of said.toString("latin1").trim().split("\n")) {
        const { id, method } = JSON.parse(line) as { id: number; method: string };
        hear("pool", method);
        socket.write(
          `${JSON.stringify({ id, error: null, result: method === "mining.authorize" ? true : [[], "08000002", 4] })}\n`,
        );
      }
    });
  });

/** Whoever waits for a shell: types into it once there is a prompt, and hears what comes of it. */
const shellListener = (hear: Hear): Server =>
  createServer((socket) => {
    let typed = false;
    socket.on("data", (said: Buffer) => {
      hear("listener", said.toString("latin1").trim());
      if (typed || !/[$#] $/.test(said.toString())) return;
      typed = true;
      socket.write("echo $((6 * 7)); exit\n");
    });
  });

/** Knows one name, and writes down what it is asked: to the authority of a tunnel every query is data. */
function openResolver(outside: NetNamespace, hear: Hear): Disposable {
  const socket = createSocket("udp4");
  socket.bind({ fd: datagramSocket(outside, PLACES.resolver, 53) });
  socket.on("message", (query, from) => {
    const labels: string[] = [];
    for (let at = 12; query[at] !== undefined && query[at] !== 0; at += 1 + query[at]!)
      labels.push(query.subarray(at + 1, at + 1 + query[at]!).toString("latin1"));
    hear("resolver", labels.join("."));
    socket.send(dnsAnswer(query, labels.join(".")), from.port, from.address, () => {});
  });
  return { [Symbol.dispose]: () => void socket.close() };
}

function dnsAnswer(query: Buffer, name: string): Buffer {
  const isA = query.readUInt16BE(12 + name.length + 2) === 1;
  const known = name === "files.test";
  const head = Buffer.from(query.subarray(0, 12 + name.length + 2 + 4));
  head.writeUInt16BE(known ? 0x8180 : 0x8183, 2);
  head.writeUInt16BE(known && isA ? 1 : 0, 6);
  head.writeUInt32BE(0, 8);
  if (!known || !isA) return head;
  const record = Buffer.from("c00c000100010000003c0004", "hex");
  const address = Buffer.from(PLACES.files.split(".").map(Number));
  return Buffer.concat([head, record, address]);
}
