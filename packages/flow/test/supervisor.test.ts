import { AleError, type Event, Event as EventSchema, systemClock } from "@ale/core";
import { describe, expect, test } from "vitest";
import {
  nanoProfile,
  render,
  replayTools,
  runAgent,
  type Supervisor,
  type ToolRuntime,
  texts,
} from "../src/index.ts";
import { localRuntime } from "./local-runtime.ts";
import { chunk, scriptedModel } from "./scripted-model.ts";

const profile = nanoProfile("0".repeat(64));
const submit = chunk([["submit", {}]]);
const bash = (command: string) => chunk([["bash", { command }]]);

async function run(
  script: Parameters<typeof scriptedModel>[0],
  runtime: ToolRuntime,
  supervisor: Supervisor,
  signal = new AbortController().signal,
) {
  const events: Event[] = [];
  const model = scriptedModel(script);
  const emit = (event: Event) => void events.push(EventSchema.parse(event));
  const outcome = await runAgent(
    { model, runtime, profile, instruction: "x", emit, clock: systemClock, supervisor },
    signal,
  );
  const results = events.filter((event) => event.type === "tool.result");
  return { events, model, outcome, results };
}

describe("a supervisor before a call", () => {
  test("refuses it: nothing runs, and the model reads why", async () => {
    await using runtime = await localRuntime();
    const supervisor: Supervisor = {
      before: async (_chunk, call) =>
        String(call.arguments.command).startsWith("rm")
          ? { type: "refuse", content: "blocked: rm" }
          : { type: "proceed" },
    };
    const { results, outcome, model } = await run(
      [bash("echo a > f"), bash("rm f"), bash("cat f"), submit],
      runtime,
      supervisor,
    );
    expect(outcome.termination).toBe("submitted");
    expect(results.map(({ content, guard, isError }) => [content, guard, isError])).toEqual([
      ["", undefined, false],
      ["blocked: rm", "refused", true],
      ["a", undefined, false],
      ["ok", undefined, false],
    ]);
    expect(model.seen[2]!.at(-1)).toMatchObject({ role: "tool", content: "blocked: rm" });
  });

  test("ends the episode with the refusal recorded", async () => {
    await using runtime = await localRuntime();
    const before: Supervisor["before"] = async () => ({ type: "refuse", content: "no", stop: true });
    const { outcome, events } = await run([bash("touch f"), submit], runtime, { before });
    expect(outcome).toEqual({ termination: "stopped-by-guard", chunks: 1 });
    expect(events.map(({ type }) => type)).toEqual(["message", "model.call", "tool.call", "tool.result"]);
    expect((await runtime.shell("ls f")).exitCode).not.toBe(0);
  });

  test("keeps a submission from being one", async () => {
    await using runtime = await localRuntime();
    let asked = 0;
    const before: Supervisor["before"] = async () =>
      asked++ === 0 ? { type: "refuse", content: "not yet" } : { type: "proceed" };
    const { outcome } = await run([submit, submit], runtime, { before });
    expect(outcome).toEqual({ termination: "submitted", chunks: 2 });
  });

  test("fails as the environment does", async () => {
    await using runtime = await localRuntime();
    const before: Supervisor["before"] = () => Promise.reject(new AleError("disk-full", "no space left"));
    const { outcome, events } = await run([bash("true"), submit], runtime, { before });
    expect(outcome.termination).toBe("environment-fault");
    expect(events.at(-1)).toMatchObject({ type: "fault", detail: "disk-full: no space left" });
  });
});

