import { Duplex } from "node:stream";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ControlChannel, decodeFrame, encodeFrame, FrameReader } from "../src/inside/control.ts";

const bytes = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 6 });

describe("frames", () => {
  test("come out as they went in, however the stream is cut", () => {
    fc.assert(
      fc.property(fc.array(bytes, { maxLength: 5 }), fc.integer({ min: 1, max: 50 }), (frames, size) => {
        const stream = Buffer.concat(frames.map(encodeFrame));
        const reader = new FrameReader();
        const out: Buffer[][] = [];
        for (let at = 0; at < stream.length; at += size)
          out.push(...reader.push(stream.subarray(at, at + size)));
        expect(out.map((frame) => frame.map((field) => [...field]))).toEqual(
          frames.map((frame) => frame.map((field) => [...field])),
        );
      }),
    );
  });

  test("carry text as UTF-8 and numbers in decimal", () => {
    const frame = encodeFrame(["é\0", 1.5]);
    expect(decodeFrame(frame.subarray(4)).map(String)).toEqual(["é\0", "1.5"]);
  });

  test("that are malformed or too large are an error, not a hang", () => {
    expect(() => decodeFrame(Buffer.from([0, 0, 0, 9, 1]))).toThrow(RangeError);
    const reader = new FrameReader();
    expect(() => [...reader.push(Buffer.from([0xff, 0xff, 0xff, 0xff]))]).toThrow(RangeError);
  });
});

describe("the control channel", () => {
  const channel = () => {
    const connection = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
    const control = new ControlChannel();
    control.attach(connection);
    return { connection, control };
  };

  test("answers every waiting request with `gone` when the connection ends", async () => {
    const { connection, control } = channel();
    const request = control.request("exec", []);
    connection.destroy();
    expect(await request).toEqual({ type: "gone" });
    expect(await control.request("exec", [])).toEqual({ type: "gone" });
    expect(await control.ready).toBe(false);
  });

  test("hangs up on a peer that does not speak in frames", async () => {
    const { connection, control } = channel();
    const request = control.request("exec", []);
    connection.push(Buffer.alloc(64, 0xff));
    expect(await request).toEqual({ type: "gone" });
    expect(connection.destroyed).toBe(true);
  });

  test("ignores a reply that nobody asked for", async () => {
    const { connection, control } = channel();
    connection.push(encodeFrame(["ok", "no-such-request"]));
    connection.push(encodeFrame(["ready"]));
    expect(await control.ready).toBe(true);
  });
});
