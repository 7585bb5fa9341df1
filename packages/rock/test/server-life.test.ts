import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { connectLocal, connectRock } from "../src/client/index.ts";
import { mount, unmount } from "../src/host/native.ts";
import { type AuditEntry, AuditLog, findServer, serveFile, serveRock } from "../src/server/index.ts";
import { created, type TestServer, testServer } from "./server-support.ts";
import { closeDriver, driver, freshHome, obstacle, suite, traces, until } from "./support.ts";

interface ServerProcess extends Disposable {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
}

async function serverProcess(home: string): Promise<ServerProcess> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "server-process.ts"), home], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  await new Promise<void>((resolve, reject) => {
    child.stdout!.once("data", () => resolve());
    child.once("exit", () => reject(new Error("the server ended before it served")));
  });
  return { child, ended, [Symbol.dispose]: () => void child.kill("SIGKILL") };
}

function auditOf({ home }: TestServer): AuditEntry[] {
  const directory = join(home, "rock", "audit");
  return readdirSync(directory)
    .flatMap((name) => readFileSync(join(directory, name), "utf8").trim().split("\n"))
    .map((line) => JSON.parse(line) as AuditEntry);
}

/** Traces of sandboxes. The place where a home keeps them is a mount of its own, and stays. */
const leftOf = (home: string, ids: readonly string[]): string[] =>
  traces(home, ids).filter(
    (trace) => !trace.startsWith("directory ") && !trace.includes(` ${home}/rock/durable-server rw`),
  );

