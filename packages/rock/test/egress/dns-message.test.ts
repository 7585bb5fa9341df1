import { createSocket } from "node:dgram";
import { Resolver } from "node:dns/promises";
import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import {
  type DnsAnswer,
  dnsTypeName,
  nameFigures,
  readDnsQuery,
  writeDnsAnswer,
} from "../../src/egress/dns-message.ts";

/** A real resolver asks a server on loopback that answers with our messages. */
async function asked(
  answer: DnsAnswer,
  ask: (resolver: Resolver) => Promise<unknown>,
): Promise<{ seen: string[]; got: unknown }> {
  const seen: string[] = [];
  const server = createSocket("udp4");
  onTestFinished(() => void server.close());
  server.on("message", (message, from) => {
    const query = readDnsQuery(message);
    if (query === undefined) return;
    seen.push(`${query.name} ${dnsTypeName(query.type)}`);
    server.send(writeDnsAnswer(message, query, answer), from.port, from.address);
  });
  await new Promise<void>((resolve) => server.bind(0, "127.0.0.1", resolve));
  const resolver = new Resolver({ timeout: 2_000, tries: 1 });
  resolver.setServers([`127.0.0.1:${server.address().port}`]);
  const got = await ask(resolver).catch((error: NodeJS.ErrnoException) => error.code);
  return { seen, got };
}

describe("an answer, as a real resolver takes it", () => {
  it("has the addresses", async () => {
    const answer = { type: "addresses", addresses: [0xc6120001, 0xc6120002], ttlSeconds: 60 } as const;
    const { seen, got } = await asked(answer, (resolver) => resolver.resolve4("Files.Test", { ttl: true }));
    expect(seen).toEqual(["files.test A"]);
    expect(got).toEqual([
      { address: "198.18.0.1", ttl: 60 },
      { address: "198.18.0.2", ttl: 60 },
    ]);
  });

  it("says that there is no such name", async () => {
    const { got } = await asked({ type: "no-such-name" }, (resolver) => resolver.resolve4("evil.test"));
    expect(got).toBe("ENOTFOUND");
  });

  it("says that the name has no record of that type", async () => {
    const answer = { type: "addresses", addresses: [], ttlSeconds: 60 } as const;
    const { seen, got } = await asked(answer, (resolver) => resolver.resolve6("files.test"));
    expect(seen).toEqual(["files.test AAAA"]);
    expect(got).toBe("ENODATA");
  });

  it("refuses", async () => {
    const { got } = await asked({ type: "refused" }, (resolver) => resolver.resolveTxt("files.test"));
    expect(got).toBe("EREFUSED");
  });
});

describe("a message that is no plain query", () => {
  const query = Buffer.from("0001010000010000000000000161047465737400" + "00010001", "hex");

  it("is one when nothing is wrong with it", () => {
    expect(readDnsQuery(query)).toMatchObject({ id: 1, name: "a.test", type: 1, recursionDesired: true });
  });

  it.each([
    ["an answer", 2, 0x81],
    ["an update", 2, 0x29],
    ["two questions", 5, 2],
    ["a compressed name", 12, 0xc0],
    ["a label past the end", 12, 63],
  ])("%s is passed over", (_name, at, value) => {
    const changed = Buffer.from(query);
    changed[at] = value;
    expect(readDnsQuery(changed)).toBeUndefined();
  });

  it("never throws", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (message) => readDnsQuery(message) === undefined || true),
    );
  });
});

it("a tunnel's names give themselves away", () => {
  const tunnel = nameFigures("mzxw6ytboi4wk3tfnzzxizlsobzg63dpmnuw4zy2.t.evil.test");
  expect(tunnel).toMatchObject({ base: "evil.test", labelBytes: 40 });
  expect(tunnel.entropy).toBeGreaterThan(3.4);
  expect(nameFigures("www.files.test").entropy).toBe(0);
  expect(nameFigures("files.test")).toEqual({ base: "files.test", labelBytes: 0, entropy: 0 });
});