describe("a supervisor after a call", () => {
  test("adds a note that is never cut, and the context stays a function of the log", async () => {
    await using runtime = await localRuntime();
    const note = "guard: that was close";
    const after: Supervisor["after"] = async (_chunk, call) => (call.name === "bash" ? { note } : {});
    const { results, events, model } = await run([bash("seq 1 1000"), bash("true"), submit], runtime, {
      after,
    });
    expect(results[0]!.content).toContain("characters cut]");
    expect(results[0]!.content.endsWith(`\n1000\n${note}`)).toBe(true);
    expect(results[1]!.content).toBe(note);
    const upTo = (n: number) => events.findIndex((event) => event.type === "model.call" && event.chunk === n);
    for (const [n, seen] of model.seen.entries())
      expect(seen).toEqual(render(events.slice(0, upTo(n)), profile));
  });

  test("sees the whole outcome before it is recorded, and ends the episode with it recorded", async () => {
    await using runtime = await localRuntime();
    const seen: string[] = [];
    const after: Supervisor["after"] = async (index, call, result) => {
      seen.push(`${index} ${call.name} ${result.content}`);
      return { stop: index === 1 };
    };
    const { outcome, events } = await run([bash("echo a"), bash("echo b"), submit], runtime, { after });
    expect(outcome).toEqual({ termination: "stopped-by-guard", chunks: 2 });
    expect(seen).toEqual(["0 bash a", "1 bash b"]);
    expect(events.at(-1)).toMatchObject({ type: "tool.result", chunk: 1, content: "b" });
  });
});

describe("a supervisor that stops the episode", () => {
  test("interrupts the command that runs, and its result is recorded", async () => {
    await using runtime = await localRuntime(60_000);
    const controller = new AbortController();
    const before: Supervisor["before"] = async () => {
      setTimeout(() => controller.abort(new Error("seen enough")), 50);
      return { type: "proceed" };
    };
    const { outcome, results, events } = await run([bash("sleep 60"), submit], runtime, {
      before,
      stop: controller.signal,
    });
    expect(outcome).toEqual({ termination: "stopped-by-guard", chunks: 1 });
    expect(results).toMatchObject([{ content: texts.stopped, guard: "interrupted", isError: true }]);
    expect(results[0]!.durationMs).toBeLessThan(30_000);
    expect(events.map(({ type }) => type)).not.toContain("fault");
  });

  test("interrupts the model too", async () => {
    await using runtime = await localRuntime();
    const controller = new AbortController();
    const model = scriptedModel([]);
    const never = {
      ...model,
      next: (_messages: unknown, signal?: AbortSignal) =>
        new Promise<never>((_resolve, reject) => {
          signal?.addEventListener("abort", () => reject(signal.reason));
          controller.abort();
        }),
    };
    const outcome = await runAgent(
      {
        model: never,
        runtime,
        profile,
        instruction: "x",
        emit: () => {},
        clock: systemClock,
        supervisor: { stop: controller.signal },
      },
      new AbortController().signal,
    );
    expect(outcome).toEqual({ termination: "stopped-by-guard", chunks: 0 });
  });

  test("refuses the call that waits for its word", async () => {
    await using runtime = await localRuntime();
    const controller = new AbortController();
    const before: Supervisor["before"] = (_chunk, _call, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
        controller.abort();
      });
    const { outcome, results } = await run([bash("touch f"), submit], runtime, {
      before,
      stop: controller.signal,
    });
    expect(outcome.termination).toBe("stopped-by-guard");
    expect(results).toMatchObject([{ guard: "refused", content: texts.stopped }]);
  });

  test("gives way to a cancelled run", async () => {
    await using runtime = await localRuntime();
    const { outcome } = await run([submit], runtime, { stop: AbortSignal.abort() }, AbortSignal.abort());
    expect(outcome.termination).toBe("cancelled");
  });
});

describe("a supervised episode is replayed", () => {
  test("without what was refused or interrupted, and with the notes as they were", async () => {
    await using runtime = await localRuntime(60_000);
    const controller = new AbortController();
    const supervisor: Supervisor = {
      stop: controller.signal,
      before: async (_chunk, call) => {
        const { command } = call.arguments;
        if (command === "rm f") return { type: "refuse", content: "no" };
        if (command === "sleep 60") setTimeout(() => controller.abort(), 20);
        return { type: "proceed" };
      },
      after: async (_chunk, call) => (call.arguments.command === "cat f" ? { note: "mind that" } : {}),
    };
    const script = [bash("echo a > f"), bash("rm f"), bash("cat f"), bash("sleep 60")];
    const { events, results } = await run(script, runtime, supervisor);
    expect(results.map(({ content }) => content)).toEqual(["", "no", "a\nmind that", "stopped"]);
    await using fresh = await localRuntime();
    expect(await replayTools(events, fresh, { profile })).toEqual({ calls: 2, differences: [] });
  });
});
