import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { probeCgroups, processesOf } from "../src/host/cgroup.ts";
import { inspectHost, OciDriver, openOciDriver } from "../src/index.ts";
import {
  allowing,
  fakeWorld,
  get,
  links,
  NONE,
  networkObstacle,
  networkSpec,
  networkSuite,
  policy,
} from "./network-support.ts";
import { freshHome, traces, until } from "./support.ts";

/** A driver that is a process of its own, with a sandbox that asks `files.test` without end. */
async function driverProcess(home: string, port: number) {
  const script = join(import.meta.dirname, "network-process.ts");
  const child = spawn(process.execPath, [script, home, String(port)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const box = await new Promise<{ id: string; init: number }>((resolve, reject) => {
    child.stdout.once("data", (chunk: Buffer) => resolve(JSON.parse(chunk.toString())));
    child.once("exit", () => reject(new Error("the driver ended before it was ready")));
  });
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL");
    await ended;
  };
  return { ...box, kill };
}

const interfacesOf = (pid: number): string => readFileSync(`/proc/${pid}/net/dev`, "utf8");

describe.skipIf(networkObstacle)(networkSuite("a driver that is killed"), () => {
  it("lets nothing through any more, even where its sandbox runs on, and leaves nothing behind", async () => {
    using home = await freshHome();
    await using world = await fakeWorld();
    const driver = await driverProcess(home.path, world.webPort);
    await until("the sandbox is heard outside", () => world.requests.length > 2);
    expect(interfacesOf(driver.init)).toContain("eth0");
    // It would end with its driver; stopped it cannot, and what it started goes on.
    process.kill(driver.init, "SIGSTOP");
    await driver.kill();
    await until("its interface is gone", () => !interfacesOf(driver.init).includes("eth0"));
    const heard = world.requests.length;
    const group = (): number[] => processesOf(probeCgroups(), driver.id);
    const before = group();
    // It still asks, and nobody hears.
    await until("it has begun to ask anew", () => group().some((pid) => !before.includes(pid)));
    expect(world.requests.length).toBe(heard);

    await using next = openOciDriver({
      home: home.path,
      durable: "server",
      egress: { upstream: world.upstream },
    });
    expect((await next.stopped()).map(({ id, spec }) => [id, spec.network])).toEqual([
      [driver.id, allowing("files.test")],
    ]);
    expect(processesOf(probeCgroups(), driver.id)).toEqual([]);
    await using box = await next.resume(driver.id);
    expect(await get(box, "files.test")).toContain("hello from files.test");
    expect(await get(box, "other.test")).toBe("");
    await box.destroy();
    await next[Symbol.asyncDispose]();
    expect(inspectHost(home.path).orphans).toEqual([]);
    expect(traces(home.path, [driver.id]).filter((trace) => !trace.startsWith("directory"))).toEqual([]);
  });
});

describe.skipIf(networkObstacle)(networkSuite("a durable driver's sandboxes"), () => {
  it("have the network again that they had when they were stopped", async () => {
    using home = await freshHome();
    await using world = await fakeWorld();
    await using driver = openOciDriver({
      home: home.path,
      durable: "server",
      egress: { upstream: world.upstream },
    });
    const box = await driver.create(networkSpec(NONE));
    await box.setNetwork(allowing("files.test"));
    await driver.stop(box.id);
    const again = await driver.resume(box.id);
    expect(await get(again, "files.test")).toContain("hello from files.test");
    await again.setNetwork(NONE);
    await driver.stop(box.id);
    await using last = await driver.resume(box.id);
    expect(await links(last)).toEqual([]);
  });

  it("go on with what they had used of their budget when they were stopped, or their driver was killed", async () => {
    using home = await freshHome();
    await using world = await fakeWorld();
    const egress = { upstream: world.upstream };
    const limited = policy({
      mode: "allowlist",
      hosts: [{ name: "files.test" }],
      budget: { connections: 3 },
    });
    await using driver = openOciDriver({ home: home.path, durable: "server", egress });
    const box = await driver.create(networkSpec(limited));
    expect(await get(box, "files.test")).toContain("hello");
    expect(await get(box, "files.test")).toContain("hello");
    await driver.stop(box.id);
    await driver[Symbol.asyncDispose]();
    await using next = openOciDriver({ home: home.path, durable: "server", egress });
    await using again = await next.resume(box.id);
    expect(await get(again, "files.test")).toContain("hello");
    expect(await get(again, "files.test")).toContain("connections is used up");
    await again.destroy();

    await next[Symbol.asyncDispose]();
    const owner = await driverProcess(home.path, world.webPort);
    const kept = (): { connections: number } => {
      const path = join(home.path, "rock", "durable-server", owner.id, "network.json");
      return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")).used : { connections: 0 };
    };
    await until("what it used was written down", () => kept().connections > 3);
    await owner.kill();
    await using last = openOciDriver({ home: home.path, durable: "server", egress });
    await using left = await last.resume(owner.id);
    await left.setNetwork(limited);
    expect(await get(left, "files.test")).toContain("connections is used up");
    await left.destroy();
  }, 60_000);

  it("stay stopped where their network cannot be had again", async () => {
    using home = await freshHome();
    const modelGateway = { host: "127.0.0.1", port: 9 };
    const first = openOciDriver({ home: home.path, durable: "server", egress: { modelGateway } });
    const { id } = await first.create(networkSpec(policy({ mode: "gateway-only" })));
    await first[Symbol.asyncDispose]();
    await using driver = openOciDriver({ home: home.path, durable: "server" });
    await expect(driver.resume(id)).rejects.toMatchObject({ code: "network-unsupported" });
    expect((await driver.stopped()).map((stopped) => stopped.id)).toEqual([id]);
    await driver.remove(id);
  });
});

describe.skipIf(networkObstacle)(networkSuite("two drivers on one host"), () => {
  it("have a gateway each, and the end of one is nothing to the other", async () => {
    await using world = await fakeWorld();
    const open = (): OciDriver => new OciDriver({ egress: { upstream: world.upstream } });
    const [one, other] = [open(), open()];
    const boxes = await Promise.all(
      [one, other].map((driver) => driver.create(networkSpec(allowing("files.test")))),
    );
    for (const box of boxes) expect(await get(box, "files.test")).toContain("hello");
    await one[Symbol.asyncDispose]();
    expect(await get(boxes[1]!, "files.test")).toContain("hello");
    await other[Symbol.asyncDispose]();
  });
});

describe.skipIf(networkObstacle)(networkSuite("a host whose packet filter does not work"), () => {
  it("has the mode none alone, says why, and runs nothing weaker", async () => {
    const tools = mkdtempSync(join(tmpdir(), "ale-nft-"));
    const refusing = "#!/bin/sh\necho 'Error: Could not process rule: Operation not supported' >&2\nexit 1\n";
    writeFileSync(join(tools, "nft"), refusing, { mode: 0o755 });
    const path = process.env.PATH;
    process.env.PATH = `${tools}:${path}`;
    onTestFinished(() => {
      process.env.PATH = path;
      rmSync(tools, { recursive: true });
    });
    await using driver = new OciDriver();
    const { network, weaker } = await driver.capabilities();
    expect(network).toEqual(["none"]);
    expect(weaker.find(({ what }) => what === "network")?.why).toMatch(/not supported.*nf_tables/s);
    await expect(driver.create(networkSpec(allowing("files.test")))).rejects.toMatchObject({
      code: "network-unsupported",
      message: expect.stringContaining("not supported"),
    });
    expect(driver.list()).toEqual([]);
    await using box = await driver.create(networkSpec(NONE));
    await expect(box.setNetwork(allowing("files.test"))).rejects.toMatchObject({
      code: "network-unsupported",
    });
    expect(await links(box)).toEqual([]);
    // Repaired, it works without another driver.
    process.env.PATH = path;
    await box.setNetwork(allowing("files.test"));
    expect(await links(box)).toEqual(["eth0"]);
  });
});
