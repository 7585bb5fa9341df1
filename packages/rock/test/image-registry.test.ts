import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findTool } from "../src/host/tools.ts";
import { hostPlatform, MEDIA } from "../src/image/manifest.ts";
import { Registry } from "../src/image/registry.ts";
import { digestOf, openStore } from "../src/image/store.ts";
import { pullImage, pushImage, resolveImage } from "../src/index.ts";
import {
  CREDENTIALS,
  freePort,
  makeImage,
  type RunningRegistry,
  registryTool,
  startRegistry,
  tarOf,
  temporary,
} from "./image-support.ts";

const missing =
  process.getuid?.() !== 0 ? "not root" : registryTool === undefined ? "no docker-registry" : "";
const NO_FILE = { dockerConfig: null } as const;

/** Text that does not become small when it is compressed. */
const NOISE = Array.from({ length: 4688 }, (_, index) => digestOf(String(index)).slice(7))
  .join("")
  .slice(0, 300_000);
const LOWER = tarOf(
  { path: "etc", type: "directory", mode: 0o755 },
  { path: "etc/old", content: "old" },
  { path: "etc/kept", content: "kept", uid: 12, mode: 0o4711 },
);
const UPPER = tarOf(
  { path: "etc", type: "directory", mode: 0o755 },
  { path: "etc/.wh.old" },
  { path: "srv/new", content: NOISE },
);

