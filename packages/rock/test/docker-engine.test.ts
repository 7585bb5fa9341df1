import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type RequestListener } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { Demultiplexer } from "../src/docker/demultiplex.ts";
import { Engine } from "../src/docker/engine.ts";
import { EngineImages, splitReference } from "../src/docker/engine-images.ts";
import { findSocket } from "../src/docker/socket.ts";
import { engineObstacle, engineSuite, processesOf, startEngine, type TestEngine } from "./engine.ts";

/** A server on a unix socket that answers as the listener says. */
async function listening(listener: RequestListener): Promise<{ path: string } & AsyncDisposable> {
  const directory = mkdtempSync(join(tmpdir(), "ale-socket-"));
  const path = join(directory, "s");
  const server = createServer(listener);
  await new Promise<void>((resolve) => void server.listen(path, resolve));
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      rmSync(directory, { recursive: true });
    },
  };
}

const version = (more: object) =>
  JSON.stringify({
    ApiVersion: "1.47",
    MinAPIVersion: "1.24",
    Version: "27.3.1",
    Os: "linux",
    Arch: "arm64",
    ...more,
  });

describe("finding the engine's socket", () => {
  const host = { platform: "linux" as const, env: {}, home: "/home/me", uid: 1000, exists: () => false };

  test("$DOCKER_HOST decides, and only unix sockets are taken", () => {
    const found = findSocket({ ...host, env: { DOCKER_HOST: "unix:///x/y.sock" }, exists: () => true });
    expect(found).toBe("/x/y.sock");
    expect(() => findSocket({ ...host, env: { DOCKER_HOST: "tcp://10.0.0.1:2375" } })).toThrow(
      /no unix socket/,
    );
  });

  test.each([
    ["linux", 0, ["/var/run/docker.sock", "/run/podman/podman.sock"], "/var/run/docker.sock"],
    [
      "linux",
      1000,
      ["/var/run/docker.sock", "/run/user/1000/podman/podman.sock"],
      "/run/user/1000/podman/podman.sock",
    ],
    ["darwin", 501, ["/home/me/.colima/default/docker.sock"], "/home/me/.colima/default/docker.sock"],
  ] as const)("on %s as uid %i the own engine comes first", (platform, uid, there, expected) => {
    const exists = (path: string): boolean => (there as readonly string[]).includes(path);
    expect(findSocket({ ...host, platform, uid, exists })).toBe(expected);
  });

  test("where there is none, it says what to start", () => {
    expect(() => findSocket(host)).toThrow(
      expect.objectContaining({ code: "engine-missing", next: expect.stringContaining("podman.socket") }),
    );
  });
});

describe("meeting an engine", () => {
  test("the newest version that both know is spoken", async () => {
    const asked: string[] = [];
    await using server = await listening((request, response) => {
      asked.push(request.url ?? "");
      response.end(version({ ApiVersion: "1.99" }));
    });
    const engine = await Engine.open(server.path);
    expect(engine.version).toEqual({ name: "docker", version: "27.3.1", api: "1.47", arch: "arm64" });
    await engine.order("POST", "/x", { query: { a: 1, b: ["c", "d"], none: undefined } });
    expect(asked).toEqual(["/version", "/v1.47/x?a=1&b=c&b=d"]);
    engine.close();
  });

  test.each([
    ["too old", version({ ApiVersion: "1.24" }), "engine-unsupported"],
    [
      "one that begins later than we end",
      version({ ApiVersion: "1.90", MinAPIVersion: "1.80" }),
      "engine-unsupported",
    ],
    ["one of Windows containers", version({ Os: "windows" }), "engine-unsupported"],
    ["something else that speaks HTTP", "<html>", "engine-unsupported"],
  ])("%s is refused", async (_, answer, code) => {
    await using server = await listening((_request, response) => void response.end(answer));
    await expect(Engine.open(server.path)).rejects.toMatchObject({ code });
  });

  test("where nobody listens, it says so", async () => {
    await expect(Engine.open("/nowhere/docker.sock")).rejects.toMatchObject({ code: "engine-missing" });
  });

  test("refusals carry the engine's words, and a broken answer is an error", async () => {
    await using server = await listening((request, response) => {
      if (request.url === "/version") return void response.end(version({}));
      if (request.url?.endsWith("/break")) return void response.socket?.destroy();
      response.writeHead(409).end(JSON.stringify({ message: "it is in use" }));
    });
    const engine = await Engine.open(server.path);
    await expect(engine.order("DELETE", "/x")).rejects.toMatchObject({
      code: "engine-conflict",
      message: expect.stringContaining("it is in use"),
    });
    expect(await engine.order("DELETE", "/x", { accept: [409] })).toBe(409);
    await expect(engine.order("POST", "/break")).rejects.toMatchObject({ code: "engine-gone" });
    engine.close();
  });
});

