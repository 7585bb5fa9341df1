import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectRock } from "../src/client/index.ts";
import { findTool } from "../src/host/tools.ts";
import { SCOPES, serveRock, tokensFile } from "../src/server/index.ts";
import { TokenStore } from "../src/server/token-store.ts";
import { create, created, type TestServer, testServer } from "./server-support.ts";
import { closeDriver, driver, freshHome, obstacle, suite } from "./support.ts";

let server: TestServer;

const tokenFor = (tenant: string, ...scopes: (typeof SCOPES)[number][]): string =>
  server.server.tokens.create({ tenant, scopes: scopes.length === 0 ? SCOPES : scopes }).token;

/** The answer to raw lines: what a client that no library would let be can send. */
function raw(
  url: string,
  headers: Readonly<Record<string, string>>,
  path = "/v1/sandboxes",
): Promise<number> {
  return new Promise((resolve, reject) => {
    request(`${url}${path}`, { headers }, (answer) => {
      answer.resume();
      resolve(answer.statusCode!);
    })
      .on("error", reject)
      .end();
  });
}

describe.skipIf(obstacle)(suite("who may use a server"), () => {
  beforeAll(async () => {
    server = await testServer();
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await closeDriver();
  });

  test("without a token, or with a wrong one, nothing is answered", async () => {
    for (const token of [null, "", "ale_wrong", "x".repeat(10_000)]) {
      const answer = await server.call("GET", "/v1/sandboxes", undefined, { token });
      expect(answer.status).toBe(401);
      expect(answer.body).toMatchObject({ code: "unauthorized", next: expect.any(String) });
    }
  });

  test.each([
    ["sandbox:write", "GET", "/v1/sandboxes"],
    ["sandbox:read", "POST", "/v1/sandboxes"],
    ["files", "POST", "/v1/sandboxes/x/exec"],
    ["exec", "GET", "/v1/sandboxes/x/files/stat?path=/"],
    ["exec", "GET", "/v1/metrics"],
    ["sandbox:write", "GET", "/v1/tokens"],
  ] as const)("a token with the scope %s alone may not %s %s", async (scope, method, path) => {
    const answer = await server.call(method, path, undefined, { token: tokenFor("t", scope) });
    expect(answer).toMatchObject({ status: 403, body: { code: "forbidden" } });
  });

  test("no route shows one tenant what is another's", async () => {
    const [one, other] = [
      tokenFor("one"),
      tokenFor("other", "sandbox:read", "sandbox:write", "exec", "files"),
    ];
    const made = await server.call("POST", "/v1/sandboxes", create({ labels: { a: "b" } }), { token: one });
    const { id } = made.body;
    const get = (path: string) => server.call("GET", path, undefined, { token: other });
    expect((await get("/v1/sandboxes")).body.sandboxes).toEqual([]);
    expect((await get("/v1/sandboxes?label=a=b")).body.sandboxes).toEqual([]);
    expect((await get("/v1/sandboxes?allTenants=true")).status).toBe(403);
    const paths = Object.entries(
      server.server.app.swagger().paths as Record<string, Record<string, unknown>>,
    );
    const calls = paths
      .filter(([path]) => path.includes("{sandboxId}"))
      .flatMap(([path, methods]) => Object.keys(methods).map((method) => ({ path, method })));
    expect(calls.length).toBeGreaterThan(30);
    for (const { path, method } of calls) {
      const parts = { sandboxId: id, session: "default", port: "80", "*": "" };
      const filled = path.replace(/\{(.*?)\}/g, (_all, name: keyof typeof parts) => parts[name]);
      const needsPath =
        /files\/(stat|list|content|watch)|files\/archive|files$/.test(path) && method !== "post";
      const query =
        path.endsWith("archive") && method === "put" ? "?directory=/x" : needsPath ? "?path=/x" : "";
      const body =
        method === "post" || method === "put" ? BODIES.find(([end]) => path.endsWith(end))?.[1] : undefined;
      const ask = (url: string) => server.call(method.toUpperCase(), url, body, { token: other });
      const answer = await ask(filled + query);
      const socket = /stream|terminal|relay/.test(path);
      expect(answer.status, `${method} ${filled} ${answer.text}`).toBe(socket ? 426 : 404);
      const unknown = await ask((filled + query).replaceAll(id, "nobody"));
      expect(answer.text).toBe(unknown.text.replaceAll("nobody", id));
    }
  });

  test("a revoked token is refused at once, an expired one too", async () => {
    const admin = await server.call("POST", "/v1/tokens", { tenant: "t", scopes: ["sandbox:read"] });
    const { id, token } = admin.body;
    expect((await server.call("GET", "/v1/sandboxes", undefined, { token })).status).toBe(200);
    expect((await server.call("DELETE", `/v1/tokens/${id}`)).status).toBe(204);
    expect((await server.call("GET", "/v1/sandboxes", undefined, { token })).status).toBe(401);
    const past = server.server.tokens.create({ tenant: "t", scopes: ["admin"], expiresAtMs: Date.now() - 1 });
    expect((await server.call("GET", "/v1/sandboxes", undefined, { token: past.token })).status).toBe(401);
  });

  test("tokens are kept as digests in a file of the server's user alone", async () => {
    const token = tokenFor("t");
    const path = tokensFile(server.home);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readFileSync(path, "utf8")).not.toContain(token);
    const listed = await server.call("GET", "/v1/tokens");
    expect(listed.text).not.toMatch(/sha256|ale_/);
    const open = mkdtempSync(join(tmpdir(), "ale-tokens-"));
    new TokenStore(join(open, "tokens.json")).create({ tenant: "t", scopes: ["admin"] });
    chmodSync(join(open, "tokens.json"), 0o644);
    expect(() => new TokenStore(join(open, "tokens.json"))).toThrow(/can be read by others/);
    rmSync(open, { recursive: true });
  });

  test("foreign names and foreign pages are refused on loopback", async () => {
    const { url } = server.server;
    const authorization = `Bearer ${server.token}`;
    expect(await raw(url, { authorization })).toBe(200);
    expect(await raw(url, { authorization, host: "attacker.example" })).toBe(421);
    expect(await raw(url, { authorization, origin: "https://attacker.example" })).toBe(403);
    expect(await raw(url, { authorization, origin: "null" })).toBe(403);
    expect(await raw(url, { authorization, "sec-fetch-site": "cross-site" })).toBe(403);
    expect(await raw(url, { authorization, origin: url, "sec-fetch-site": "same-origin" })).toBe(200);
    const answer = await server.call("GET", "/v1/health");
    expect(answer.headers.get("access-control-allow-origin")).toBeNull();
  });

  test("too many calls of one token are refused, those of another are not", async () => {
    await using busy = await testServer({ limits: { callsPerMinute: 3 } });
    const tokens = [1, 2].map(
      () => busy.server.tokens.create({ tenant: "t", scopes: ["sandbox:read"] }).token,
    );
    const statuses = async (token: string): Promise<number[]> => {
      const seen: number[] = [];
      for (let index = 0; index < 5; index++)
        seen.push((await busy.call("GET", "/v1/sandboxes", undefined, { token })).status);
      return seen;
    };
    expect(await statuses(tokens[0]!)).toEqual([200, 200, 200, 429, 429]);
    expect((await statuses(tokens[1]!)).slice(0, 3)).toEqual([200, 200, 200]);
    const late = await busy.call("GET", "/v1/sandboxes", undefined, { token: tokens[0]! });
    expect(late.body).toMatchObject({ code: "too-many-requests", next: expect.stringContaining("again in") });
  });

  test("creations above the quota are refused with what is used", async () => {
    const quota = () => ({
      sandboxes: 1,
      cpus: 10,
      memoryBytes: 2 ** 40,
      diskBytes: 2 ** 40,
      snapshotBytes: 0,
      creationsPerMinute: 2,
    });
    await using small = await testServer({ quota });
    const id = await created(small);
    const second = await small.call("POST", "/v1/sandboxes", create());
    expect(second).toMatchObject({ status: 403, body: { code: "quota-exceeded" } });
    expect(second.body.detail).toContain("sandboxes: 1 used");
    await small.call("DELETE", `/v1/sandboxes/${id}`);
    await small.call("DELETE", `/v1/sandboxes/${await created(small)}`);
    const third = await small.call("POST", "/v1/sandboxes", create());
    expect(third).toMatchObject({ status: 429, body: { code: "too-many-creations" } });
  });

  test("a body that dribbles in is given up, with its connection", async () => {
    await using strict = await testServer({ limits: { requestTimeoutMs: 200 } });
    const { port, hostname } = new URL(strict.server.url);
    const socket = connect(Number(port), hostname);
    const heard: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => heard.push(chunk));
    socket.write(
      `POST /v1/sandboxes HTTP/1.1\r\nHost: ${hostname}\r\nAuthorization: Bearer ${strict.token}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{`,
    );
    await new Promise((resolve) => socket.once("close", resolve));
    expect(Buffer.concat(heard).toString()).toContain("request-timeout");
  });

  test.skipIf(findTool("openssl") === undefined)(
    "with a certificate it speaks TLS and nothing else",
    async () => {
      const directory = mkdtempSync(join(tmpdir(), "ale-tls-"));
      const [key, cert] = [join(directory, "key.pem"), join(directory, "cert.pem")];
      const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
      const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
      execFileSync("openssl", ["req", "-x509", ...kind, "-keyout", key, "-out", cert, ...subject], {
        stdio: "ignore",
      });
      const tls = { key: readFileSync(key, "utf8"), cert: readFileSync(cert, "utf8") };
      rmSync(directory, { recursive: true });
      await using secure = await testServer({ tls });
      const { url } = secure.server;
      expect(url).toMatch(/^https:/);
      await using trusting = connectRock({ url, token: secure.token, ca: tls.cert });
      await using box = await trusting.sandboxes.create({ image: "ale/base" });
      const program = await box.start({ argv: ["cat"], stdin: true });
      await program.closeStdin();
      for await (const _ of program.stdout);
      for await (const _ of program.stderr);
      expect((await program.exit).exitCode).toBe(0);
      await using wary = connectRock({ url, token: secure.token, retries: 0 });
      await expect(wary.sandboxes.list()).rejects.toMatchObject({ code: "certificate-refused" });
    },
  );

  test.each([
    ["there is no token", {}, false],
    ["there is no TLS", {}, true],
    ["calls without a token are trusted", { trustLocal: { tenant: "t" }, insecureHttp: true }, true],
  ])("it does not listen beyond loopback where %s", async (_why, options, token) => {
    using home = await freshHome();
    if (token) new TokenStore(tokensFile(home.path)).create({ tenant: "t", scopes: ["admin"] });
    const served = serveRock({
      home: home.path,
      host: "0.0.0.0",
      port: 0,
      driver: await driver(),
      ...options,
    });
    await expect(served).rejects.toMatchObject({ code: "bind-refused", next: expect.any(String) });
  });

  test("beyond loopback without TLS it listens only where that was spelled out", async () => {
    using home = await freshHome();
    const { token } = new TokenStore(tokensFile(home.path)).create({ tenant: "t", scopes: ["admin"] });
    const options = { home: home.path, host: "0.0.0.0", port: 0, insecureHttp: true, driver: await driver() };
    await using open = await serveRock(options);
    const url = open.url.replace("0.0.0.0", "127.0.0.1");
    expect((await fetch(`${url}/v1/sandboxes`)).status).toBe(401);
    const headers = { authorization: `Bearer ${token}` };
    expect((await fetch(`${url}/v1/sandboxes`, { headers })).status).toBe(200);
  });

  test("calls without a token are somebody's only where that was asked for", async () => {
    await using trusting = await testServer({ trustLocal: { tenant: "me" } });
    const anybody = await trusting.call("POST", "/v1/sandboxes", create(), { token: null });
    expect(anybody).toMatchObject({ status: 201, body: { tenant: "me" } });
    expect((await trusting.call("GET", "/v1/sandboxes", undefined, { token: "ale_wrong" })).status).toBe(401);
    expect(await raw(trusting.server.url, { origin: "https://attacker.example" })).toBe(403);
  });
});

const BODIES: readonly (readonly [string, unknown])[] = [
  ["/exec", { argv: ["true"] }],
  ["/exec/events", { argv: ["true"] }],
  ["/sessions", {}],
  ["/run", { command: "true" }],
  ["/directory", { path: "/x" }],
  ["/move", { from: "/x", to: "/y" }],
  ["/owner", { path: "/x", user: "root" }],
  ["/mode", { path: "/x", mode: 420 }],
  ["/files", { files: [] }],
  ["/fingerprints", { paths: ["/x"] }],
  ["/snapshots", {}],
  ["/revert", { snapshot: "x" }],
  ["/drain", { token: "x" }],
  ["/freeze", {}],
  ["/thaw", {}],
  ["/network", { network: { mode: "none" } }],
];
