import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ApprovalRequest } from "@ale/core";
import { ApprovalStore } from "@ale/guard";
import { describedApp, findServer, openApiOf, referenceText, SCOPES, serveRock } from "@ale/rock/server";
import { describe, expect, it, onTestFinished, test, vi } from "vitest";
import { approvalsApi } from "../src/rock/approvals-api.ts";
import { ale, temporaryHome } from "./support.ts";

const request = (id: string): ApprovalRequest => ({
  id,
  episode: "ep_1",
  chunk: 3,
  callId: "call_3",
  rule: "destructive-command",
  what: "$ rm -rf /etc <b>",
});

/** A server of a home of its own, with the store of that home. */
async function served(options: { readonly trustLocal?: { readonly tenant: string } } = {}) {
  const home = await temporaryHome();
  const store = new ApprovalStore(join(home, "approvals"), { timeoutMs: 60_000 });
  const server = await serveRock({ home, port: 0, plugins: [approvalsApi(store)], ...options });
  onTestFinished(() => server.close());
  const local = findServer(home)!.token!;
  const call = async (method: string, path: string, body?: unknown, token: string | null = local) => {
    const headers: Record<string, string> = {
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    };
    const sent = body === undefined ? {} : { body: JSON.stringify(body) };
    const answer = await fetch(`${server.url}${path}`, { method, headers, ...sent });
    // biome-ignore lint/suspicious/noExplicitAny: what came over the wire is what a test looks at
    const read: any = await answer.json();
    return { status: answer.status, type: answer.headers.get("content-type"), body: read };
  };
  return { home, store, server, local, call };
}