describe("the streams of an attached container", () => {
  const frame = (kind: number, text: string): Buffer => {
    const header = Buffer.alloc(8);
    header[0] = kind;
    header.writeUInt32BE(text.length, 4);
    return Buffer.concat([header, Buffer.from(text)]);
  };

  test("come apart again, however the bytes were cut", () => {
    const bytes = Buffer.concat([frame(1, "out"), frame(2, "error"), frame(1, ""), frame(1, "more")]);
    for (let size = 1; size <= bytes.length; size++) {
      const frames = new Demultiplexer();
      const texts = { stdout: "", stderr: "" };
      for (let at = 0; at < bytes.length; at += size)
        for (const piece of frames.push(bytes.subarray(at, at + size))) texts[piece.stream] += piece.bytes;
      expect(texts).toEqual({ stdout: "outmore", stderr: "error" });
    }
  });

  test.each([[Buffer.from([3, 0, 0, 0, 0, 0, 0, 1])], [Buffer.from([1, 0, 0, 0, 255, 0, 0, 0])]])(
    "are given up where they make no sense: %s",
    (bytes) => {
      expect(() => [...new Demultiplexer().push(bytes)]).toThrow(RangeError);
    },
  );
});

test.each([
  ["python:3.11-slim", "python", "3.11-slim"],
  ["localhost:5000/a/b", "localhost:5000/a/b", "latest"],
  ["a/b@sha256:0123", "a/b", "sha256:0123"],
])("the reference %s is %s and %s", (name, repository, tag) => {
  expect(splitReference(name)).toEqual({ repository, tag });
});

describe.skipIf(engineObstacle)(engineSuite("a real engine"), () => {
  let engine: TestEngine;
  let client: Engine;
  beforeAll(async () => {
    engine = await startEngine();
    client = await Engine.open(engine.socket);
  });
  afterAll(async () => {
    client?.close();
    await engine?.[Symbol.asyncDispose]();
  });

  test("tells what it is", () => {
    expect(client.version).toMatchObject({ name: "podman", api: "1.41", arch: process.arch });
  });

  test("does not find an image that is not there, and takes no path for a name", async () => {
    const images = new EngineImages(client);
    expect(await images.find("localhost/no/such:1")).toBeUndefined();
    await expect(images.find("../../containers/json?x=")).rejects.toMatchObject({ code: "image-invalid" });
  });

  test("gives up a request whose signal aborts", async () => {
    const abort = AbortSignal.timeout(200);
    const events = client.values("GET", "/events", {}, abort);
    await expect(events.next()).rejects.toThrow(/timeout|abort/i);
    expect(await client.json("GET", "/containers/json", z.array(z.unknown()))).toEqual([]);
  });
});

test.skipIf(engineObstacle)(
  "a test's engine ends with a test that is killed, and the next one removes its files",
  async () => {
    const owner = spawn(process.execPath, [join(import.meta.dirname, "engine-process.ts")], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [said] = (await once(owner.stdout, "data")) as [Buffer];
    const directory = String(said).trim();
    expect(processesOf(directory)).not.toEqual([]);
    owner.kill("SIGKILL");
    await once(owner, "exit");
    await expect.poll(() => processesOf(directory), { timeout: 20_000 }).toEqual([]);
    await using _next = await startEngine();
    expect(existsSync(directory)).toBe(false);
  },
);
