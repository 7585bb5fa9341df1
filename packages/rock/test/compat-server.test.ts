import { connect as dial } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { Sandbox } from "../src/index.ts";
import { BASE_IMAGE } from "../src/index.ts";
import { type CompatServer, call, compatServer } from "./compat-support.ts";
import { closeDriver, driver, obstacle, suite } from "./support.ts";

const API = "/apis/envs/sandbox/v1";
const SMALL = { image: BASE_IMAGE, memory: "256m", disk: "64m", cpus: 1 };

interface Body {
  readonly status?: string;
  readonly error?: string;
  readonly detail?: string;
  // biome-ignore lint/suspicious/noExplicitAny: answers of foreign forms, looked into field by field
  readonly result?: any;
}

describe.skipIf(obstacle)(suite("the compatible APIs"), () => {
  let server: CompatServer;
  beforeAll(async () => {
    server = await compatServer({ driver: await driver() });
  });
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
    await closeDriver();
  });

  const rock = async (path: string, body?: unknown, token?: string | null): Promise<Body> =>
    (await call(server.url, `${API}${path}`, body, token)).body as Body;

  async function running(): Promise<{ readonly id: string; readonly sandbox: Sandbox } & AsyncDisposable> {
    const { result } = await rock("/start", SMALL);
    const id = result.sandbox_id as string;
    const sandbox = await server.service.use("a", id);
    return { id, sandbox, [Symbol.asyncDispose]: async () => void (await server.service.delete("a", id)) };
  }

  describe("ROCK", () => {
    test("start waits until it runs, or says why it never will", async () => {
      await using box = await running();
      expect((await rock(`/is_alive?sandbox_id=${box.id}`)).result.is_alive).toBe(true);
      const failed = await rock("/start", { ...SMALL, image: "no/such:image" });
      expect(failed).toMatchObject({ status: "Failed", result: { code: 4000 } });
    });

    test("flags of a query are read however they are written", async () => {
      await using box = await running();
      for (const flag of ["True", "true", "False", "false"]) {
        const path = `/get_status?sandbox_id=${box.id}&include_all_states=${flag}`;
        expect((await rock(path)).result.is_alive).toBe(true);
      }
    });

    test("a sandbox is another tenant's secret on every route", async () => {
      await using box = await running();
      const id = box.id;
      const calls: [string, unknown?][] = [
        [`/get_status?sandbox_id=${id}&include_all_states=true`],
        [`/get_sandbox_statistics?sandbox_id=${id}`],
        ["/execute", { sandbox_id: id, command: ["id"] }],
        ["/create_session", { sandbox_id: id }],
        ["/run_in_session", { sandbox_id: id, command: "id" }],
        ["/read_file", { sandbox_id: id, path: "/etc/passwd" }],
        ["/write_file", { sandbox_id: id, path: "/x", content: "x" }],
        ["/stop", { sandbox_id: id }],
        ["/restart", { sandbox_id: id }],
        [`/sandboxes/${id}/restart`, {}],
        [`/sandboxes/${id}/archive`, {}],
        ["/commit", { sandbox_id: id, image_tag: "x:1" }],
        [`/commit/${id}`],
        [`/sandboxes/${id}/mount-infos`],
      ];
      for (const [path, body] of calls) {
        expect(await rock(path, body, "t-b"), path).toMatchObject({ status: "Failed" });
        expect(await rock(path, body, null), path).toMatchObject({ title: "unauthorized" });
      }
      expect((await rock(`/is_alive?sandbox_id=${id}`, undefined, "t-b")).result.is_alive).toBe(false);
      expect((await rock("/sandboxes", undefined, "t-b")).result.total).toBe(0);
      expect((await rock("/sandboxes/batch", { sandbox_ids: [id] }, "t-b")).result.statuses).toEqual([]);
      const proxied = await call(server.url, `${API}/sandboxes/${id}/proxy/`, undefined, "t-b");
      expect(proxied.status).toBe(404);
      expect((await rock(`/is_alive?sandbox_id=${id}`)).result.is_alive).toBe(true);
    });

    test("bodies that are none, and half an upload, leave everything as it was", async () => {
      await using box = await running();
      const send = async (path: string, body: string, type: string): Promise<Response> =>
        fetch(`${server.url}${API}${path}`, {
          method: "POST",
          body,
          headers: { authorization: "Bearer t-a", "content-type": type },
        });
      expect((await send("/execute", "{", "application/json")).status).toBe(400);
      expect(((await (await send("/execute", "[]", "application/json")).json()) as Body).status).toBe(
        "Failed",
      );
      const noFile = await send("/upload", '{"target_path":"/x"}', "application/json");
      expect(((await noFile.json()) as Body).error).toContain("a file is needed");
      const form = new FormData();
      form.append("file", new Blob(["x"]), "x");
      form.append("target_path", "/x");
      const late = await fetch(`${server.url}${API}/upload`, {
        method: "POST",
        body: form,
        headers: { authorization: "Bearer t-a" },
      });
      expect(((await late.json()) as Body).error).toContain("before the file");
      await halfUpload(server.url, box.id);
      expect((await box.sandbox.exec({ argv: ["true"] })).exitCode).toBe(0);
    });

    test("programs in a sandbox are reached as WebSocket frames, both ways", async () => {
      await using box = await running();
      await box.sandbox.start({ argv: ["perl", "-e", ECHO], user: "root" });
      await expect.poll(() => canConnect(box.sandbox)).toBe(true);
      const client = new WebSocket(
        `${server.url.replace("http", "ws")}${API}/sandboxes/${box.id}/portforward?port=7000`,
        { headers: { authorization: "Bearer t-a" } },
      );
      const got: Buffer[] = [];
      client.on("message", (data: Buffer) => got.push(data));
      await new Promise((resolve, reject) => client.once("open", resolve).once("error", reject));
      client.send(Buffer.from("hello"));
      await expect.poll(() => Buffer.concat(got).toString()).toBe("hello");
      client.close();
      expect(await refusal(`/sandboxes/${box.id}/portforward?port=22`)).toBe(1008);
      expect(await refusal(`/sandboxes/${box.id}/portforward?port=7999`)).toBe(1011);
      expect(await refusal(`/sandboxes/${box.id}/proxy/port/80/x`)).toBe(1008);
    });

    test("WebSockets of a program pass through the proxy, with their path and protocol", async () => {
      await using box = await running();
      await box.sandbox.start({ argv: ["perl", "-e", WEBSOCKET], user: "root" });
      await expect.poll(() => canConnect(box.sandbox)).toBe(true);
      const client = new WebSocket(
        `${server.url.replace("http", "ws")}${API}/sandboxes/${box.id}/proxy/port/7000/chat?x=1`,
        ["p1"],
        { headers: { authorization: "Bearer t-a" } },
      );
      const got: string[] = [];
      client.on("message", (data: Buffer) => got.push(data.toString()));
      await new Promise((resolve, reject) => client.once("open", resolve).once("error", reject));
      client.send("hello");
      await expect.poll(() => got).toEqual(["GET /chat?x=1 p1", "hello"]);
      client.close();
    });

    const refusal = (path: string): Promise<number> =>
      new Promise((resolve, reject) => {
        const client = new WebSocket(`${server.url.replace("http", "ws")}${API}${path}`, {
          headers: { authorization: "Bearer t-a" },
        });
        client.once("close", resolve).once("error", reject);
      });
  });

  describe("E2B", () => {
    const create = (body: object, token?: string): ReturnType<typeof call> =>
      call(server.url, "/sandboxes", body, token);

    test("creates, finds by metadata, shows and ends sandboxes with real HTTP codes", async () => {
      const metadata = { job: "j1", "ap-sandbox-id": "e2b-own-id" };
      const made = await create({ templateID: BASE_IMAGE, timeout: 61, metadata, envVars: { A: "1" } });
      expect(made).toEqual({
        status: 201,
        body: { sandboxID: "e2b-own-id", envdVersion: "0.1.0", clientID: "rock", templateID: BASE_IMAGE },
      });
      const sandbox = await server.service.use("a", "e2b-own-id");
      expect((await sandbox.exec({ argv: ["sh", "-c", "echo $A"] })).stdout).toBe("1\n");
      const shown = (await call(server.url, "/sandboxes/e2b-own-id")).body as Record<string, string>;
      expect(shown).toMatchObject({ state: "running", cpuCount: 2, memoryMB: 1024, metadata });
      expect(Date.parse(shown.endAt!) - Date.parse(shown.startedAt!)).toBe(120_000);
      const listed = async (query: string, token = "t-a"): Promise<unknown> =>
        (await call(server.url, `/v2/sandboxes?metadata=${encodeURIComponent(query)}`, undefined, token))
          .body;
      expect(await listed("job=j1")).toHaveLength(1);
      expect(await listed("job:j2")).toEqual([]);
      expect(await listed("job=j1", "t-b")).toEqual([]);
      expect((await call(server.url, "/sandboxes/e2b-own-id", undefined, "t-b")).status).toBe(404);
      const end = async (): Promise<number> =>
        (
          await fetch(`${server.url}/sandboxes/e2b-own-id`, {
            method: "DELETE",
            headers: { "x-api-key": "t-a" },
          })
        ).status;
      expect([await end(), await end()]).toEqual([204, 404]);
    });

    test.each([
      [{}, 400, "templateID"],
      [{ templateID: BASE_IMAGE, timeout: 0 }, 400, "timeout"],
      [{ templateID: BASE_IMAGE, timeout: 1.5 }, 400, "timeout"],
      [{ templateID: BASE_IMAGE, unheard: 1 }, 400, "unheard"],
      [{ templateID: BASE_IMAGE, allow_internet_access: true }, 403, "does not allow the network mode"],
      [{ templateID: "no/such:image" }, 404, "no/such:image"],
    ])("%j is refused with %d", async (body, status, text) => {
      const answer = await create(body);
      expect(answer.status).toBe(status);
      expect(answer.body).toMatchObject({ code: status, message: expect.stringContaining(text) });
    });
  });

  describe("calls without a token", () => {
    test("share a tenant of their own where the operator allows them, and see nothing else", async () => {
      await using open = await compatServer({ driver: await driver(), anonymous: true });
      const body = { ...SMALL, sandbox_id: "nobodys" };
      const made = (await call(open.url, `${API}/start`, body, null)).body as Body;
      expect(made.status).toBe("Success");
      const query = "/get_status?sandbox_id=nobodys";
      expect(((await call(open.url, `${API}${query}`, undefined, null)).body as Body).status).toBe("Success");
      const { id: _, labels: __, ...spec } = (await open.service.use("(anonymous)", "nobodys")).spec;
      await open.service.wait("a", open.service.create("a", { spec }).id);
      const listed = (await call(open.url, `${API}/sandboxes`, undefined, null)).body as Body;
      expect(listed.result.total).toBe(1);
    });
  });
});

