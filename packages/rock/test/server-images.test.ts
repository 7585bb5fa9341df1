import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectLocal, type RockClient } from "../src/client/index.ts";
import { pushImage } from "../src/index.ts";
import { type RockServer, serveRock } from "../src/server/index.ts";
import {
  homeWithBase,
  makeImage,
  type RunningRegistry,
  registryTool,
  startRegistry,
  tarOf,
} from "./image-support.ts";
import { obstacle, suite } from "./support.ts";

const FILES = tarOf({ path: "srv", type: "directory", mode: 0o755 }, { path: "srv/own", content: "own" });

describe.skipIf(obstacle ?? registryTool === undefined)(suite("images of a server"), () => {
  const parts = new AsyncDisposableStack();
  let registry: RunningRegistry;
  let server: RockServer;
  let client: RockClient;
  let reference = "";

  beforeAll(async () => {
    registry = parts.use(await startRegistry());
    const home = await homeWithBase();
    parts.defer(() => home[Symbol.dispose]());
    await makeImage(home.path, "mine", [FILES]);
    reference = `${registry.host}/team/mine:1`;
    await pushImage(home.path, "mine", reference, { dockerConfig: null });
    server = parts.use(await serveRock({ home: home.path, port: 0 }));
    client = parts.use(connectLocal(home.path));
  });
  afterAll(() => parts.disposeAsync());

  test("an image is pulled with its progress, listed, run, and removed when nothing needs it", async () => {
    await expect(client.sandboxes.create({ image: reference })).rejects.toMatchObject({
      code: "image-unknown",
    });
    const told: string[] = [];
    const image = await client.images.pull(reference, (message) => told.push(message));
    expect(image).toMatchObject({ name: reference, digest: expect.stringMatching(/^sha256:/) });
    expect(told.length).toBeGreaterThan(0);
    const names = (await client.images.list()).map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(["ale/base", reference]));
    const box = await client.sandboxes.create({ image: reference });
    const own = await box.files.read("/srv/own");
    expect(own.ok && Buffer.from(own.value).toString()).toBe("own");
    await expect(client.images.remove(reference)).rejects.toMatchObject({ code: "image-in-use" });
    await box.destroy();
    await client.images.remove(reference);
    expect((await client.images.list()).map(({ name }) => name)).not.toContain(reference);
    await expect(client.images.remove(reference)).rejects.toMatchObject({ code: "image-unknown" });
  });

  test("what cannot be pulled is said, and the base image is not to be removed", async () => {
    const missing = `${registry.host}/team/none:1`;
    await expect(client.images.pull(missing)).rejects.toMatchObject({
      name: "AleError",
      code: expect.any(String),
    });
    await expect(client.images.pull("Not A Name")).rejects.toMatchObject({ code: "reference-invalid" });
    await expect(client.images.remove("ale/base")).rejects.toMatchObject({ code: "image-in-use" });
  });

  test("pulling and removing need a scope of their own", async () => {
    const { token } = server.tokens.create({ tenant: "t", scopes: ["sandbox:read", "sandbox:write"] });
    for (const [method, path, body] of [
      ["POST", "/v1/images/pull", JSON.stringify({ name: reference })],
      ["DELETE", `/v1/images?name=${reference}`, null],
    ] as const) {
      const headers = {
        authorization: `Bearer ${token}`,
        ...(body && { "content-type": "application/json" }),
      };
      expect((await fetch(`${server.url}${path}`, { method, headers, body })).status).toBe(403);
    }
  });
});
