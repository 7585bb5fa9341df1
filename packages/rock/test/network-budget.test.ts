import { createServer as createWeb } from "node:http";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import type { Telemetry } from "@ale/core";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { OciDriver } from "../src/index.ts";
import {
  about,
  allowing,
  get,
  NONE,
  networkObstacle,
  networkSpec,
  networkSuite,
  policy,
} from "./network-support.ts";
import { until } from "./support.ts";

const PARALLEL = 8;
const TAKEN = 200_000;

describe.skipIf(networkObstacle)(networkSuite("network budgets"), () => {
  /** What the outside world got and gave. */
  let received = 0;
  const servers: Server[] = [];
  let driver: OciDriver;
  const records: Telemetry[] = [];

  beforeAll(async () => {
    const sink = createServer((socket) => {
      socket.on("error", () => {});
      socket.on("data", (piece) => (received += piece.length));
    });
    const flood = createServer((socket) => {
      const piece = Buffer.alloc(60_000, "x");
      const pour = (): void => {
        while (!socket.destroyed && socket.write(piece));
      };
      socket.on("error", () => {});
      socket.on("drain", pour);
      pour();
    });
    const web = createWeb((request, response) => {
      request.resume();
      request.on("end", () => response.end(`hello from ${request.headers.host}\n`));
    });
    servers.push(web, sink, flood);
    await Promise.all(
      servers.map((server) => new Promise<void>((done) => server.listen(0, "127.0.0.1", done))),
    );
    const ports = servers.map((server) => (server.address() as AddressInfo).port);
    const upstream = {
      resolve: async () => ["203.0.113.5"],
      dial: (_address: string, port: number) =>
        connect({ host: "127.0.0.1", port: ports[[80, 9, 19].indexOf(port)]! }),
    };
    driver = new OciDriver({ egress: { upstream } });
    await driver.onNetwork((record) => records.push(record));
  });

  afterAll(async () => {
    await driver[Symbol.asyncDispose]();
    for (const server of servers) server.close();
  });

  const raw = (budget: object, hostBudget?: object) =>
    policy({
      mode: "allowlist",
      hosts: [{ name: "files.test" }],
      addresses: [{ network: "192.0.2.0/28", ports: [9, 19] }],
      budget,
      ...(hostBudget === undefined ? {} : { hostBudget }),
    });
  const all = (one: string): string => `for i in {1..${PARALLEL}}; do (${one}) & done; wait`;

  it.each([
    ["the sandbox's", raw({ bytesUp: TAKEN }), { of: "sandbox", what: "bytesUp", limit: TAKEN, used: TAKEN }],
    [
      "a host's",
      raw({ bytesUp: 2 * TAKEN }, { bytesUp: TAKEN }),
      { of: "host", what: "bytesUp", limit: TAKEN, used: TAKEN },
    ],
  ])(
    "%s bytes up: not one more reaches the outside, over however many connections",
    async (_whose, network, budget) => {
      await using box = await driver.create(networkSpec(network));
      received = 0;
      await box.exec({
        argv: ["bash", "-c", all("head -c 300000 /dev/zero > /dev/tcp/192.0.2.7/9")],
        timeoutMs: 30_000,
      });
      await until("all of it is heard outside", () => received === TAKEN);
      await until("it is told", () => about(records, box, "net.deny").length > 0);
      expect(about(records, box, "net.deny")[0]).toMatchObject({ net: { rule: "budget", budget } });
      await until("the flows are told", () => about(records, box, "net.flow").length > 0);
      expect(received).toBe(TAKEN);
      const { sandbox, hosts } = await box.networkUse();
      expect(sandbox.bytesUp).toBe(TAKEN);
      expect(hosts["192.0.2.7"]?.bytesUp).toBe(TAKEN);
    },
  );

  it("bytes down: not one more reaches the sandbox, and no more is charged", async () => {
    await using box = await driver.create(networkSpec(raw({ bytesDown: TAKEN })));
    const { stdout } = await box.exec({
      argv: ["bash", "-c", all("cat < /dev/tcp/192.0.2.7/19 | wc -c")],
      timeoutMs: 30_000,
    });
    const got = stdout.trim().split("\n").map(Number);
    expect(got).toHaveLength(PARALLEL);
    expect(got.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThanOrEqual(TAKEN);
    expect((await box.networkUse()).sandbox.bytesDown).toBe(TAKEN);
    expect(about(records, box, "net.deny")[0]).toMatchObject({
      net: { rule: "budget", budget: { of: "sandbox", what: "bytesDown", limit: TAKEN, used: TAKEN } },
    });
  });

  const post =
    "exec 3<>/dev/tcp/files.test/80; printf 'POST / HTTP/1.1\\r\\nHost: files.test\\r\\nContent-Length: 3000\\r\\n\\r\\n' >&3; head -c 3000 /dev/zero >&3; cat <&3";
  test.each([
    ["bytes up", raw({ bytesUp: 1_000 }), post, "the sandbox's budget of bytes up is used up: 1000 of 1000"],
    [
      "connections",
      raw({}, { connections: 1 }),
      undefined,
      "the budget for files.test of connections is used up: 1 of 1",
    ],
    ["requests", raw({ requests: 1 }), undefined, "the sandbox's budget of requests is used up: 1 of 1"],
  ])("a program that speaks HTTP is told which is used up: %s", async (_name, network, script, said) => {
    await using box = await driver.create(networkSpec(network));
    if (script === undefined) expect(await get(box, "files.test")).toContain("hello");
    const answer =
      script === undefined
        ? await get(box, "files.test")
        : (await box.exec({ argv: ["bash", "-c", script], timeoutMs: 15_000 })).stdout;
    expect(answer).toContain("HTTP/1.1 403 Forbidden");
    expect(answer).toContain(`ale: refused: ${said}\n`);
  });

  it("one that speaks TLS is told with an alert", async () => {
    await using box = await driver.create(networkSpec(raw({ connections: 1 })));
    await get(box, "files.test");
    const hello = "\\x16\\x03\\x01\\x00\\x2f\\x01\\x00\\x00\\x2b\\x03\\x03";
    const rest = "$(printf '\\\\x00%.0s' {1..32})\\x00\\x00\\x02\\x13\\x01\\x01\\x00\\x00\\x00";
    const script = `exec 3<>/dev/tcp/files.test/443; printf "${hello}${rest}" >&3; head -c 7 <&3 | od -An -tx1`;
    const { stdout } = await box.exec({ argv: ["bash", "-c", script], timeoutMs: 15_000 });
    expect(stdout.trim()).toBe("15 03 03 00 02 02 31");
  });

  it("stay, with what was used of them, whatever else of the policy changes", async () => {
    const begun = policy({
      mode: "allowlist",
      hosts: [{ name: "files.test" }],
      budget: { connections: 2 },
      hostBudget: { requests: 5 },
    });
    await using box = await driver.create(networkSpec(begun));
    await get(box, "files.test");
    const hosts = [{ name: "other.test", ports: [80] }];
    await box.setNetwork({ mode: "allowlist", hosts, addresses: [] });
    await box.setNetwork(NONE);
    await box.setNetwork({ mode: "allowlist", hosts, addresses: [], budget: { requests: 7 } });
    expect(box.spec.network).toMatchObject({
      budget: { connections: 2, requests: 7 },
      hostBudget: { requests: 5 },
    });
    expect((await box.networkUse()).sandbox).toMatchObject({ connections: 1, requests: 1 });
    expect(await get(box, "other.test")).toContain("hello");
    expect(await get(box, "other.test")).toContain("budget of connections is used up: 2 of 2");

    await box.setNetwork({ mode: "allowlist", hosts, addresses: [] }, { resetBudgets: true });
    expect((await box.networkUse()).sandbox.connections).toBe(0);
    expect(about(records, box, "policy.change").at(-1)?.tool?.command).toMatch(
      /^allowlist other.test:80 budget connections=2 requests=7 host-budget requests=5; what was used .* forgotten$/,
    );
    expect(await get(box, "other.test")).toContain("hello");
  });

  it("of a snapshot are a fork's, with nothing used", async () => {
    await using box = await driver.create(
      networkSpec(policy({ mode: "allowlist", hosts: [{ name: "files.test" }], budget: { connections: 1 } })),
    );
    await get(box, "files.test");
    const { snapshot } = await box.snapshot();
    const { mode, hosts, addresses } = allowing("other.test") as Extract<
      ReturnType<typeof allowing>,
      { mode: "allowlist" }
    >;
    const [fork] = await driver.snapshots.fork(snapshot.id, 1, { network: { mode, hosts, addresses } });
    expect(await get(fork!, "other.test")).toContain("hello");
    expect(await get(fork!, "other.test")).toContain("budget of connections");
    await fork!.destroy();
  });
});