const ECHO = `use strict; socket(my $s, 2, 1, 0); setsockopt($s, 1, 2, 1); bind($s, pack('S n N x8', 2, 7000, 0x7f000001)) or die; listen($s, 5);
while (accept(my $c, $s)) { while (sysread($c, my $x, 4096)) { syswrite($c, $x) } close $c }`;

/** Greets with the request line and the protocol, then sends every short frame back. */
const WEBSOCKET = `use strict; socket(my $s, 2, 1, 0); setsockopt($s, 1, 2, 1); bind($s, pack('S n N x8', 2, 7000, 0x7f000001)) or die; listen($s, 5);
while (accept(my $c, $s)) {
  my $head = ''; while ($head !~ /\\r\\n\\r\\n/) { sysread($c, $head, 1, length $head) or last }
  my ($key) = $head =~ /sec-websocket-key: (\\S+)/i or next; my ($line) = $head =~ /^(GET \\S+)/; my ($p) = $head =~ /sec-websocket-protocol: (\\S+)/i;
  my ($sha) = \`printf %s \${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11 | sha1sum\` =~ /^(\\w{40})/; my $accept = pack('u', pack('H*', $sha));
  my $pipe; open($pipe, '-|', 'sh', '-c', "perl -e 'print pack(q(H*), q($sha))' | base64"); chomp($accept = <$pipe>);
  syswrite($c, "HTTP/1.1 101 Switching Protocols\\r\\nupgrade: websocket\\r\\nconnection: upgrade\\r\\nsec-websocket-protocol: $p\\r\\nsec-websocket-accept: $accept\\r\\n\\r\\n");
  my $say = sub { syswrite($c, pack('CC', 0x81, length $_[0]) . $_[0]) }; $say->("$line $p");
  while (sysread($c, my $h, 2) == 2) { my ($op, $n) = unpack('CC', $h); $n &= 127; sysread($c, my $m, 4); my $x = ''; sysread($c, $x, $n) if $n;
    last if ($op & 15) == 8; $say->($x ^ substr($m x ($n / 4 + 1), 0, $n)) }
  close $c }`;

async function canConnect(sandbox: Sandbox): Promise<boolean> {
  try {
    (await sandbox.connect(7000)).destroy();
    return true;
  } catch {
    return false;
  }
}

/** A client that goes in the middle of its file. */
async function halfUpload(url: string, id: string): Promise<void> {
  const { hostname, port } = new URL(url);
  const socket = dial(Number(port), hostname);
  const field = (name: string, value: string): string =>
    `--b\r\ncontent-disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
  const body = `${field("target_path", "/root/half")}${field("sandbox_id", id)}--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n${"x".repeat(100_000)}`;
  socket.write(
    `POST ${API}/upload HTTP/1.1\r\nhost: ${hostname}\r\nauthorization: Bearer t-a\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 10000000\r\n\r\n${body}`,
  );
  await new Promise((resolve) => setTimeout(resolve, 100));
  socket.destroy();
}