describe.skipIf(obstacle)(suite("a server's life"), () => {
  afterAll(closeDriver);

  test("serve.json says where it is, to its user alone, and goes with it", async () => {
    const server = await testServer();
    const path = serveFile(server.home);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(findServer(server.home)).toMatchObject({ url: server.server.url, owner: { pid: process.pid } });
    await using local = connectLocal(server.home);
    expect(await local.sandboxes.list()).toEqual([]);
    await server.server.close();
    expect(existsSync(path)).toBe(false);
    await server[Symbol.asyncDispose]();
  });

  test("a second server on the same home is refused, naming the first", async () => {
    await using server = await testServer();
    const second = serveRock({ home: server.home, port: 0, driver: await driver() });
    await expect(second).rejects.toMatchObject({
      code: "already-served",
      message: expect.stringContaining(`process ${process.pid}`),
    });
    expect(findServer(server.home)).toBeDefined();
  });

  test("a port that is in use is named, and nothing is left", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as { port: number };
    using home = await freshHome();
    const served = serveRock({ home: home.path, port, driver: await driver() });
    await expect(served).rejects.toMatchObject({
      code: "port-in-use",
      message: expect.stringContaining(String(port)),
    });
    expect(findServer(home.path)).toBeUndefined();
    other.close();
  });

  test("an address that is not of this machine is refused", async () => {
    await expect(testServer({ host: "203.0.113.9", insecureHttp: true })).rejects.toMatchObject({
      code: "bind-refused",
    });
  });

  test("the first token is made once", async () => {
    using home = await freshHome();
    const first = await serveRock({ home: home.path, port: 0, driver: await driver() });
    const token = first.firstToken!;
    await first.close();
    await using second = await serveRock({ home: home.path, port: 0, driver: await driver() });
    expect(second.firstToken).toBeUndefined();
    const headers = { authorization: `Bearer ${token}` };
    expect((await fetch(`${second.url}/v1/sandboxes`, { headers })).status).toBe(200);
  });

  test("every call is in the audit, with who and what, and nothing of its contents", async () => {
    await using server = await testServer();
    const secret = "hunter2-secret";
    const id = await created(server, { env: { PASSWORD: secret } });
    const argv = ["echo", secret];
    await server.call("POST", `/v1/sandboxes/${id}/exec`, { argv, stdin: secret });
    await server.call("GET", "/v1/sandboxes", undefined, { token: "ale_wrong" });
    await server.call("GET", `/v1/nothing/${secret}`);
    const client = connectRock({ url: server.server.url, token: server.token });
    await using box = await client.driver.attach(id);
    const program = await box.start({ argv: ["cat"], stdin: true });
    await program.write(secret);
    await program.closeStdin();
    for await (const _ of program.stdout);
    for await (const _ of program.stderr);
    await program.exit;
    await until("the stream is in the audit", () => auditOf(server).some(({ status }) => status === 101));
    const entries = auditOf(server);
    expect(JSON.stringify(entries)).not.toContain(secret);
    const digest = createHash("sha256").update(argv.join("\0")).digest("hex");
    expect(entries.find(({ route }) => route === "/v1/sandboxes/:sandboxId/exec")).toMatchObject({
      tenant: "local",
      token: "local",
      method: "POST",
      sandbox: id,
      status: 200,
      argv: digest,
      remote: "127.0.0.1",
    });
    expect(entries.find(({ route }) => route.endsWith("/exec/stream"))).toMatchObject({
      status: 101,
      sandbox: id,
    });
    expect(entries.find(({ status }) => status === 401)).toMatchObject({ tenant: null, token: null });
    expect(entries.every(({ ms, bytesIn, bytesOut }) => ms >= 0 && bytesIn > 0 && bytesOut >= 0)).toBe(true);
    await client.close();
  });

  test("while the audit cannot be written, nothing that changes is served; reading is", async () => {
    await using server = await testServer();
    const directory = join(server.home, "rock", "audit");
    rmSync(directory, { recursive: true, force: true });
    writeFileSync(directory, "");
    // The day's file is still open; only a fresh one shows that the directory is gone.
    server.server.audit.close();
    await server.call("GET", "/v1/sandboxes");
    const refused = await server.call("POST", "/v1/sandboxes", {});
    expect(refused).toMatchObject({ status: 503, body: { code: "audit-unwritable" } });
    expect((await server.call("GET", "/v1/health")).body).toMatchObject({ status: "degraded", audit: false });
    rmSync(directory);
    mkdirSync(directory);
    expect(await created(server)).toMatch(/^sb-/);
    const routes = auditOf(server).map(({ method, status }) => `${method} ${status}`);
    expect(routes).toContain("POST 503");
  });

  test("on a full disk what makes room is served, and in the audit once there is room", async () => {
    using home = await freshHome();
    const rock = join(home.path, "rock");
    mkdirSync(rock);
    mount({ type: "tmpfs", source: "ale", target: rock, flags: 0, data: "size=8m" });
    using _ = { [Symbol.dispose]: () => void unmount(rock) };
    await using server = await serveRock({ home: home.path, port: 0 });
    await using client = connectLocal(home.path);
    const wanted = { image: "ale/base", limits: { memoryBytes: 64 * 2 ** 20, diskBytes: 2 * 2 ** 20 } };
    const box = await client.sandboxes.create(wanted);
    const { snapshot } = await box.snapshot();
    const [day] = readdirSync(join(rock, "audit"));
    const fill = openSync(join(rock, "fill"), "w");
    for (const bytes of [4096, 1])
      expect(() => {
        for (;;) writeSync(fill, Buffer.alloc(bytes));
      }).toThrow("ENOSPC");
    // Until the audit's own last page is full as well.
    for (let calls = 0; server.audit.healthy && calls < 100; calls++) await client.sandboxes.list();
    await expect(client.sandboxes.create(wanted)).rejects.toMatchObject({
      code: "audit-unwritable",
    });
    await client.driver.snapshots.remove(snapshot.id);
    await client.sandboxes.delete(box.id);
    expect((await client.sandboxes.get(box.id)).state).toBe("deleted");
    unlinkSync(join(rock, "fill"));
    expect(server.audit.probe()).toBe(true);
    const entries = readFileSync(join(rock, "audit", day!), "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as AuditEntry);
    const removed = entries
      .filter(({ method }) => method === "DELETE")
      .map(({ route, status }) => `${route} ${status}`);
    expect(removed).toEqual(["/v1/snapshots/:snapshotId 204", "/v1/sandboxes/:sandboxId 200"]);
    closeSync(fill);
  });

  test("a line of the audit that a crash tore stays alone", async () => {
    using home = await freshHome();
    const day = new Date().toISOString().slice(0, 10);
    const file = join(home.path, `${day}.jsonl`);
    mkdirSync(home.path, { recursive: true });
    writeFileSync(file, '{"time":"2026');
    const audit = new AuditLog(home.path);
    expect(audit.probe()).toBe(true);
    audit.close();
    expect(readFileSync(file, "utf8")).toBe('{"time":"2026\n');
  });

  test("a sandbox is stopped, keeps its files and shell, and goes on", async () => {
    using home = await freshHome();
    await using server = await serveRock({ home: home.path, port: 0 });
    await using client = connectLocal(home.path);
    const box = await client.sandboxes.create({ image: "ale/base", workdir: "/work" });
    await box.shell.run("echo kept > /work/file; cd /tmp");
    expect((await client.sandboxes.stop(box.id)).state).toBe("stopped");
    expect(await box.ended).toBe("stopped");
    await expect(box.exec({ argv: ["true"] })).rejects.toMatchObject({
      code: "sandbox-not-running",
      next: "restart it",
    });
    expect(await box.files.read("/work/file")).toMatchObject({ ok: false, error: { type: "sandbox-gone" } });
    const again = await client.sandboxes.restart(box.id);
    expect(again.id).toBe(box.id);
    expect((await again.shell.run("pwd; cat /work/file")).output).toBe("/tmp\nkept\n");
    expect((await client.sandboxes.restart(box.id)).id).toBe(box.id);
    const view = await client.sandboxes.get(box.id);
    expect(view.history.map(({ to }) => to)).toEqual(["pending", "running", "stopped", "pending", "running"]);
    await again.destroy();
    await again.destroy();
    expect(server.service.usage("local").sandboxes).toBe(0);
  });

  test("one that is to be deleted when it stops is", async () => {
    using home = await freshHome();
    await using _server = await serveRock({ home: home.path, port: 0 });
    await using client = connectLocal(home.path);
    const box = await client.sandboxes.create({ image: "ale/base", deleteAfterStopMs: 0 });
    await client.sandboxes.stop(box.id);
    const path = `/sandboxes/${box.id}`;
    const view = await client.call<{ state: string }>({ method: "GET", path, query: { waitFor: "deleted" } });
    expect(view.state).toBe("deleted");
  });

  test("killed and started again, it has its sandboxes stopped with their files, its snapshots and tokens", async () => {
    using home = await freshHome();
    const before = await serverProcess(home.path);
    const first = connectLocal(home.path);
    const box = await first.sandboxes.create({ image: "ale/base", workdir: "/work", labels: { run: "7" } });
    await box.shell.run("echo kept > /work/file; (setsid sleep 1000 &)");
    const { snapshot } = await box.snapshot({ labels: { at: "one" } });
    const [fork] = await first.driver.snapshots.fork(snapshot.id, 1);
    await fork!.exec({ argv: ["sh", "-c", "echo fork > /work/file"] });
    const stopped = await first.sandboxes.create({ image: "ale/base", id: "was-stopped" });
    await first.sandboxes.stop(stopped.id);
    const token = await first.call<{ token: string }>({
      method: "POST",
      path: "/tokens",
      json: { tenant: "other", scopes: ["sandbox:read"] },
    });
    before.child.kill("SIGKILL");
    await before.ended;
    await first.close().catch(() => undefined);

    using after = await serverProcess(home.path);
    await using client = connectLocal(home.path);
    const views = await client.sandboxes.list();
    const ids = [box.id, fork!.id, stopped.id];
    expect(views.map(({ id, state }) => [id, state]).sort()).toEqual(ids.map((id) => [id, "stopped"]).sort());
    expect(views.find(({ id }) => id === box.id)).toMatchObject({ endReason: "lost", labels: { run: "7" } });
    const url = findServer(home.path)!.url!;
    const strange = await fetch(`${url}/v1/sandboxes`, {
      headers: { authorization: `Bearer ${token.token}` },
    });
    expect(await strange.json()).toEqual({ sandboxes: [] });
    const revived = await Promise.all(ids.map((id) => client.sandboxes.restart(id)));
    expect((await revived[0]!.exec({ argv: ["cat", "/work/file"] })).stdout).toBe("kept\n");
    expect((await revived[1]!.exec({ argv: ["cat", "/work/file"] })).stdout).toBe("fork\n");
    const [late] = await client.driver.snapshots.fork(snapshot.id, 1);
    expect((await late!.exec({ argv: ["cat", "/work/file"] })).stdout).toBe("kept\n");
    await Promise.all([...revived, late!].map((sandbox) => sandbox.destroy()));
    await client.driver.snapshots.remove(snapshot.id);
    after.child.kill("SIGTERM");
    expect(await after.ended).toBe(0);
    expect(leftOf(home.path, ids)).toEqual([]);
  });

  test("killed while it makes sandboxes, it leaves none half made", async () => {
    using home = await freshHome();
    const before = await serverProcess(home.path);
    const first = connectLocal(home.path);
    const making = Array.from({ length: 8 }, (_, index) =>
      first.sandboxes.create({ image: "ale/base", id: `half-${index}` }).catch(() => undefined),
    );
    await Promise.any(making);
    before.child.kill("SIGKILL");
    await before.ended;
    await Promise.all(making);
    await first.close().catch(() => undefined);

    using after = await serverProcess(home.path);
    await using client = connectLocal(home.path);
    const views = await client.sandboxes.list({
      states: ["pending", "running", "stopped", "failed", "deleted"],
    });
    expect(views.length).toBeGreaterThan(0);
    expect(views.every(({ state }) => state === "stopped" || state === "deleted")).toBe(true);
    await Promise.all(views.map(({ id }) => client.sandboxes.delete(id)));
    after.child.kill("SIGTERM");
    expect(await after.ended).toBe(0);
    const ids = views.map(({ id }) => id);
    expect(leftOf(home.path, ids)).toEqual([]);
  });

  test("told to end, it ends streams and sandboxes and leaves no trace", async () => {
    using home = await freshHome();
    using server = await serverProcess(home.path);
    const client = connectLocal(home.path);
    const box = await client.sandboxes.create({ image: "ale/base" });
    const program = await box.start({ argv: ["sleep", "1000"] });
    const output = (async () => {
      for await (const _ of program.stdout);
      for await (const _ of program.stderr);
    })();
    server.child.kill("SIGTERM");
    expect(await server.ended).toBe(0);
    await output;
    expect((await program.exit).exitCode).toBeNull();
    expect(findServer(home.path)).toBeUndefined();
    // Its files are kept; nothing runs.
    expect(traces(home.path, [box.id]).filter((trace) => /^(process|cgroup)/.test(trace))).toEqual([]);
    await client.close().catch(() => undefined);
  });
});
