import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  CHAIN_START,
  type ChainState,
  canonicalJson,
  decodeLine,
  encodeLine,
  GENESIS,
  sha256,
  type UnknownEvent,
} from "../src/index.ts";
import { alert, begin, turn } from "./episode.ts";

const AT = "2026-03-01T10:00:00.000Z";
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text.replace(/\n$/, ""));
const encoded = (event: UnknownEvent, chain: ChainState = CHAIN_START) => encodeLine(event, AT, 0, chain);

/** A line made by hand around any object: right in its hash, whatever it says. */
function forged(value: Record<string, unknown>): Uint8Array {
  return bytesOf(canonicalJson({ ...value, hash: sha256(canonicalJson(value)) }));
}
const body = { at: AT, event: { type: "x.y" }, prev: GENESIS, seq: 0, t: 0, v: 1 };

describe("a line of ale/log@1", () => {
  it("is this text", () => {
    const { text, hash } = encodeLine({ type: "message", role: "user", content: "max of é" }, AT, 12.345, {
      seq: 3,
      prev: "a".repeat(64),
      sealed: false,
    });
    const unhashed = `{"at":"${AT}","event":{"content":"max of é","role":"user","type":"message"},"prev":"${"a".repeat(64)}","seq":3,"t":12.345,"v":1}`;
    expect(hash).toBe(sha256(unhashed));
    expect(text).toBe(`${unhashed.replace(',"prev"', `,"hash":"${hash}","prev"`)}\n`);
  });

  it("is read back as it was written, whatever the event holds", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.nat(), (fields, seq) => {
        const event = { ...fields, type: "x.from-the-future" };
        const chain = { seq, prev: "b".repeat(64), sealed: false };
        const { text, hash } = encodeLine(event, AT, seq / 1000, chain);
        const decoded = decodeLine(bytesOf(text), chain);
        if (!decoded.ok) throw new Error(decoded.detail);
        expect(canonicalJson(decoded.entry.event)).toBe(canonicalJson(event));
        expect(decoded.entry).toMatchObject({ known: false, seq, t: seq / 1000, at: AT, hash });
        expect(decoded.next).toEqual({ seq: seq + 1, prev: hash, sealed: false });
      }),
    );
  });

  it("cannot carry what has no JSON form", () =>
    expect(() => encoded({ type: "x", value: Number.NaN })).toThrow(TypeError));
});

describe("what a newer minor version wrote", () => {
  it("is kept when the event type is unknown", () => {
    const decoded = decodeLine(bytesOf(encoded({ type: "net.flow", to: "203.0.113.7" }).text), CHAIN_START);
    expect(decoded).toMatchObject({
      ok: true,
      entry: { known: false, event: { type: "net.flow", to: "203.0.113.7" } },
    });
  });

  it("is kept when a known event has more fields, at any depth", () => {
    const event = alert(0, "high");
    const newer = { ...event, origin: "x", alert: { ...event.alert, confidence: 0.5 } };
    const decoded = decodeLine(bytesOf(encoded(newer).text), CHAIN_START);
    expect(decoded).toMatchObject({ ok: true, entry: { known: true, event: newer } });
  });

  it("is kept inside lists of a known event", () => {
    const call = turn(0);
    const newer = { ...call, toolCalls: [{ ...call.toolCalls[0], parallel: true }] };
    expect(decodeLine(bytesOf(encoded(newer).text), CHAIN_START)).toMatchObject({
      ok: true,
      entry: { event: newer },
    });
  });

  it("is kept when the line itself has more fields", () =>
    expect(decodeLine(forged({ ...body, node: "7" }), CHAIN_START)).toMatchObject({ ok: true }));
});

describe("a line is refused", () => {
  const reasonOf = (bytes: Uint8Array, chain: ChainState = CHAIN_START) => {
    const decoded = decodeLine(bytes, chain);
    return decoded.ok ? "accepted" : decoded.reason;
  };
  const good = encoded(begin("ep_1")).text;

  it("when nothing is wrong with it, it is not", () => {
    expect(reasonOf(bytesOf(good))).toBe("accepted");
    expect(reasonOf(forged(body))).toBe("accepted");
  });

  it.each<[string, string, Uint8Array]>([
    ["is not UTF-8", "bad-utf8", new Uint8Array([0x7b, 0xff, 0x7d])],
    ["is not JSON", "bad-json", bytesOf("{")],
    ["is empty", "bad-json", bytesOf("")],
    ["is not an object", "bad-line", bytesOf("null")],
    ["lacks a field", "bad-line", forged({ ...body, prev: undefined })],
    ["is of another major version", "unknown-version", forged({ ...body, v: 2 })],
    ["has a changed value", "bad-hash", bytesOf(good.replace("run_1", "run_2"))],
    ["has another text for the same value", "not-canonical", bytesOf(good.replace('{"at"', '{ "at"'))],
    ["has an escape for a plain letter", "not-canonical", bytesOf(good.replace("run_1", "\\u0072un_1"))],
    ["says a number that is none", "not-canonical", bytesOf(good.replace('"seed":7', '"seed":7e999'))],
    [
      "is nested without end",
      "not-canonical",
      bytesOf(good.replace('"run_1"', "[".repeat(1e5) + "]".repeat(1e5))),
    ],
    ["skips a number", "seq-gap", forged({ ...body, seq: 1 })],
    ["continues another line", "wrong-prev", forged({ ...body, prev: "c".repeat(64) })],
    [
      "has a known event that does not fit",
      "bad-event",
      forged({ ...body, event: { type: "alert", chunk: 0 } }),
    ],
    [
      "is a seal that counts wrong",
      "bad-seal",
      forged({ ...body, event: { type: "episode.seal", events: 9 } }),
    ],
  ])("that %s", (_, reason, bytes) => expect(reasonOf(bytes)).toBe(reason));

  it("after the seal", () => {
    const chain = { seq: 5, prev: "d".repeat(64), sealed: true };
    expect(
      reasonOf(bytesOf(encoded({ type: "message", role: "user", content: "x" }, chain).text), chain),
    ).toBe("event-after-seal");
  });

  it("with a message that names the version it can read", () => {
    const decoded = decodeLine(forged({ ...body, v: 2 }), CHAIN_START);
    expect(decoded).toMatchObject({
      detail: "the line is in format version 2; this program reads ale/log@1",
    });
  });
});
