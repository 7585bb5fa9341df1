import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { Telemetry } from "@ale/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectRock, type RemoteSandbox, type RockClient } from "../src/client/index.ts";
import { type TestServer, testServer } from "./server-support.ts";
import { closeDriver, driver, obstacle, spec, suite, until } from "./support.ts";

let server: TestServer;
let client: RockClient;
let box: RemoteSandbox;

/** Another way to the server, which can break. */
async function breakableWay(url: string) {
  const { hostname, port } = new URL(url);
  const open = new Set<Socket>();
  let blocked = false;
  const way = createServer((near) => {
    const far = connect({ host: hostname, port: Number(port) });
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(one);
      one.on("error", () => {});
      one.once("close", () => {
        open.delete(one);
        other.destroy();
      });
    }
    if (blocked) near.destroy();
    else near.pipe(far).pipe(near);
  });
  await new Promise<void>((done) => way.listen(0, "127.0.0.1", done));
  const cut = (): void => {
    for (const socket of open) socket.destroy();
  };
  return {
    url: `http://127.0.0.1:${(way.address() as AddressInfo).port}`,
    get connections() {
      return open.size;
    },
    cut,
    block: () => {
      blocked = true;
      cut();
    },
    open: () => {
      blocked = false;
    },
    [Symbol.asyncDispose]: async () => {
      cut();
      way.close();
    },
  };
}

const refuse = (): void => {
  box.exec({ argv: ["perl", "-e", "syscall(272, 0x10000000)"], user: "root" }).catch(() => {});
};
const capabilities = obstacle === undefined ? await (await driver()).capabilities() : undefined;
const logged = capabilities?.trace.some((one) => one !== "tracefs") ?? false;
const traced = capabilities?.telemetry.includes("tracefs") ?? false;

describe.skipIf(obstacle)(suite("the telemetry of a sandbox on a server"), () => {
  beforeAll(async () => {
    server = await testServer();
    client = connectRock({ url: server.server.url, token: server.token });
    box = await client.driver.create(spec());
  });
  afterAll(async () => {
    await client.close();
    await server[Symbol.asyncDispose]();
    await closeDriver();
  });

  test.skipIf(!logged)(
    "is told under the name that the sandbox has on the server, also to several",
    async () => {
      const told: Telemetry[] = [];
      const more: Telemetry[] = [];
      using _first = box.onTelemetry((record) => told.push(record));
      using _second = box.onTelemetry((record) => more.push(record));
      await box.drainTelemetry();
      const denied = () => told.filter(({ kind }) => kind === "syscall.denied");
      await until("the server tells of it", () => {
        refuse();
        return denied().length > 0;
      });
      expect(denied()[0]).toMatchObject({ sandbox: box.id, syscall: { name: "unshare" } });
      expect(more).toEqual(told);
    },
  );

  test.skipIf(!traced)(
    "goes on where it was when the connection breaks, and says so where that cannot be",
    async () => {
      await using way = await breakableWay(server.server.url);
      await using far = connectRock({ url: way.url, token: server.token });
      const there = await far.driver.attach(box.id);
      const direct: Telemetry[] = [];
      const told: Telemetry[] = [];
      using _direct = box.onTelemetry((record) => direct.push(record));
      using _told = there.onTelemetry((record) => told.push(record));
      await Promise.all([box.drainTelemetry(), there.drainTelemetry()]);
      const run = async (name: string): Promise<void> => {
        await box.exec({ argv: ["sh", "-c", `true ${name}; /bin/true ${name}`] });
        await box.drainTelemetry();
      };
      await run("before");
      way.cut();
      await run("meanwhile");
      // Also asked for while there is no connection.
      await there.drainTelemetry();
      await run("after");
      await there.drainTelemetry();
      const programs = (all: readonly Telemetry[]) =>
        all.filter(({ kind }) => kind === "process.exec").map(({ at, process }) => [at, process?.command]);
      expect(programs(direct).some(([, command]) => String(command).includes("meanwhile"))).toBe(true);
      expect(programs(told)).toEqual(programs(direct));
      expect(told.filter(({ kind }) => kind === "telemetry.gap")).toEqual([]);

      // Gone for good: the sandbox ends while nobody is there to be told.
      const lonely = await client.driver.create(spec());
      const seen: Telemetry[] = [];
      using _lonely = (await far.driver.attach(lonely.id)).onTelemetry((record) => seen.push(record), {
        sources: ["files"],
      });
      await until("it listens", () => way.connections > 0);
      await new Promise((resolve) => setTimeout(resolve, 500));
      way.block();
      await lonely.destroy();
      way.open();
      await until("it is told that something may be missing", () =>
        seen.some(({ kind, tool }) => kind === "telemetry.gap" && /sandbox/.test(tool?.command ?? "")),
      );
    },
    30_000,
  );

  test("needs a token that may read", async () => {
    const path = `/v1/sandboxes/${box.id}/telemetry`;
    expect((await server.call("GET", path, undefined, { token: null })).status).toBe(401);
    expect((await server.call("GET", "/v1/sandboxes/none/telemetry")).body.code).toBe("sandbox-unknown");
  });

  test("a sandbox on a server is frozen and thawed", async () => {
    await box.freeze();
    await expect(box.exec({ argv: ["true"] })).rejects.toMatchObject({ code: "sandbox-frozen" });
    await box.thaw();
    expect((await box.exec({ argv: ["true"] })).exitCode).toBe(0);
  });
});
