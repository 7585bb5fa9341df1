import { AleError, type Event, Event as EventSchema, systemClock } from "@ale/core";
import { describe, expect, test } from "vitest";
import {
  type AgentOptions,
  nanoProfile,
  render,
  runAgent,
  standardProfile,
  type ToolRuntime,
} from "../src/index.ts";
import { localRuntime } from "./local-runtime.ts";
import { chunk, malformedChunk, scriptedModel } from "./scripted-model.ts";

const profile = nanoProfile("0".repeat(64));

const noRuntime: ToolRuntime = {
  shell: () => Promise.reject(new Error("no command should run")),
  exec: () => Promise.reject(new Error("no command should run")),
};

async function run(
  script: Parameters<typeof scriptedModel>[0],
  options: Partial<AgentOptions> & { signal?: AbortSignal } = {},
) {
  const events: Event[] = [];
  const model = scriptedModel(script);
  const outcome = await runAgent(
    {
      model,
      runtime: noRuntime,
      profile,
      instruction: "fix moss",
      emit: (event) => void events.push(EventSchema.parse(event)),
      clock: systemClock,
      ...options,
    },
    options.signal ?? new AbortController().signal,
  );
  return { events, model, outcome, types: events.map((event) => event.type) };
}

const submit = chunk([["submit", {}]]);
const bash = (command: string) => chunk([["bash", { command }]]);

describe("the agent loop", () => {
  test("runs what the model calls and shows it what came of it", async () => {
    await using runtime = await localRuntime();
    const { events, types, model, outcome } = await run(
      [bash("mkdir den && cd den && echo wolf"), bash("pwd"), submit],
      {
        runtime,
      },
    );
    expect(outcome).toEqual({ termination: "submitted", chunks: 3 });
    expect(types).toEqual([
      "message",
      ...["model.call", "tool.call", "tool.result"],
      ...["model.call", "tool.call", "tool.result"],
      ...["model.call", "tool.call", "tool.result"],
    ]);
    expect(model.seen[2]).toEqual([
      { role: "user", content: "fix moss" },
      {
        role: "assistant",
        content: "",
        toolCalls: [
          { id: "call_1_0", name: "bash", arguments: { command: "mkdir den && cd den && echo wolf" } },
        ],
      },
      { role: "tool", callId: "call_1_0", name: "bash", content: "wolf" },
      {
        role: "assistant",
        content: "",
        toolCalls: [{ id: "call_2_0", name: "bash", arguments: { command: "pwd" } }],
      },
      { role: "tool", callId: "call_2_0", name: "bash", content: `${runtime.directory}/den` },
    ]);
    expect(events[1]).toMatchObject({
      chunk: 0,
      contextTokens: [1],
      tokens: [2, 3],
      logprobs: [-0.1, -0.2],
      version: 7,
    });
  });

  test("shows the model exactly what the log renders to, at every chunk", async () => {
    await using runtime = await localRuntime();
    for (const each of [profile, standardProfile("0".repeat(64))]) {
      const script = [bash("seq 1 500"), malformedChunk("bash ls", "unknown tool"), bash("false"), submit];
      const { events, model } = await run(script, { runtime, profile: each });
      const upTo = (n: number) =>
        events.findIndex((event) => event.type === "model.call" && event.chunk === n);
      for (const [n, seen] of model.seen.entries())
        expect(seen).toEqual(render(events.slice(0, upTo(n)), each));
    }
  });

  test("runs the calls of one chunk in order, and nothing after a submit", async () => {
    await using runtime = await localRuntime();
    const both = chunk([
      ["bash", { command: "echo 1 >> f" }],
      ["bash", { command: "echo 2 >> f; cat f" }],
      ["submit", {}],
      ["bash", { command: "echo 3 >> f" }],
    ]);
    const { events, outcome } = await run([both], { runtime });
    expect(outcome).toEqual({ termination: "submitted", chunks: 1 });
    expect(events.filter((event) => event.type === "tool.result").map((event) => event.content)).toEqual([
      "",
      "1\n2",
      "ok",
    ]);
    expect(events.every((event) => !("chunk" in event) || event.chunk === 0)).toBe(true);
  });

  test("cuts a long observation when it is written, and counts all of it", async () => {
    await using runtime = await localRuntime();
    const { events } = await run([bash("seq 1 1000"), submit], { runtime });
    const result = events.find((event) => event.type === "tool.result")!;
    expect(result.content).toContain("characters cut]");
    expect(result.content.startsWith("1\n2\n3\n")).toBe(true);
    expect(result.content.endsWith("\n999\n1000")).toBe(true);
    expect(result.outputBytes).toBe(3893);
  });
});