describe("approvals over HTTP", () => {
  it("lists what waits, lets it be answered, and names the token in the answer", async () => {
    const { store, server, call } = await served();
    expect(await call("GET", "/v1/approvals")).toMatchObject({ status: 200, body: { approvals: [] } });
    const asked = store.ask(request("ap_1"));
    const listed = await call("GET", "/v1/approvals");
    expect(listed.body).toEqual({
      approvals: [{ ...request("ap_1"), askedAt: expect.any(Number), leftMs: expect.any(Number) }],
    });
    const { id, token } = server.tokens.create({ tenant: "ops", scopes: ["admin"] });
    const given = { granted: true, reason: "a copy" };
    const answer = { ...given, by: `token:${id}` };
    expect(await call("POST", "/v1/approvals/ap_1", given, token)).toMatchObject({
      status: 200,
      body: { id: "ap_1", state: "answered", answer },
    });
    expect(await asked).toEqual(answer);
    expect(await call("GET", "/v1/approvals/ap_1")).toMatchObject({ body: { state: "answered", answer } });
    expect(await call("GET", "/v1/approvals")).toMatchObject({ body: { approvals: [] } });
  });

  it("tells the second answer whose came first, wherever that was given", async () => {
    const { home, store, call } = await served();
    const asked = store.ask(request("ap_1"));
    await ale(home, "guard", "deny", "ap_1", "--reason", "no");
    const second = await call("POST", "/v1/approvals/ap_1", { granted: true });
    expect(second).toMatchObject({ status: 409, body: { code: "approval-over", next: expect.any(String) } });
    expect(second.body.detail).toMatch(/ap_1 was refused before, by user:/);
    expect(second.type).toContain("application/problem+json");
    expect(await asked).toMatchObject({ granted: false });

    const other = store.ask(request("ap_2"));
    await call("POST", "/v1/approvals/ap_2", { granted: false, reason: "not now" });
    expect(await other).toEqual({ granted: false, by: "token:local", reason: "not now" });
    expect((await ale(home, "guard", "approve", "ap_2")).stderr).toContain("refused before, by token:local");
  });

  it("counts one of many answers that come at once", async () => {
    const { store, call } = await served();
    const asked = store.ask(request("ap_1"));
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, n) => call("POST", "/v1/approvals/ap_1", { granted: n % 2 === 0 })),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([200, ...Array(11).fill(409)]);
    const counted = answers.find(({ status }) => status === 200)!;
    expect(counted.body.answer).toMatchObject(await asked);
  });

  it("says of one that nobody waits for, and of one that never was, what it is", async () => {
    const { store, call } = await served();
    const child = spawn(process.execPath, [
      join(import.meta.dirname, "../../guard/test/approvals/ask-forever.ts"),
      store.directory,
      "ap_1",
    ]);
    const ended = new Promise((resolve) => child.once("exit", resolve));
    await vi.waitFor(() => expect(store.pending()).toHaveLength(1), { timeout: 20_000 });
    child.kill("SIGKILL");
    await ended;
    expect(await call("POST", "/v1/approvals/ap_1", { granted: true })).toMatchObject({
      status: 410,
      body: { code: "approval-abandoned" },
    });
    expect(await call("GET", "/v1/approvals/ap_1")).toMatchObject({ body: { state: "abandoned" } });
    for (const path of ["/v1/approvals/ap_9", "/v1/approvals/..%2Fap_1"]) {
      const missing = { status: 404, body: { code: "approval-unknown" } };
      expect(await call("POST", path, { granted: true })).toMatchObject(missing);
      expect(await call("GET", path)).toMatchObject(missing);
    }
  });

  it.each([
    {},
    { granted: "yes" },
    { granted: true, by: "user:eve" },
    { granted: true, reason: "x".repeat(2_001) },
  ])("refuses the answer %j", async (body) => {
    const { store, call } = await served();
    const over = new AbortController();
    const asked = store.ask(request("ap_1"), over.signal);
    expect(await call("POST", "/v1/approvals/ap_1", body)).toMatchObject({
      status: 400,
      body: { code: "request-invalid", issues: expect.any(Array) },
    });
    expect(store.pending()).toHaveLength(1);
    over.abort(new Error("over"));
    await expect(asked).rejects.toThrow("over");
  });

  it("is for administrators alone, and for nobody without a token", async () => {
    const { store, server, call } = await served({ trustLocal: { tenant: "me" } });
    const asked = store.ask(request("ap_1"));
    const scopes = SCOPES.filter((scope) => scope !== "admin");
    const { token } = server.tokens.create({ tenant: "t", scopes });
    const calls = [
      ["GET", "/v1/approvals", undefined],
      ["GET", "/v1/approvals/events", undefined],
      ["GET", "/v1/approvals/ap_1", undefined],
      ["POST", "/v1/approvals/ap_1", { granted: true }],
    ] as const;
    for (const [method, path, body] of calls) {
      expect(await call(method, path, body, token)).toMatchObject({
        status: 403,
        body: { code: "forbidden" },
      });
      expect(await call(method, path, body, "ale_wrong")).toMatchObject({ status: 401 });
    }
    const nobody = await call("POST", "/v1/approvals/ap_1", { granted: true }, null);
    expect(nobody).toMatchObject({
      status: 403,
      body: { code: "forbidden", detail: expect.stringContaining("nobody") },
    });
    expect(await call("POST", "/v1/approvals/ap_1", { granted: false })).toMatchObject({ status: 200 });
    await asked;
  });

  it("tells what happens while it happens, until its reader has gone or the server ends", async () => {
    const { store, server, local } = await served();
    const waits = store.ask(request("ap_1"));
    const headers = { authorization: `Bearer ${local}` };
    const stream = await fetch(`${server.url}/v1/approvals/events`, { headers });
    expect(stream.headers.get("content-type")).toContain("text/event-stream");
    let told = "";
    const reading = (async () => {
      for await (const part of stream.body!.pipeThrough(new TextDecoderStream())) told += part;
    })();
    await vi.waitFor(() => expect(told).toContain('event: asked\ndata: {"id":"ap_1"'));
    store.answer("ap_1", { granted: true, by: "user:ada" });
    await vi.waitFor(() => expect(told).toContain("event: over"));
    expect(told).toMatch(/data: \{"id":"ap_1","answer":\{"granted":true,"by":"user:ada","at":\d+\}\}/);
    await waits;
    await server.close();
    await reading.catch(() => {});
  });

  it("is written down in the server's audit", async () => {
    const { home, store, server, call } = await served();
    const asked = store.ask(request("ap_1"));
    await call("POST", "/v1/approvals/ap_1", { granted: true });
    await asked;
    await server.close();
    const directory = join(home, "rock", "audit");
    const lines = readdirSync(directory).map((name) => readFileSync(join(directory, name), "utf8"));
    expect(lines.join("")).toMatch(/"token":"local".*"method":"POST","route":"\/v1\/approvals\/:approvalId"/);
  });
});

test("the reference of the HTTP API is what the schemas say", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ale-reference-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const app = await describedApp(directory, [approvalsApi(new ApprovalStore(directory))]);
  onTestFinished(() => app.close());
  const document = openApiOf(app);
  for (const operations of Object.values(document.paths))
    for (const operation of Object.values(operations)) expect(operation.tags).toHaveLength(1);
  const path = join(import.meta.dirname, "../../../docs/reference/rock-api.md");
  // If this fails: node scripts/make-rock-reference.ts
  expect(readFileSync(path, "utf8")).toBe(referenceText(document));
});
