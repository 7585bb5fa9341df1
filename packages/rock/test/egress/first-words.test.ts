import { createServer } from "node:net";
import { connect } from "node:tls";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { firstWords } from "../../src/egress/first-words.ts";
import { readTlsHello } from "../../src/egress/tls-hello.ts";

const bytes = (text: string): Buffer => Buffer.from(text, "latin1");

/** The first message of a real TLS client. */
async function realHello(options: { servername?: string; ALPNProtocols?: string[] }): Promise<Buffer> {
  const heard = Promise.withResolvers<Buffer>();
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", (first) => {
      heard.resolve(first);
      socket.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const client = connect({ port, host: "127.0.0.1", rejectUnauthorized: false, ...options });
  client.on("error", () => {});
  const hello = await heard.promise;
  client.destroy();
  server.close();
  return hello;
}

/** A hello with one more extension. */
function withExtension(hello: Buffer, type: number, body: Buffer): Buffer {
  const whole = Buffer.concat([hello, u16(type), u16(body.length), body]);
  const more = 4 + body.length;
  let at = 5 + 4 + 2 + 32;
  at += 1 + whole[at]!;
  at += 2 + whole.readUInt16BE(at);
  at += 1 + whole[at]!;
  whole.writeUInt16BE(whole.readUInt16BE(at) + more, at);
  whole.writeUIntBE(whole.readUIntBE(6, 3) + more, 6, 3);
  whole.writeUInt16BE(whole.readUInt16BE(3) + more, 3);
  return whole;
}

const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255]);
const serverNames = (...names: string[]): Buffer => {
  const list = Buffer.concat(names.flatMap((name) => [Buffer.from([0]), u16(name.length), bytes(name)]));
  return Buffer.concat([u16(list.length), list]);
};

describe("the first words of a TLS client", () => {
  it("claim the name that it wants and how it would speak", async () => {
    const hello = await realHello({ servername: "Files.Test", ALPNProtocols: ["h2", "http/1.1"] });
    expect(firstWords(hello)).toMatchObject({
      class: "tls",
      undecided: false,
      claimed: "files.test",
      alpn: ["h2", "http/1.1"],
    });
  });

  it("claim nothing where it names nobody", async () => {
    expect(firstWords(await realHello({}))).toMatchObject({ class: "tls", claimed: null });
  });

  it.each([
    ["two names in two extensions", { servername: "files.test" }, 0, serverNames("evil.test")],
    ["two names in one", {}, 0, serverNames("files.test", "evil.test")],
    ["a name, and another one hidden", { servername: "files.test" }, 0xfe0d, Buffer.alloc(32)],
  ])("claim nothing where a server could take another name: %s", async (_how, options, type, body) => {
    const hello = await realHello(options);
    expect(firstWords(withExtension(hello, type, body))).toMatchObject({ class: "tls", claimed: null });
    // Where the one name alone counts.
    if (type === 0 && !("servername" in options))
      expect(firstWords(withExtension(hello, 0, serverNames("Files.Test")))).toMatchObject({
        claimed: "files.test",
      });
  });

  it("are undecided until all of them are there, however they are cut", async () => {
    const hello = await realHello({ servername: "files.test" });
    for (let cut = 1; cut < hello.length; cut++)
      expect(firstWords(hello.subarray(0, cut)), `cut at ${cut}`).toMatchObject({
        class: "tls",
        undecided: true,
      });
  });

  it("are put together from several records", async () => {
    const hello = await realHello({ servername: "files.test" });
    const body = hello.subarray(5);
    const record = (part: Buffer): Buffer =>
      Buffer.concat([Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part]);
    const split = Buffer.concat([
      record(body.subarray(0, 7)),
      record(body.subarray(7, 100)),
      record(body.subarray(100)),
    ]);
    expect(readTlsHello(split)).toMatchObject({ type: "hello", serverName: "files.test" });
  });

  it("never throw, whatever is changed in them", async () => {
    const hello = await realHello({ servername: "files.test", ALPNProtocols: ["h2"] });
    fc.assert(
      fc.property(fc.nat(hello.length - 1), fc.nat(255), (at, value) => {
        const changed = Buffer.from(hello);
        changed[at] = value;
        return typeof readTlsHello(changed).type === "string";
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("first words are told apart", () => {
  it.each<[string, string, string, string | null]>([
    ["an SSH client", "SSH-2.0-OpenSSH_9.2p1\r\n", "ssh", null],
    ["a web client", "GET / HTTP/1.1\r\nHost: Files.Test:80\r\n\r\n", "http", "files.test"],
    [
      "a proxied web client",
      "GET http://files.test/ HTTP/1.1\r\nHost: files.test\r\n\r\n",
      "http",
      "files.test",
    ],
    ["a tunnelling web client", "CONNECT evil.test:443 HTTP/1.1\r\n\r\n", "http-connect", "evil.test"],
    ["a miner", '{"id":1,"method":"mining.subscribe","params":["xmrig/6.21.0"]}\n', "stratum", null],
    ["another miner", '{"id":1,"jsonrpc":"2.0","method":"login","params":{}}', "stratum", null],
    ["a SOCKS 5 client", "\x05\x01\x00", "socks", null],
    ["a SOCKS 4 client", "\x04\x01\x00\x50\xc6\x33\x64\x07\x00", "socks", null],
    ["a shell's prompt", "sh-5.2$ ", "shell", null],
    ["a login shell's prompt", "\x1b]0;agent@sandbox: ~\x07agent@sandbox:~$ ", "shell", null],
    ["a shell without a terminal", "bash: no job control in this shell\n", "shell", null],
    ["the answer to id", "uid=1000(agent) gid=1000(agent)\n", "shell", null],
    ["a line of text", "hello there\n", "unknown", null],
    ["JSON of another kind", '{"jsonrpc":"2.0","method":"initialize"}', "unknown", null],
  ])("%s", (_name, text, kind, claimed) => {
    expect(firstWords(bytes(text))).toMatchObject({ class: kind, claimed });
  });

  it("a client that says nothing may still speak", () => {
    expect(firstWords(new Uint8Array())).toMatchObject({ class: "silent", undecided: true });
  });

  it("half a method, half a banner and half a JSON may still become something", () => {
    for (const text of ["GE", "SSH", '{"id":1,"meth'])
      expect(firstWords(bytes(text)).undecided, text).toBe(true);
  });

  it("a request with two Host lines, or with another host in its target, claims nothing", () => {
    expect(firstWords(bytes("GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n")).claimed).toBeNull();
    expect(firstWords(bytes("GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n")).claimed).toBeNull();
  });

  it("what is shown to people is short and printable", () => {
    const { head } = firstWords(Buffer.alloc(5000, 0x1b));
    expect(head).toMatch(/^[ -~]{200}$/);
  });

  it("nothing throws, whatever is said", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (said) => typeof firstWords(said).class === "string"),
    );
  });
});
