import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { filterOf } from "../src/compat/e2b/plugin.ts";
import { DEFAULT_ENVIRONMENT, EnvHubStore, Registration } from "../src/compat/envhub/store.ts";
import { codeOf, RockFailure } from "../src/compat/rock/envelope.ts";
import { hangsInInteractiveShell } from "../src/compat/rock/history-expansion.ts";
import { parsePid, parseQuestion, parseSubmission } from "../src/compat/rock/nohup.ts";
import { answered, forwarded, targetOf } from "../src/compat/rock/proxy-target.ts";
import { decode, repr } from "../src/compat/rock/python-text.ts";
import { StartRequest } from "../src/compat/rock/requests.ts";
import { createRequestOf } from "../src/compat/rock/start.ts";

const GIB = 2 ** 30;
const HOST = { cpus: 2, memoryBytes: 4 * GIB, diskBytes: 20 * GIB };
const ASKER = { userId: "u", experimentId: "e", namespace: "n", cluster: "c" };
const create = (more: object = {}) =>
  createRequestOf(StartRequest.parse({ image: "python:3.11", ...more }), ASKER, HOST);

describe("a start request", () => {
  test("of the SDK's defaults is cut to a small host, and what was asked for is remembered", () => {
    const { spec, notes } = create();
    expect(spec.limits).toMatchObject({ cpus: 2, memoryBytes: 4 * GIB, diskBytes: 20 * GIB });
    expect(notes).toMatchObject({ memory: "8g", cpus: "2", disk: "50G", userId: "u" });
    expect(spec).toMatchObject({ user: "root", workdir: "/", network: { mode: "none" } });
  });

  test("says when it is cleared and when deleted", () => {
    const request = create({ auto_clear_time_minutes: 5, auto_delete_seconds: 0 });
    expect(request.spec.idleMs).toBe(300_000);
    expect(request.deleteAfterStopMs).toBe(0);
    expect(create().deleteAfterStopMs).toBeUndefined();
  });

  test.each([
    [{ cpus: 20 }, "Requested CPUs 20 exceed the maximum allowed 16"],
    [{ memory: "65g" }, "Requested memory 65g exceed the maximum allowed 64g"],
    [{ disk: "1t" }, "Requested disk 1t exceed the maximum allowed 256g"],
    [{ limit_cpus: 17 }, "Requested CPUs 17 exceed"],
    [{ memory: "lots" }, 'Invalid memory size: "lots"'],
    [{ disk: "-5g" }, 'Invalid disk size: "-5g"'],
    [{ num_gpus: 1 }, "Accelerators are not available"],
    [{ use_kata_runtime: true }, "kata runtime is not available"],
    [{ image_os: "windows" }, "Unsupported image_os"],
    [{ auto_archive_seconds: 60 }, "auto_archive_seconds is not available"],
  ])("%j is refused with code 4000", (more, message) => {
    let error: unknown;
    try {
      create(more);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(RockFailure);
    expect(codeOf(error)).toBe(4000);
    expect((error as Error).message).toContain(message);
  });
});

describe("the nohup protocol", () => {
  const PID = ["$", "{!}"].join("");
  const SUBMISSION = `nohup sleep 1 < /dev/null > /tmp/tmp_1.out 2>&1 & echo PIDSTART${PID}PIDEND;disown`;

  test("a submission is known by its form, and its exit code will be kept", () => {
    expect(parseSubmission(SUBMISSION)).toEqual({
      command: "sleep 1",
      outputFile: "/tmp/tmp_1.out",
      rewritten: `${SUBMISSION.slice(0, -7)}; disown -h $! 2>/dev/null; true`,
    });
    expect(parsePid("PIDSTART4711PIDEND")).toBe(4711);
  });

  test("commands of several lines are submissions too; other background jobs are not", () => {
    expect(parseSubmission(SUBMISSION.replace("sleep 1", "bash -c 'a\nb > c'"))?.command).toBe(
      "bash -c 'a\nb > c'",
    );
    expect(parseSubmission("nohup sleep 1 &")).toBeUndefined();
    expect(parseSubmission(`sleep 1 & echo PIDSTART${PID}PIDEND;disown`)).toBeUndefined();
  });

  test("the SDK's questions are known, and nothing that only looks like them", () => {
    expect(parseQuestion("kill -0 12")).toEqual({ type: "alive", pid: 12 });
    expect(parseQuestion("cat /tmp/a.out")).toEqual({ type: "output", file: "/tmp/a.out" });
    expect(parseQuestion("head -c 10 /tmp/a.out")).toEqual({ type: "output", file: "/tmp/a.out" });
    expect(parseQuestion("stat -c %s /tmp/a 2>/dev/null || stat -f %z /tmp/a")).toEqual({
      type: "size",
      file: "/tmp/a",
    });
    for (const text of ["kill -9 12", "cat /tmp/a | wc", "cat a; rm b", "kill -0 12; true"])
      expect(parseQuestion(text)).toBeUndefined();
  });
});

describe("history expansion", () => {
  test("hangs ROCK's shells in a continued double quote only", () => {
    expect(hangsInInteractiveShell("bash -c \"sed '1i\\\n  {!r}' f\"")).toBe(true);
    for (const fine of [
      'echo "hi!"',
      'echo "a\n b != c"',
      "echo 'a\n!x'",
      'echo "!x"',
      'echo "a\n\\!x"',
      "!x\ny",
    ])
      expect(hangsInInteractiveShell(fine), fine).toBe(false);
  });
});

describe("Python's text", () => {
  test.each([
    ["a'b", `"a'b"`],
    [`a'"b`, `'a\\'"b'`],
    ["a\nb\t\\", "'a\\nb\\t\\\\'"],
    ["\u0001é", "'\\x01é'"],
  ])("repr(%j)", (text, written) => expect(repr(text)).toBe(written));

  test("bytes that are no text are an error, are left out, replaced or written down, as asked", () => {
    const bytes = Uint8Array.of(0x61, 0xff, 0xc3, 0xa9);
    expect(decode(bytes, "utf-8", "strict")).toBeUndefined();
    expect(decode(bytes, "utf8", "ignore")).toBe("aé");
    expect(decode(bytes, "UTF-8", "replace")).toBe("a\ufffdé");
    expect(decode(bytes, "utf_8", "backslashreplace")).toBe("a\\xffé");
    expect(decode(bytes, "latin-1", "strict")).toBe("aÿÃ©");
    expect(decode(bytes, "ascii", "strict")).toBeUndefined();
    expect(() => decode(bytes, "klingon", "strict")).toThrow(RangeError);
  });
});

describe("the proxy's target", () => {
  test("is named by path, header or query, and else the default", () => {
    expect(targetOf("/p", "/port/9000/a%20b?x=1", undefined)).toEqual({
      port: 9000,
      path: "/a%20b?x=1",
      prefix: "/p/port/9000",
    });
    expect(targetOf("/p", "/a", "9001")).toMatchObject({ port: 9001, path: "/a", prefix: "/p" });
    expect(targetOf("/p", "/a?rock_target_port=9002&y=2", undefined)).toMatchObject({
      port: 9002,
      path: "/a?y=2",
    });
    expect(targetOf("/p", "", undefined)).toMatchObject({ port: 8080, path: "/" });
  });

  test.each([
    ["/port/9000/", "9000"],
    ["/port/80/", undefined],
    ["/port/70000/", undefined],
    ["/?rock_target_port=x", undefined],
  ])("%s with header %s is refused", (rest, header) =>
    expect(() => targetOf("/p", rest, header)).toThrow(/port/i),
  );

  test("no token of the server reaches the sandbox, and no page of a sandbox keeps the server's origin", () => {
    expect(
      forwarded({
        Authorization: "Bearer t",
        "x-api-key": "t",
        "XRL-Authorization": "t",
        accept: "a",
        host: "h",
      }),
    ).toEqual({ accept: "a" });
    const to = { port: 9000, path: "/", prefix: "/p/port/9000" };
    const headers = answered({ location: "/login", "content-type": "text/html" }, to);
    expect(headers.location).toBe("/p/port/9000/login");
    expect(headers["content-security-policy"]).toMatch(/^sandbox /);
    expect(answered({ location: "http://127.0.0.1:9000/x" }, to).location).toBe("/p/port/9000/x");
    expect(answered({ location: "https://else.where/x" }, to).location).toBe("https://else.where/x");
    expect(answered({ location: "//else.where/x" }, to).location).toBe("//else.where/x");
  });
});

describe("the table of named environments", () => {
  test("keeps a tenant's own and outlives its process", () => {
    const directory = mkdtempSync(join(tmpdir(), "ale-envhub-"));
    const path = join(directory, "e.db");
    const entry = (more: object): Registration => Registration.parse({ env_name: "x", image: "i", ...more });
    {
      using store = new EnvHubStore(path);
      expect(store.list("a").map(({ env_name }) => env_name)).toEqual([DEFAULT_ENVIRONMENT]);
      store.register("a", entry({ tags: ["ml"], owner: "o" }));
      const changed = store.register("a", entry({ image: "j" }));
      expect(changed).toMatchObject({ image: "j", owner: "", tags: [], extra_spec: null });
    }
    using store = new EnvHubStore(path);
    expect(store.get("a", "x")?.image).toBe("j");
    expect(store.get("b", "x")).toBeUndefined();
    expect(store.list("a", { tags: ["system", "none"] })).toHaveLength(1);
    expect(store.list("a", { owner: "nobody" })).toEqual([]);
    expect([store.delete("b", "x"), store.delete("a", "x"), store.delete("a", "x")]).toEqual([
      false,
      true,
      false,
    ]);
    rmSync(directory, { recursive: true });
  });
});

test("the table of named environments can be read by its user only, whatever it was before", () => {
  const directory = mkdtempSync(join(tmpdir(), "ale-envhub-"));
  const path = join(directory, "e.db");
  writeFileSync(path, "", { mode: 0o644 });
  using _ = new EnvHubStore(path);
  for (const name of readdirSync(directory))
    expect([name, statSync(join(directory, name)).mode & 0o077]).toEqual([name, 0]);
  rmSync(directory, { recursive: true });
});

test("E2B's filter is written in two ways", () => {
  expect(filterOf("a=1&b=x%20y")).toEqual({ a: "1", b: "x y" });
  expect(filterOf("a:1, b:2")).toEqual({ a: "1", b: "2" });
  expect(filterOf(undefined)).toEqual({});
  expect(() => filterOf("nonsense")).toThrow(/key=value/);
});