describe.skipIf(missing)(`a registry ${missing && `(skipped: ${missing})`}`, () => {
  let registry: RunningRegistry;
  let closed: RunningRegistry;
  beforeAll(async () => {
    [registry, closed] = await Promise.all([startRegistry(), startRegistry({ auth: true })]);
  });
  afterAll(async () => {
    await Promise.all([registry[Symbol.asyncDispose](), closed[Symbol.asyncDispose]()]);
  });

  /** A home whose image `mine` was pushed to the open registry under a name. */
  async function pushed(name: string) {
    const home = temporary();
    await makeImage(home.path, "mine", [LOWER, UPPER]);
    const reference = `${registry.host}/${name}`;
    const { digest } = await pushImage(home.path, "mine", reference, NO_FILE);
    return { ...home, reference, digest };
  }

  test("gives back what was pushed: layers, removals, owners, configuration", async () => {
    using source = await pushed("team/app:1");
    using home = temporary();
    const image = await pullImage(home.path, source.reference, NO_FILE);
    expect(image.digest).toBe(source.digest);
    expect(image.config).toMatchObject({
      env: { PATH: "/bin", GREETING: "hello" },
      workdir: "/srv",
      user: "root",
      command: ["/bin/true"],
      exposedPorts: ["8080/tcp"],
    });
    const [upper, lower] = image.layers as [string, string];
    expect(statSync(join(lower, "etc/kept"))).toMatchObject({ uid: 12, mode: 0o104711 });
    expect(statSync(join(upper, "etc/old")).isCharacterDevice()).toBe(true);
    expect(readFileSync(join(upper, "srv/new"), "utf8")).toHaveLength(300_000);
    expect(resolveImage(home.path, source.reference)).toEqual(image);
  });

  test("is not asked again for layers that are here", async () => {
    using source = await pushed("cached:1");
    using home = temporary();
    const first: string[] = [];
    await pullImage(home.path, source.reference, { ...NO_FILE, onProgress: ({ type }) => first.push(type) });
    expect(first.filter((type) => type === "done")).toHaveLength(2);
    const again: string[] = [];
    await pullImage(home.path, source.reference, { ...NO_FILE, onProgress: ({ type }) => again.push(type) });
    expect(again).toEqual(["manifest", "cached", "cached"]);
  });

  test("serves many pulls of one image at the same time, each layer unpacked once", async () => {
    using source = await pushed("together:1");
    using home = temporary();
    let unpacked = 0;
    const onProgress = ({ type }: { type: string }) => {
      if (type === "unpacking") unpacked++;
    };
    const images = await Promise.all(
      Array.from({ length: 4 }, () => pullImage(home.path, source.reference, { ...NO_FILE, onProgress })),
    );
    expect(new Set(images.map((image) => image.digest)).size).toBe(1);
    expect(unpacked).toBe(2);
  });

  test("is asked by digest, and a pinned digest is believed only with its bytes", async () => {
    using source = await pushed("pinned:1");
    using home = temporary();
    const name = source.reference.replace(/:1$/, "");
    const image = await pullImage(home.path, `${name}@${source.digest}`, NO_FILE);
    expect(image.digest).toBe(source.digest);
    const other = `${name}@sha256:${"0".repeat(64)}`;
    await expect(pullImage(home.path, other, NO_FILE)).rejects.toMatchObject({ code: "registry-unknown" });
  });

  test("takes an image back byte for byte, so that its digest stays", async () => {
    using source = await pushed("there:1");
    using home = temporary();
    await pullImage(home.path, source.reference, NO_FILE);
    const again = await pushImage(home.path, source.reference, `${registry.host}/and/back:1`, NO_FILE);
    expect(again.digest).toBe(source.digest);
  });

  test("offers platforms: ours is chosen, another on request, a missing one refused with what there is", async () => {
    using source = await pushed("many:one");
    const { tag, registry: client } = await putIndex(source.digest);
    using home = temporary();
    const image = await pullImage(home.path, `${registry.host}/many:${tag}`, NO_FILE);
    expect(image.digest).toBe(source.digest);
    const attempt = pullImage(home.path, `${registry.host}/many:${tag}`, {
      ...NO_FILE,
      platform: "linux/s390x",
    });
    await expect(attempt).rejects.toMatchObject({
      code: "platform-missing",
      next: expect.stringContaining("linux/riscv64"),
    });
    expect(client.repository).toBe("many");
  });

  async function putIndex(digest: string) {
    const client = new Registry({ registry: registry.host, repository: "many" }, "pull,push", NO_FILE);
    const manifest = await client.request({
      path: `manifests/${digest}`,
      headers: { accept: MEDIA.ociManifest },
    });
    const size = (await manifest.arrayBuffer()).byteLength;
    const [os, architecture] = hostPlatform().split("/");
    const entry = { mediaType: MEDIA.ociManifest, digest, size };
    const index = {
      schemaVersion: 2,
      mediaType: MEDIA.ociIndex,
      manifests: [
        { ...entry, platform: { os: "linux", architecture: "riscv64" } },
        { ...entry, platform: { os: "unknown", architecture: "unknown" } },
        { ...entry, platform: { os, architecture } },
      ],
    };
    const headers = { "content-type": MEDIA.ociIndex };
    await client.request({
      method: "PUT",
      path: "manifests/all",
      headers,
      body: () => JSON.stringify(index),
    });
    return { tag: "all", registry: client };
  }

  test("gives zstd and plain layers", async () => {
    using home = temporary();
    const layers = [zstdCompressSync(LOWER), UPPER];
    const name = await putImage("packed", layers, [LOWER, UPPER], [`${MEDIA.ociTar}+zstd`, MEDIA.ociTar]);
    const image = await pullImage(home.path, name, NO_FILE);
    expect(readFileSync(join(image.layers[1]!, "etc/kept"), "utf8")).toBe("kept");
    expect(readFileSync(join(image.layers[0]!, "srv/new"), "utf8")).toHaveLength(300_000);
  });

  test("whose image has layers of an unknown kind is refused before anything is fetched", async () => {
    using home = temporary();
    const name = await putImage("foreign", [LOWER], [LOWER], ["application/vnd.example.wasm"]);
    await expect(pullImage(home.path, name, NO_FILE)).rejects.toMatchObject({ code: "media-unsupported" });
    expect(existsSync(join(home.path, "images", "partial"))).toBe(false);
  });

  test("whose layer is not what its configuration says is refused, and nothing is kept", async () => {
    using home = temporary();
    const name = await putImage("lying", [gzipSync(UPPER)], [LOWER], [MEDIA.ociGzip]);
    await expect(pullImage(home.path, name, NO_FILE)).rejects.toMatchObject({ code: "digest-mismatch" });
    expect(() => resolveImage(home.path, name)).toThrow("no local image");
    expect(existsSync(join(home.path, "images", "layers"))).toBe(false);
    expect(readdirSync(join(home.path, "images", "staging"))).toEqual([]);
  });

  /** Puts a hand-made image there. */
  async function putImage(repository: string, blobs: Buffer[], tars: Buffer[], mediaTypes: string[]) {
    const client = new Registry({ registry: registry.host, repository }, "pull,push", NO_FILE);
    const put = async (bytes: Buffer, mediaType: string) => {
      const begun = await client.request({
        method: "POST",
        path: "blobs/uploads/",
        headers: { "content-length": "0" },
      });
      const url = new URL(begun.headers.get("location")!);
      const digest = digestOf(bytes);
      url.searchParams.set("digest", digest);
      await client.request({ method: "PUT", path: url.href, body: () => bytes });
      return { mediaType, digest, size: bytes.length };
    };
    const config = {
      os: "linux",
      architecture: "amd64",
      rootfs: { type: "layers", diff_ids: tars.map((tar) => digestOf(tar)) },
    };
    const layers = await Promise.all(blobs.map((blob, index) => put(blob, mediaTypes[index]!)));
    const manifest = {
      schemaVersion: 2,
      mediaType: MEDIA.ociManifest,
      config: await put(Buffer.from(JSON.stringify(config)), MEDIA.ociConfig),
      layers,
    };
    const headers = { "content-type": MEDIA.ociManifest };
    await client.request({
      method: "PUT",
      path: "manifests/latest",
      headers,
      body: () => JSON.stringify(manifest),
    });
    return `${registry.host}/${repository}:latest`;
  }

  test("behind a line that breaks is asked for the rest only", async () => {
    using source = await pushed("broken:1");
    using home = temporary();
    const ranges: string[] = [];
    let cuts = 0;
    await using proxy = await between(registry.host, (asked, answer, body) => {
      if (asked.headers.range) ranges.push(asked.headers.range);
      if (asked.url!.includes("/blobs/") && body.length > 1000 && cuts++ === 0) {
        answer.write(body.subarray(0, 700), () => answer.destroy());
        return true;
      }
      return false;
    });
    const image = await pullImage(home.path, source.reference.replace(registry.host, proxy.host), NO_FILE);
    expect(image.digest).toBe(source.digest);
    expect(cuts).toBeGreaterThan(0);
    expect(ranges).toContain("bytes=700-");
  });

  test("behind something that changes bytes is caught", async () => {
    using source = await pushed("changed:1");
    using home = temporary();
    await using proxy = await between(registry.host, (asked, answer, body) => {
      if (!asked.url!.includes("/blobs/") || body.length < 1000) return false;
      body[500]! ^= 1;
      answer.end(body);
      return true;
    });
    const attempt = pullImage(home.path, source.reference.replace(registry.host, proxy.host), NO_FILE);
    await expect(attempt).rejects.toMatchObject({ code: "digest-mismatch" });
    expect(readdirSync(join(home.path, "images", "partial"))).toEqual([]);
  });

  test("that is busy is asked again, and one that stays busy is given up", async () => {
    using source = await pushed("busy:1");
    using home = temporary();
    let refusals = 2;
    await using proxy = await between(registry.host, (_, answer) => {
      if (refusals-- <= 0) return false;
      answer.writeHead(503).end();
      return true;
    });
    const name = source.reference.replace(registry.host, proxy.host);
    expect((await pullImage(home.path, name, NO_FILE)).digest).toBe(source.digest);
    refusals = 1_000;
    await expect(pullImage(home.path, name, { ...NO_FILE, attempts: 2 })).rejects.toMatchObject({
      code: "registry-refused",
    });
  });

  test("is left in the middle of a download when the caller gives up, and the rest follows later", async () => {
    using source = await pushed("left:1");
    using home = temporary();
    const abort = new AbortController();
    const attempt = pullImage(
      home.path,
      source.reference,
      { ...NO_FILE, onProgress: ({ type }) => type === "downloading" && abort.abort(new Error("enough")) },
      abort.signal,
    );
    await expect(attempt).rejects.toThrow("enough");
    expect(() => resolveImage(home.path, source.reference)).toThrow("no local image");
    expect((await pullImage(home.path, source.reference, NO_FILE)).digest).toBe(source.digest);
  });

  test("is stood in for by a mirror, and asked itself where the mirror does not know", async () => {
    using source = await pushed("mirrored:1");
    using home = temporary();
    const nobody = `127.0.0.1:${await freePort()}`;
    const name = `${nobody}/mirrored:1`;
    const mirrors = { [nobody]: [registry.host] };
    const image = await pullImage(home.path, name, { ...NO_FILE, mirrors });
    expect([image.name, image.digest]).toEqual([name, source.digest]);
    const missing = { [registry.host]: [nobody] };
    const direct = await pullImage(home.path, source.reference, {
      ...NO_FILE,
      mirrors: missing,
      attempts: 1,
    });
    expect(direct.digest).toBe(source.digest);
  });

  test("that is down, unknown to it, or only to be had over plain HTTP elsewhere: each is said", async () => {
    using home = temporary();
    const pull = (name: string) => pullImage(home.path, name, { ...NO_FILE, attempts: 1 });
    await expect(pull(`127.0.0.1:${await freePort()}/x`)).rejects.toMatchObject({
      code: "registry-unreachable",
      message: expect.stringContaining("ECONNREFUSED"),
    });
    await expect(pull(`${registry.host}/nothing:here`)).rejects.toMatchObject({ code: "registry-unknown" });
    await expect(pull("upper/Case")).rejects.toMatchObject({ code: "reference-invalid" });
    await using proxy = await between(registry.host, (_, answer) => {
      answer.writeHead(307, { location: "http://192.0.2.1/blob" }).end();
      return true;
    });
    const elsewhere = new Registry({ registry: proxy.host, repository: "x" }, "pull", NO_FILE);
    expect(elsewhere.base).toMatch(/^http:/);
    const remote = new Registry({ registry: "registry.example", repository: "x" }, "pull", NO_FILE);
    expect(remote.base).toBe("https://registry.example");
  });

  test("with a password takes the right one, from the caller or from a docker configuration", async () => {
    using home = temporary();
    await makeImage(home.path, "mine", [LOWER]);
    const reference = `${closed.host}/secret:1`;
    const push = (more: object) => pushImage(home.path, "mine", reference, { ...NO_FILE, ...more });
    await expect(push({})).rejects.toMatchObject({ code: "registry-unauthorised" });
    await expect(push({ auth: { username: "tester", password: "wrong" } })).rejects.toMatchObject({
      code: "registry-unauthorised",
      message: expect.stringContaining("refuses these credentials"),
    });
    await push({ auth: CREDENTIALS });
    const dockerConfig = join(home.path, "config.json");
    const auth = Buffer.from("tester:secret").toString("base64");
    writeFileSync(dockerConfig, JSON.stringify({ auths: { [closed.host]: { auth } } }));
    using fresh = temporary();
    expect((await pullImage(fresh.path, reference, { dockerConfig })).layers).toHaveLength(1);
    writeFileSync(dockerConfig, JSON.stringify({ auths: {}, credsStore: "desktop" }));
    await expect(pullImage(fresh.path, reference, { dockerConfig })).rejects.toMatchObject({
      message: expect.stringContaining('keeps credentials in the helper "desktop", which is not asked'),
    });
  });

  test("with a token service gets the token from it, with the credentials", async () => {
    using source = await pushed("token:1");
    using home = temporary();
    const asked: string[] = [];
    await using proxy = await between(registry.host, (asking, answer) => {
      const url = new URL(asking.url!, "http://x");
      if (url.pathname === "/token") {
        asked.push(`${url.searchParams.get("scope")} ${asking.headers.authorization}`);
        answer.end(JSON.stringify({ token: "open-sesame" }));
        return true;
      }
      if (asking.headers.authorization === "Bearer open-sesame") return false;
      const realm = `Bearer realm="http://${asking.headers.host}/token",service="tests"`;
      answer.writeHead(401, { "www-authenticate": realm }).end();
      return true;
    });
    const name = source.reference.replace(registry.host, proxy.host);
    const image = await pullImage(home.path, name, { ...NO_FILE, auth: CREDENTIALS });
    expect(image.digest).toBe(source.digest);
    expect(asked[0]).toBe(`repository:token:pull Basic ${Buffer.from("tester:secret").toString("base64")}`);
  });

  test.skipIf(findTool("podman") === undefined)(
    "gives podman what we pushed, and us what podman pushed",
    async () => {
      using source = await pushed("podman:1");
      const podman = (...argv: string[]) => {
        const place = join(source.path, "podman");
        mkdirSync(place, { recursive: true });
        const dirs = ["--root", join(place, "root"), "--runroot", join(place, "run"), "--storage-driver=vfs"];
        const done = spawnSync("podman", [...dirs, ...argv], {
          encoding: "utf8",
          env: { ...process.env, TMPDIR: place },
        });
        expect(done.status, done.stderr).toBe(0);
        return done.stdout.trim();
      };
      podman("pull", "-q", "--tls-verify=false", source.reference);
      expect(podman("image", "inspect", "--format", "{{.Config.WorkingDir}}", source.reference)).toBe("/srv");
      podman("push", "-q", "--tls-verify=false", source.reference, `${registry.host}/from-podman:1`);
      using home = temporary();
      const image = await pullImage(home.path, `${registry.host}/from-podman:1`, NO_FILE);
      expect(image.config.env.GREETING).toBe("hello");
      expect(readFileSync(join(image.layers[0]!, "srv/new"), "utf8")).toHaveLength(300_000);
      expect(openStore(home.path).root).toContain(home.path);
    },
  );
});

type Interference = (asked: IncomingMessage, answer: ServerResponse, body: Buffer) => boolean;

/** A proxy before a registry that may answer itself (`true`) or let the registry's answer through. */
async function between(host: string, interfere: Interference) {
  const server = createServer((asked, answer) => {
    const headers = { ...asked.headers, host: asked.headers.host };
    const onward = request(`http://${host}${asked.url}`, { method: asked.method, headers }, (response) => {
      const parts: Buffer[] = [];
      response.on("data", (chunk: Buffer) => parts.push(chunk));
      response.on("end", () => {
        const body = Buffer.concat(parts);
        if (interfere(asked, answer, body)) return;
        answer.writeHead(response.statusCode!, response.headers).end(body);
      });
    });
    asked.pipe(onward);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
