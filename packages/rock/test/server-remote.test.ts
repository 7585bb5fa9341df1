import { connect } from "node:net";
import { pack } from "tar-stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { connectRock, type RemoteSandbox, type RockClient } from "../src/client/index.ts";
import { type TestServer, testServer } from "./server-support.ts";
import { closeDriver, obstacle, spec, suite, until } from "./support.ts";

let server: TestServer;
let client: RockClient;
let box: RemoteSandbox;

async function whole(bytes: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of bytes) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function* pieces(total: number, size = 65_536): AsyncGenerator<Uint8Array> {
  for (let sent = 0; sent < total; sent += size)
    yield Buffer.alloc(Math.min(size, total - sent), sent & 0xff);
}

const valueIn = <T>(result: { ok: true; value: T } | { ok: false; error: unknown }): T => {
  if (result.ok) return result.value;
  throw new Error(JSON.stringify(result.error));
};

function tarOf(files: Readonly<Record<string, string>>): AsyncIterable<Uint8Array> {
  const tar = pack();
  for (const [name, content] of Object.entries(files)) tar.entry({ name }, content);
  tar.finalize();
  return tar as AsyncIterable<unknown> as AsyncIterable<Uint8Array>;
}

describe.skipIf(obstacle)(suite("a sandbox on a server"), () => {
  beforeAll(async () => {
    server = await testServer();
    client = connectRock({ url: server.server.url, token: server.token });
    box = await client.driver.create(
      spec({ limits: { diskBytes: 256 * 2 ** 20, memoryBytes: 512 * 2 ** 20 } }),
    );
  });
  afterAll(async () => {
    await client.close();
    await server[Symbol.asyncDispose]();
    await closeDriver();
  });

  test("files are written, read, listed, moved and removed as in a local one", async () => {
    const { files } = box;
    expect(await files.write("/work/a/b.txt", "hällo")).toEqual({ ok: true, value: { bytes: 6 } });
    expect(Buffer.from(valueIn(await files.read("/work/a/b.txt"))).toString()).toBe("hällo");
    expect(Buffer.from(valueIn(await files.read("/work/a/b.txt", { offset: 4 }))).toString()).toBe("lo");
    expect(Buffer.from(valueIn(await files.read("/work/a/b.txt", { offset: 1, length: 2 }))).toString()).toBe(
      "ä",
    );
    expect(valueIn(await files.read("/work/a/b.txt", { offset: 99 }))).toHaveLength(0);
    expect(await files.read("/work/a/b.txt", { maxBytes: 3 })).toMatchObject({
      ok: false,
      error: { type: "too-large", path: "/work/a/b.txt" },
    });
    valueIn(await files.write("/work/a/b.txt", "!", { append: true }));
    expect(valueIn(await files.stat("/work/a/b.txt"))).toMatchObject({ type: "file", size: 7, mode: 0o644 });
    valueIn(await files.makeDirectory("/work/c/d"));
    valueIn(await files.move("/work/a/b.txt", "/work/c/d/e.txt"));
    valueIn(await files.changeMode("/work/c/d/e.txt", 0o600));
    const { entries } = valueIn(await files.list("/work/c", { recursive: true }));
    expect(entries.map(({ path, mode }) => [path, mode & 0o777])).toContainEqual(["/work/c/d/e.txt", 0o600]);
    expect(await files.remove("/work/c")).toMatchObject({ ok: false, error: { type: "not-empty" } });
    valueIn(await files.remove("/work/c", { recursive: true }));
    expect(await files.stat("/work/c")).toMatchObject({ ok: false, error: { type: "not-found" } });
  });

  test("large files pass as streams in both directions", async () => {
    const total = 48 * 2 ** 20;
    expect(valueIn(await box.files.write("/work/big", pieces(total))).bytes).toBe(total);
    const sum = await box.exec({
      argv: ["sh", "-c", "stat -c %s /work/big; ls -a /work | grep -c ale-upload"],
    });
    expect(sum.stdout).toBe(`${total}\n0\n`);
    let read = 0;
    for await (const chunk of valueIn(await box.files.readStream("/work/big"))) read += chunk.length;
    expect(read).toBe(total);
    valueIn(await box.files.remove("/work/big"));
  });

  test("an upload that breaks off leaves the file as it was, and nothing beside it", async () => {
    valueIn(await box.files.write("/work/kept", "before"));
    const { port, hostname } = new URL(server.server.url);
    const socket = connect(Number(port), hostname);
    socket.write(
      `PUT /v1/sandboxes/${box.id}/files/content?path=/work/kept HTTP/1.1\r\nHost: ${hostname}\r\nAuthorization: Bearer ${server.token}\r\nContent-Type: application/octet-stream\r\nContent-Length: 90000000\r\n\r\n`,
    );
    socket.write(Buffer.alloc(8 * 2 ** 20));
    const beside = async (): Promise<string> =>
      (await box.exec({ argv: ["sh", "-c", "ls -a /work | grep ale-upload"] })).stdout;
    for (let tries = 0; (await beside()) === "" && tries < 200; tries++);
    expect(await beside()).not.toBe("");
    socket.destroy();
    for (let tries = 0; (await beside()) !== "" && tries < 200; tries++);
    expect(await beside()).toBe("");
    expect(Buffer.from(valueIn(await box.files.read("/work/kept"))).toString()).toBe("before");
  });

  test("an upload to where nothing can be written is refused while it is sent", async () => {
    const written = await box.files.write("/proc/nope/x", pieces(64 * 2 ** 20));
    expect(written.ok).toBe(false);
  });

  test("a full disk is said to be full", async () => {
    await using small = await client.driver.create(spec({ limits: { diskBytes: 16 * 2 ** 20 } }));
    const written = await small.files.write("/work/big", pieces(32 * 2 ** 20));
    expect(written).toMatchObject({ ok: false, error: { type: "disk-full" } });
    const left = await small.exec({ argv: ["sh", "-c", "ls -a /work | grep -c ale-upload"] });
    expect(left.stdout).toBe("0\n");
  });

  test("tars go in and out, and one that climbs out is refused", async () => {
    const tar = tarOf({ "dir/one.txt": "1", "dir/two.txt": "2" });
    expect(valueIn(await box.files.upload("/work/in", tar)).entries).toBeGreaterThanOrEqual(2);
    expect((await box.exec({ argv: ["cat", "/work/in/dir/one.txt", "/work/in/dir/two.txt"] })).stdout).toBe(
      "12",
    );
    const back = await whole(valueIn(await box.files.download("/work/in/dir")));
    expect(back.includes("one.txt")).toBe(true);
    const slip = tarOf({ "../../../../etc/slipped": "x" });
    expect(await box.files.upload("/work/in", slip)).toMatchObject({
      ok: false,
      error: { type: "bad-archive" },
    });
  });

  test("small files and fingerprints go through untouched by links", async () => {
    const path = "/work/planted";
    valueIn(await box.writeFiles([{ path, content: "p", mode: 0o600, owner: "root" }]));
    await box.exec({ argv: ["ln", "-sf", "/etc/passwd", "/work/link"] });
    expect(await box.readFile("/work/link")).toMatchObject({ ok: false });
    expect(Buffer.from(valueIn(await box.readFile(path))).toString()).toBe("p");
    expect(await box.fingerprint([path, "/work/none"])).toMatchObject([
      { path, exists: true, size: 1, mode: 0o600 },
      { exists: false, sha256: null },
    ]);
  });

  test("changes are watched", async () => {
    const leaving = new AbortController();
    const seen: string[] = [];
    const watching = (async () => {
      for await (const { type, path } of box.files.watch("/work", { recursive: true }, leaving.signal))
        seen.push(`${type} ${path}`);
    })();
    for (let tries = 0; tries < 100 && seen.length === 0; tries++)
      await box.exec({ argv: ["sh", "-c", `echo ${tries} > /work/watched`] });
    expect(seen[0]).toMatch(/(created|changed) \/work\/watched/);
    leaving.abort();
    await watching;
  });

  test("shells keep their state, apart from each other, and tell output as it comes", async () => {
    await box.shell.run("cd /tmp; X=1");
    const other = await box.openSession({ env: { Y: "2" } });
    expect((await box.shell.run("pwd; echo $X$Y")).output).toBe("/tmp\n1\n");
    expect((await other.run("pwd; echo $X$Y")).output).toBe("/work\n2\n");
    const heard: string[] = [];
    const onOutput = (chunk: Uint8Array): void => void heard.push(Buffer.from(chunk).toString());
    const slow = other.run("echo first; sleep 1000; echo never", { onOutput });
    await until("the first line is heard", () => heard.join("") === "first\n");
    await other.interrupt();
    expect(await slow).toMatchObject({ interrupted: true, output: "first\n" });
    await other.close();
    await other.close();
    await expect(other.run("true")).rejects.toMatchObject({ code: "session-unknown" });
  });

  test("a terminal is a login shell of the size that was asked for", async () => {
    const terminal = await box.terminal({ cols: 111, rows: 33 });
    await terminal.write("stty size; exit 5\n");
    const screen = await whole(terminal.stdout);
    await whole(terminal.stderr);
    expect(screen.toString()).toContain("33 111");
    expect((await terminal.exit).exitCode).toBe(5);
  });

  test("a port is reached as TCP and as HTTP, and what would act in a browser is kept back", async () => {
    const answer = [
      "HTTP/1.1 200 OK",
      "Set-Cookie: a=b",
      "Strict-Transport-Security: max-age=1",
      "Access-Control-Allow-Origin: *",
      "X-Own: yes",
      "Content-Type: text/html",
      "Connection: close",
      "",
      "",
    ].join("\\r\\n");
    // Tells the request's headers back as the body.
    const serve = `use IO::Socket::INET; $|=1; my $s = IO::Socket::INET->new(LocalAddr=>"127.0.0.1", LocalPort=>8000, Listen=>8, ReuseAddr=>1) or die $!; print "up\\n"; while (my $c = $s->accept) { my $h = ""; while (my $l = <$c>) { last if $l =~ /^\\r?$/; $h .= $l } print $c "${answer}".$h; close $c }`;
    const program = await box.start({ argv: ["perl", "-e", serve] });
    const up = await program.stdout[Symbol.asyncIterator]().next();
    expect(Buffer.from(up.value!).toString()).toBe("up\n");
    const connection = await box.connect(8000);
    connection.write("GET /raw HTTP/1.1\r\nA: b\r\n\r\n");
    expect((await whole(connection)).toString()).toContain("GET /raw HTTP/1.1");
    const path = `/v1/sandboxes/${box.id}/ports/8000/http/some/path?q=1`;
    const proxied = await server.call("GET", path, undefined, { headers: { cookie: "c=d", "x-mine": "1" } });
    expect(proxied.status).toBe(200);
    expect(proxied.text).toContain("GET /some/path?q=1 HTTP/1.1");
    expect(proxied.text).toMatch(/x-mine: 1/i);
    expect(proxied.text).not.toMatch(/ale_|authorization|cookie/i);
    expect(proxied.headers.get("x-own")).toBe("yes");
    for (const kept of ["set-cookie", "strict-transport-security", "access-control-allow-origin"])
      expect(proxied.headers.get(kept), kept).toBeNull();
    expect(proxied.headers.get("content-security-policy")).toContain("sandbox");
    await program.signal("SIGKILL");
    const closed = await server.call("GET", path);
    expect(closed).toMatchObject({ status: 502, body: { code: "connect-failed" } });
    await expect(box.connect(8001)).rejects.toMatchObject({ code: "connect-failed" });
  });

  test("a snapshot is forked, compared and gone back to, and is its tenant's alone", async () => {
    await using source = await client.driver.create(spec());
    await source.exec({ argv: ["sh", "-c", "echo one > /work/file"] });
    const { snapshot } = await source.snapshot({ labels: { at: "one" } });
    expect(snapshot).toMatchObject({ sandbox: source.id, labels: { at: "one" } });
    await source.exec({ argv: ["sh", "-c", "echo two > /work/file"] });
    const later = (await source.snapshot()).snapshot;
    const forks = await client.driver.snapshots.fork(snapshot.id, 2, { labels: { fork: "yes" } });
    for (const fork of forks) expect((await fork.exec({ argv: ["cat", "/work/file"] })).stdout).toBe("one\n");
    expect(forks[0]!.spec).toMatchObject({ limits: source.spec.limits, labels: { at: "one", fork: "yes" } });
    const diff = await client.driver.snapshots.diff(snapshot.id, later.id);
    expect(diff).toMatchObject([{ path: "/work/file", change: "changed" }]);
    await source.revert(snapshot.id);
    expect((await source.exec({ argv: ["cat", "/work/file"] })).stdout).toBe("one\n");
    const scopes = ["sandbox:read", "sandbox:write", "files"] as const;
    const { token } = server.server.tokens.create({ tenant: "other", scopes });
    for (const [method, path, body] of [
      ["GET", `/v1/snapshots/${snapshot.id}`],
      ["DELETE", `/v1/snapshots/${snapshot.id}`],
      ["POST", `/v1/snapshots/${snapshot.id}/forks`, {}],
      ["GET", `/v1/diff?to=${snapshot.id}`],
    ] as const)
      expect(await server.call(method, path, body, { token })).toMatchObject({
        status: 404,
        body: { code: "snapshot-unknown" },
      });
    expect((await server.call("GET", "/v1/snapshots", undefined, { token })).body.snapshots).toEqual([]);
    await Promise.all(forks.map((fork) => fork.destroy()));
    expect(await client.driver.snapshots.get("nothing")).toBeUndefined();
  });

  test("another tenant's WebSocket is refused, with the reason", async () => {
    const { token } = server.server.tokens.create({ tenant: "other", scopes: ["admin"] });
    await using stranger = connectRock({ url: server.server.url, token });
    await expect(stranger.driver.attach(box.id)).rejects.toMatchObject({ code: "sandbox-unknown" });
    for (const path of ["exec/stream", "terminal", "ports/80/relay"]) {
      const url = `${server.server.url.replace("http", "ws")}/v1/sandboxes/${box.id}/${path}`;
      const socket = new WebSocket(url, { headers: { authorization: `Bearer ${token}` } });
      const status = await new Promise((resolve) => {
        socket.once("error", () => undefined);
        socket.once("open", () => resolve("open"));
        socket.once("unexpected-response", (_request, answer) => {
          answer.resume();
          resolve(answer.statusCode);
        });
      });
      expect(status, path).toBe(404);
    }
  });
});
