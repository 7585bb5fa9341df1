import { type Event, systemClock } from "@ale/core";
import { describe, expect, test } from "vitest";
import { nanoProfile, replayTools, runAgent } from "../src/index.ts";
import { localRuntime } from "./local-runtime.ts";
import { chunk, malformedChunk, scriptedModel } from "./scripted-model.ts";

const profile = nanoProfile("0".repeat(64));

/** Records an episode of these commands, each a chunk, in a real directory. */
async function record(commands: readonly string[]): Promise<Event[]> {
  await using runtime = await localRuntime();
  const events: Event[] = [];
  const calls = commands.map((command) => chunk([["bash", { command }]]));
  const model = scriptedModel([malformedChunk("x", "no end"), ...calls, chunk([["submit", {}]])]);
  const emit = (event: Event): void => void events.push(event);
  await runAgent(
    { model, runtime, profile, instruction: "x", emit, clock: systemClock },
    new AbortController().signal,
  );
  return events;
}

describe("replaying the tools of an episode", () => {
  test("finds no difference where commands depend on nothing else", async () => {
    const events = await record(["echo a > f; cat f", "seq 1 900", "cat none", "echo b >> f; cat f"]);
    await using runtime = await localRuntime();
    expect(await replayTools(events, runtime, { profile })).toEqual({ calls: 5, differences: [] });
  });

  test("lists every observation that came out differently, and goes on", async () => {
    const events = await record(["pwd", "echo same", "echo $$"]);
    await using runtime = await localRuntime();
    const { calls, differences } = await replayTools(events, runtime, { profile });
    expect(calls).toBe(4);
    expect(differences.map(({ chunk: index, name }) => [index, name])).toEqual([
      [1, "bash"],
      [3, "bash"],
    ]);
    expect(differences[0]).toMatchObject({ callId: "call_2_0", replayed: runtime.directory });
  });

  test("reports a call whose result was never recorded", async () => {
    const events = (await record(["echo a"])).filter(
      (event) => event.type !== "tool.result" || event.name !== "bash",
    );
    await using runtime = await localRuntime();
    const { differences } = await replayTools(events, runtime, { profile });
    expect(differences).toEqual([
      { chunk: 1, callId: "call_2_0", name: "bash", recorded: null, replayed: "a" },
    ]);
  });

  test("needs a profile, from the log or from the caller", async () => {
    await using runtime = await localRuntime();
    await expect(replayTools([], runtime)).rejects.toThrow(/profile/);
  });
});