describe("an episode ends", () => {
  test("when the model has used all its chunks", async () => {
    await using runtime = await localRuntime();
    const limits = { ...profile.limits, maxChunks: 2 };
    const { outcome } = await run([bash("true"), bash("true"), submit], {
      runtime,
      profile: { ...profile, limits },
    });
    expect(outcome).toEqual({ termination: "max-chunks", chunks: 2 });
  });

  test("when the context is full", async () => {
    const { outcome } = await run([]);
    expect(outcome).toEqual({ termination: "max-context", chunks: 0 });
  });

  test("after too many chunks in a row without a well-formed call", async () => {
    const { outcome, events } = await run([
      malformedChunk("x", "unknown tool"),
      malformedChunk("y", "no end"),
      submit,
    ]);
    expect(outcome).toEqual({ termination: "malformed", chunks: 2 });
    expect(render(events, profile).slice(1)).toEqual([
      { role: "assistant", content: "x", toolCalls: [] },
      { role: "tool", callId: "malformed_0", name: "error", content: "error: unknown tool" },
      { role: "assistant", content: "y", toolCalls: [] },
      { role: "tool", callId: "malformed_1", name: "error", content: "error: no end" },
    ]);
  });

  test("not for malformed chunks with good ones between them", async () => {
    await using runtime = await localRuntime();
    const bad = malformedChunk("x", "no end");
    const { outcome } = await run([bad, bash("true"), bad, bash("true"), bad, submit], { runtime });
    expect(outcome).toEqual({ termination: "submitted", chunks: 6 });
  });

  test("for calls of unknown tools as for malformed chunks", async () => {
    const unknown = chunk([["teleport", { to: "root" }]]);
    const { outcome, events } = await run([unknown, unknown, submit]);
    expect(outcome).toEqual({ termination: "malformed", chunks: 2 });
    expect(events.find((event) => event.type === "tool.result")).toMatchObject({
      name: "teleport",
      content: "error: unknown tool teleport",
      isError: true,
    });
  });

  test("when it is cancelled in the middle of a command", async () => {
    await using runtime = await localRuntime();
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 100);
    const { outcome, types } = await run([bash("sleep 5"), submit], { runtime, signal: controller.signal });
    expect(outcome).toEqual({ termination: "cancelled", chunks: 1 });
    expect(types).not.toContain("fault");
  });

  test("when it is cancelled before it begins", async () => {
    const { outcome } = await run([submit], { signal: AbortSignal.abort() });
    expect(outcome).toEqual({ termination: "cancelled", chunks: 0 });
  });

  test("with a fault when the sandbox breaks, which is not the agent's doing", async () => {
    const broken: ToolRuntime = {
      ...noRuntime,
      shell: () => Promise.reject(new AleError("sandbox-gone", "the sandbox is gone")),
    };
    const { outcome, events } = await run([bash("true"), submit], { runtime: broken });
    expect(outcome).toEqual({ termination: "environment-fault", chunks: 1 });
    expect(events.at(-1)).toEqual({
      type: "fault",
      chunk: 0,
      what: "sandbox",
      detail: "sandbox-gone: the sandbox is gone",
    });
  });
});

describe("what is not the episode's business is thrown", () => {
  test("a model that cannot be reached", async () => {
    await expect(run([new AleError("engine-died", "the engine died")])).rejects.toThrow("the engine died");
  });

  test("a log that cannot be written", async () => {
    const emit = () => Promise.reject(new AleError("disk-full", "no space left"));
    await expect(run([submit], { emit })).rejects.toThrow("no space left");
  });

  test("a bug in a runtime", async () => {
    await expect(run([bash("true")])).rejects.toThrow("no command should run");
  });

  test("a profile with a tool that does not exist", async () => {
    const tool = { ...profile.tools[0]!, name: "teleport" };
    await expect(run([], { profile: { ...profile, tools: [tool] } })).rejects.toThrow(/teleport/);
  });
});
