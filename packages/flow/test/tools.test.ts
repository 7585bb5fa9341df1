import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { TOOLS, type Tool, type ToolOutcome, type ToolRuntime } from "../src/index.ts";
import { localRuntime } from "./local-runtime.ts";

const tool = (name: string): Tool => TOOLS.find((candidate) => candidate.schema.name === name)!;

const call = (runtime: ToolRuntime, name: string, args: Record<string, unknown>): Promise<ToolOutcome> =>
  tool(name).run(args, runtime);

describe("bash", () => {
  test("shows output without its last newline, and says nothing of success", async () => {
    await using runtime = await localRuntime();
    expect(await call(runtime, "bash", { command: "echo one; echo two" })).toEqual({
      content: "one\ntwo",
      isError: false,
      exitCode: 0,
      timedOut: false,
      outputBytes: 8,
    });
    expect((await call(runtime, "bash", { command: "true" })).content).toBe("");
    expect((await call(runtime, "bash", { command: "printf 'a\\n\\n'" })).content).toBe("a\n");
  });

  test("tells the exit code of a failure on a line of its own", async () => {
    await using runtime = await localRuntime();
    expect(await call(runtime, "bash", { command: "echo half; exit 3" })).toMatchObject({
      content: "half\nexit 3",
      isError: true,
      exitCode: 3,
    });
    expect((await call(runtime, "bash", { command: "false" })).content).toBe("exit 1");
  });

  test("tells a timeout, with what came before it", async () => {
    await using runtime = await localRuntime(300);
    expect(await call(runtime, "bash", { command: "echo begun; sleep 5" })).toMatchObject({
      content: "begun\ntimeout",
      isError: true,
      timedOut: true,
    });
  });
});

describe("read and write", () => {
  test("bring a text into a file and back, whatever it holds", async () => {
    await using runtime = await localRuntime();
    const content = "one\n\t'two' \"three\" $HOME `x` \\ é\n\nfour";
    expect(await call(runtime, "write", { path: "deep/er/file", content })).toMatchObject({
      content: "ok",
      isError: false,
    });
    expect(await readFile(join(runtime.directory, "deep/er/file"), "utf8")).toBe(content);
    expect((await call(runtime, "read", { path: "deep/er/file" })).content).toBe(content);
  });

  test("take a path as a path, never as an option or a script", async () => {
    await using runtime = await localRuntime();
    for (const path of ["-n", "$(touch owned)", "a b", "'; touch owned; '"]) {
      expect(await call(runtime, "write", { path, content: path })).toMatchObject({ content: "ok" });
      expect((await call(runtime, "read", { path })).content).toBe(path);
    }
    await expect(stat(join(runtime.directory, "owned"))).rejects.toThrow(/ENOENT/);
  });

  test("show the system's own words when they fail", async () => {
    await using runtime = await localRuntime();
    expect(await call(runtime, "read", { path: "none" })).toMatchObject({
      content: "cat: none: No such file or directory",
      isError: true,
      exitCode: 1,
    });
    await writeFile(join(runtime.directory, "file"), "");
    expect(await call(runtime, "write", { path: "file/x", content: "" })).toMatchObject({ isError: true });
  });
});

describe("edit", () => {
  test("replaces the only occurrence, and leaves the file's permissions alone", async () => {
    await using runtime = await localRuntime();
    const path = join(runtime.directory, "f");
    await writeFile(path, "sotr $1 \\n sort\n", { mode: 0o755 });
    expect(await call(runtime, "edit", { path: "f", old: "sotr $1", new: "$& $'" })).toMatchObject({
      content: "ok",
    });
    expect(await readFile(path, "utf8")).toBe("$& $' \\n sort\n");
    expect((await stat(path)).mode & 0o777).toBe(0o755);
  });

  test.each([
    ["x", "error: no match"],
    ["a", "error: 3 matches"],
    ["aa", "error: 2 matches"],
    ["", "error: old is empty"],
  ])("refuses to guess what %j means", async (old, content) => {
    await using runtime = await localRuntime();
    const path = join(runtime.directory, "f");
    await writeFile(path, "aaa");
    expect(await call(runtime, "edit", { path: "f", old, new: "b" })).toMatchObject({
      content,
      isError: true,
    });
    expect(await readFile(path, "utf8")).toBe("aaa");
  });

  test("refuses a file that it could not see whole, rather than destroying it", async () => {
    await using runtime = await localRuntime();
    const path = join(runtime.directory, "f");
    const bytes = Buffer.from([0x61, 0xff, 0xfe, 0x62]);
    await writeFile(path, bytes);
    const refused = { content: "error: file is too large or not text", isError: true };
    expect(await call(runtime, "edit", { path: "f", old: "a", new: "c" })).toMatchObject(refused);
    expect(await readFile(path)).toEqual(bytes);
    await writeFile(path, "abc");
    const cutting: ToolRuntime = {
      ...runtime,
      exec: async (...args) => ({ ...(await runtime.exec(...args)), output: "ab" }),
    };
    expect(await call(cutting, "edit", { path: "f", old: "a", new: "c" })).toMatchObject(refused);
    expect(await readFile(path, "utf8")).toBe("abc");
  });
});

describe("every tool", () => {
  test.each(TOOLS.map((each) => [each.schema.name, each] as const))(
    "%s answers wrong arguments with an error",
    async (name, each) => {
      await using runtime = await localRuntime();
      for (const missing of each.schema.parameters.required) {
        const args = Object.fromEntries(each.schema.parameters.required.map((key) => [key, "x"]));
        const { [missing]: _, ...rest } = args;
        expect(await call(runtime, name, rest)).toMatchObject({
          content: `error: no value for ${missing}`,
          isError: true,
        });
        expect(await call(runtime, name, { ...args, [missing]: 7 })).toMatchObject({
          content: `error: ${missing} is not string`,
        });
      }
      const args = Object.fromEntries(each.schema.parameters.required.map((key) => [key, "x"]));
      expect(await call(runtime, name, { ...args, force: "x" })).toMatchObject({
        content: "error: unknown argument force",
      });
    },
  );

  test("lists its arguments as required, in the order that profiles keep", () => {
    for (const { schema } of TOOLS)
      expect(schema.parameters.required).toEqual(Object.keys(schema.parameters.properties));
  });
});
