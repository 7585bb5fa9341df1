import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectRock, type RockClient } from "../src/client/index.ts";
import { OciDriver } from "../src/index.ts";
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
  type World,
} from "./network-support.ts";
import { create, type TestServer, testServer } from "./server-support.ts";

const OPEN = policy({ mode: "open" });

describe.skipIf(networkObstacle)(networkSuite("the network of sandboxes on a server"), () => {
  let world: World;
  let driver: OciDriver;
  let server: TestServer;
  let client: RockClient;

  beforeAll(async () => {
    world = await fakeWorld();
    driver = new OciDriver({ egress: { upstream: world.upstream } });
    server = await testServer({ driver });
    client = connectRock({ url: server.server.url, token: server.token });
  });
  afterAll(async () => {
    await client.close();
    await server[Symbol.asyncDispose]();
    await driver[Symbol.asyncDispose]();
    await world[Symbol.asyncDispose]();
  });

  test("is asked for, changed and seen over the wire", async () => {
    await using box = await client.driver.create(networkSpec(allowing("files.test")));
    expect(await get(box, "files.test")).toContain("hello from files.test");
    await box.setNetwork(allowing("other.test"), { endOpen: true });
    expect(await get(box, "files.test")).toBe("");
    expect(await get(box, "other.test")).toContain("hello from other.test");
    const { body } = await server.call("GET", `/v1/sandboxes/${box.id}`);
    expect(body.network.hosts).toEqual([{ name: "other.test", ports: [80, 443] }]);
    expect(box.spec.network).toEqual(body.network);
    await box.setNetwork(NONE);
    expect(await links(box)).toEqual([]);
  });

  test("is a fork's own where that is asked for, else that of the time of the snapshot", async () => {
    await using box = await client.driver.create(networkSpec(allowing("files.test")));
    const { snapshot } = await box.snapshot();
    const [same] = await client.driver.snapshots.fork(snapshot.id, 1);
    const [closed] = await client.driver.snapshots.fork(snapshot.id, 1, { network: NONE });
    expect(await get(same!, "files.test")).toContain("hello");
    expect(await links(closed!)).toEqual([]);
    await Promise.all([same!.destroy(), closed!.destroy()]);
  });

  test.each([
    ["the mode open", OPEN, "--allow-open-network"],
    [
      "a private network",
      policy({ mode: "allowlist", addresses: [{ network: "127.0.0.1", ports: [6379] }] }),
      "--allow-private-addresses",
    ],
    [
      "a wide private network",
      policy({ mode: "allowlist", addresses: [{ network: "10.0.0.0/8", ports: [80] }] }),
      "--allow-private-addresses",
    ],
    ["the metadata service", allowing("metadata.google.internal"), "--allow-private-addresses"],
  ])("%s is refused unless the operator allows it", async (_name, network, option) => {
    await expect(client.driver.create(networkSpec(network))).rejects.toMatchObject({
      code: "network-refused",
      next: expect.stringContaining(option),
    });
    await using box = await client.driver.create(networkSpec(NONE));
    await expect(box.setNetwork(network)).rejects.toMatchObject({ code: "network-refused" });
    const { snapshot } = await box.snapshot();
    await expect(client.driver.snapshots.fork(snapshot.id, 1, { network })).rejects.toMatchObject({
      code: "network-refused",
    });
    expect(box.spec.network).toEqual(NONE);
  });

  test.each([
    ["a wildcard over a public suffix", allowing("*.co.uk"), "network-too-wide"],
    [
      "half of the internet",
      policy({ mode: "allowlist", addresses: [{ network: "128.0.0.0/1", ports: [443] }] }),
      "network-too-wide",
    ],
    ["a model gateway that is not there", policy({ mode: "gateway-only" }), "network-unsupported"],
    ["the same by its name", allowing("model-gateway.ale.internal"), "network-unsupported"],
  ])("%s is refused, and leaves no sandbox behind", async (_name, network, code) => {
    await expect(client.driver.create(networkSpec(network))).rejects.toMatchObject({ code });
    const { body } = await server.call("GET", "/v1/sandboxes");
    expect(body.sandboxes).toEqual([]);
  });

  test("what one operator allowed another one's server does not hand on", async () => {
    const bounds = { modes: ["none", "allowlist", "open"] as const, privateAddresses: true };
    await using generous = await testServer({ driver, network: bounds });
    const other = connectRock({ url: generous.server.url, token: generous.token });
    await using box = await other.driver.create(networkSpec(OPEN));
    expect(await get(box, "anything.test")).toContain("hello");
    const { snapshot } = await box.snapshot();
    await expect(client.driver.snapshots.fork(snapshot.id, 1)).rejects.toMatchObject({
      code: "network-refused",
    });
    const [closed] = await client.driver.snapshots.fork(snapshot.id, 1, { network: NONE });
    await closed!.destroy();
    await box.destroy();
    await other.close();
  });

  test("capabilities are those that tenants may ask for", async () => {
    expect((await client.driver.capabilities()).network).toEqual(["none", "allowlist"]);
  });

  test("needs the scope that makes sandboxes, and a policy that means something", async () => {
    const { token } = server.server.tokens.create({ tenant: "local", scopes: ["sandbox:read"] });
    await using box = await client.driver.create(networkSpec(NONE));
    const path = `/v1/sandboxes/${box.id}/network`;
    expect((await server.call("PUT", path, { network: NONE }, { token })).status).toBe(403);
    const bad = { mode: "allowlist", hosts: [{ name: "https://pypi.test" }] };
    const answer = await server.call("PUT", path, { network: bad });
    expect(answer.status).toBe(400);
    expect(answer.text).toContain("is no host name");
    const made = await server.call("POST", "/v1/sandboxes", create({ network: bad }));
    expect(made.status).toBe(400);
    const unknown = await server.call("PUT", "/v1/sandboxes/nobody/network", { network: NONE });
    expect(unknown.status).toBe(404);
  });
});
