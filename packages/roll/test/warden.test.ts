import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { denyAll, type Event } from "@ale/core";
import { ApprovalStore } from "@ale/guard";
import { evidenceImage, openOciDriver, pruneEvidence, releaseEvidence } from "@ale/rock";
import { connectRock } from "@ale/rock/client";
import { serveRock } from "@ale/rock/server";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { plainWatch } from "../src/index.ts";
import { wardenTexts } from "../src/rollout/warden-texts.ts";
import { guarded, home, instance, rulesOf, whyNoSandbox } from "./guarded.ts";

const reason = whyNoSandbox();
const driver = openOciDriver({ home });
const sources = reason === null ? (await driver.capabilities()).telemetry : [];

/** A rule over the text of calls. */
const onCall = (name: string, word: string, response: string) =>
  rulesOf(`
title: ${name} was called
name: ${name}
tags: [attack.t1059, ale.controllability]
level: high
logsource: { category: process.exec }
detection: { it: { process.exe|endswith: /${word} }, condition: it }
ale: { response: ${response} }`);

/** A rule over the text of the call, which is known before it runs. */
const TEXT_RULE = rulesOf(`
title: shred was called
name: no-shred
tags: [attack.t1059, ale.controllability]
level: high
logsource: { category: tool.call }
detection: { it: { tool.command|contains: shred }, condition: it }
ale: { response: block }`);

/** A program that no text of a call names: a script of the environment's own starts it. */
const SCRIPT = {
  path: "/work/tool.sh",
  content: "factor 6 > /dev/null\n",
  mode: 0o755,
  owner: "agent",
} as const;
const withScript = () => instance({ files: [SCRIPT] });
const onFactor = (response: string) => onCall("no-factor", "factor", response);

async function approvals(timeoutMs?: number): Promise<ApprovalStore> {
  const directory = await mkdtemp(join(tmpdir(), "ale-warden-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return new ApprovalStore(join(directory, "approvals"), timeoutMs === undefined ? {} : { timeoutMs });
}

/** A model takes its time; calls within one tick of the kernel's clock could not be told apart. */
const thinking = (command: string) => async () => {
  await sleep(50);
  return command;
};

/** What happened from a call to its result, by type. */
const between = (events: readonly Event[], chunk: number): string[] => {
  const from = events.findIndex((event) => event.type === "tool.call" && event.chunk === chunk);
  const to = events.findIndex((event, i) => i > from && event.type === "tool.result");
  const isOfCollector = (event: Event): boolean =>
    event.type === "telemetry" && event.record.source !== "tool";
  return events
    .slice(from, to + 1)
    .filter((event) => !isOfCollector(event))
    .map(({ type }) => type);
};

test("the words of the warden are frozen: policies are trained on them", () => {
  const beginning = "[guard] This call was not run: it needs a person's approval, and did not get it.";
  expect(wardenTexts.refused(undefined)).toBe(beginning);
  expect(wardenTexts.refused("Not now.")).toBe(`${beginning} Not now.`);
});

describe.skipIf(reason !== null)(`the warden${reason === null ? "" : ` (skipped: ${reason})`}`, () => {
  afterAll(() => driver[Symbol.asyncDispose]());

  test("refuses a call that a rule blocks: it never runs, and the agent reads why", async () => {
    const { results, events, of, termination, reward } = await guarded(
      driver,
      ["echo keep > f", "touch g; shred f", "cat f; ls g"],
      { watch: { rules: onCall("no-shred", "shred", "block") } },
    );
    expect(results[1]).toMatchObject({ guard: "refused", isError: true });
    expect(results[1]!.content).toContain("no-shred");
    expect(results[2]!.content).toMatch(/^keep\n.*No such file/);
    expect(between(events, 1)).toEqual(["tool.call", "alert", "telemetry", "response", "tool.result"]);
    expect(of("alert")).toMatchObject([{ chunk: 1, alert: { rule: "no-shred", response: "block" } }]);
    expect(of("response")).toMatchObject([{ chunk: 1, rule: "no-shred", response: "block" }]);
    expect([termination, reward]).toEqual(["submitted", 1]);
  });

  test("lets a person approve a call, which then is no violation", async () => {
    const store = await approvals();
    const { results, events, of } = await guarded(driver, ["echo a > f; rm -f f; ls f"], {
      watch: { rules: onCall("ask-rm", "rm", "approve"), approver: store },
      onEvent: (event) => {
        if (event.type === "approval.request")
          setTimeout(() => store.answer(event.id, { granted: true, by: "user:ada", reason: "fine" }), 20);
      },
    });
    expect(results[0]).toMatchObject({ exitCode: 2 });
    expect(results[0]!.guard).toBeUndefined();
    expect(between(events, 0)).toEqual(["tool.call", "approval.request", "approval.answer", "tool.result"]);
    const [request] = of("approval.request");
    expect(request).toMatchObject({ rule: "ask-rm", what: "$ echo a > f; rm -f f; ls f" });
    expect(of("approval.answer")).toMatchObject([
      { id: request!.id, granted: true, by: "user:ada", reason: "fine" },
    ]);
    expect(of("approval.answer")[0]!.waitedMs).toBeGreaterThan(10);
    expect(of("alert")).toEqual([]);
  });

  test("takes silence for a no", async () => {
    const { results, events, of } = await guarded(driver, ["echo a > f; rm -f f", "cat f"], {
      watch: { rules: onCall("ask-rm", "rm", "approve"), approver: await approvals(50) },
    });
    expect(results[0]).toMatchObject({ guard: "refused", content: wardenTexts.refused(undefined) });
    expect(results[1]!.content).toContain("No such file");
    expect(between(events, 0)).toEqual([
      ...["tool.call", "approval.request", "approval.answer"],
      ...["alert", "telemetry", "response", "tool.result"],
    ]);
    expect(of("approval.answer")).toMatchObject([{ granted: false, by: "timeout" }]);
  });

  test("writes down that nobody waits any more when the episode is cancelled meanwhile", async () => {
    const store = await approvals(60_000);
    const cancel = new AbortController();
    const events: Event[] = [];
    const episode = guarded(driver, ["ls"], {
      watch: { rules: [], collectors: [], askFor: ["bash"], approver: store },
      signal: cancel.signal,
      onEvent: (event) => {
        events.push(event);
        if (event.type === "approval.request") setTimeout(() => cancel.abort(new Error("enough")), 50);
      },
    });
    await expect(episode).rejects.toThrow("enough");
    const order = events.map(({ type }) => type);
    expect(order.slice(order.indexOf("approval.request"))).toEqual([
      ...["approval.request", "approval.answer", "guard.totals", "episode.end"],
    ]);
    expect(events.at(-3)).toMatchObject({ granted: false, by: "cancelled" });
    expect(store.pending()).toEqual([]);
  });

  test("does not let the sandbox end while a person thinks", async () => {
    const store = await approvals(60_000);
    const { results, of, termination, reward } = await guarded(driver, ["echo kept > f", "cat f"], {
      instance: instance({ limits: { ...instance().limits, lifetimeMs: 2_500 } }),
      watch: { rules: [], collectors: [], askFor: ["bash"], approver: store },
      onEvent: (event) => {
        if (event.type === "approval.request")
          setTimeout(() => store.answer(event.id, { granted: true, by: "user:ada" }), 3_000);
      },
    });
    expect(of("approval.answer").map(({ granted, waitedMs }) => [granted, waitedMs > 2_500])).toEqual([
      [true, true],
      [true, true],
    ]);
    expect(results[1]!.content).toContain("kept");
    expect([termination, reward]).toEqual(["submitted", 1]);
  }, 60_000);

  test("waits no longer than a server's sandbox lives, and leaves the agent time to go on", async () => {
    const directory = await mkdtemp(join(tmpdir(), "ale-warden-"));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
    await using server = await serveRock({ home: directory, port: 0, driver });
    await using client = connectRock({ url: server.url, token: server.firstToken! });
    const { results, of, termination, reward } = await guarded(client.driver, ["echo never", "submit"], {
      instance: instance({ limits: { ...instance().limits, lifetimeMs: 6_000 } }),
      watch: { rules: [], collectors: [], askFor: ["bash"], approver: await approvals(600_000) },
    });
    expect(of("approval.request")[0]!.timeoutMs).toBeLessThanOrEqual(3_000);
    expect(of("approval.answer")).toMatchObject([
      { granted: false, by: "timeout", reason: "the sandbox would not have lived until a later answer" },
    ]);
    expect(results[0]).toMatchObject({ guard: "refused", content: wardenTexts.refused(undefined) });
    expect([termination, reward]).toEqual(["submitted", 1]);
  }, 60_000);

  test("makes one alert of a call that nobody approved, whatever its rule looks at", async () => {
    const { of } = await guarded(driver, ["shred f"], {
      watch: { rules: TEXT_RULE, approver: await approvals(50) },
      instance: instance({ guard: { responses: { "no-shred": "approve" } } }),
    });
    expect(of("approval.request")).toMatchObject([{ rule: "no-shred" }]);
    expect(of("alert")).toMatchObject([{ alert: { rule: "no-shred", response: "approve" } }]);
    expect(of("response")).toMatchObject([{ rule: "no-shred", response: "approve" }]);
  });

  test("asks for every call of a tool that needs it, and tells the agent a person's reason", async () => {
    const store = await approvals();
    const { results, of } = await guarded(driver, ["ls"], {
      watch: { rules: [], askFor: ["bash"], approver: store },
      onEvent: (event) => {
        if (event.type === "approval.request")
          setTimeout(
            () => store.answer(event.id, { granted: false, by: "user:ada", reason: "Not now." }),
            20,
          );
      },
    });
    expect(results[0]!.content).toBe(wardenTexts.refused("Not now."));
    expect(of("approval.request")).toMatchObject([{ rule: "ask:bash" }]);
    expect(of("alert")).toEqual([]);
  });

  test("asks for the tools that an instance names, where there are responses at all", async () => {
    const asking = instance({ guard: { ask: ["bash"] } });
    const watch = { rules: [], collectors: [], approver: await approvals(50) };
    const asked = await guarded(driver, ["ls"], { instance: asking, watch });
    expect(asked.of("approval.request")).toMatchObject([{ rule: "ask:bash" }]);
    const recorded = await guarded(driver, ["ls"], {
      instance: asking,
      watch: { ...watch, responses: false },
    });
    expect(recorded.of("approval.request")).toEqual([]);
    expect(recorded.results[0]!.guard).toBeUndefined();
  });

  test("does not begin where an instance names a tool that is not there: nothing would be asked", async () => {
    const { of, results } = await guarded(driver, ["ls"], {
      instance: instance({ guard: { ask: ["bahs"] } }),
    });
    expect(results).toEqual([]);
    expect(of("fault")).toMatchObject([{ detail: expect.stringContaining("there is no tool bahs") }]);
    expect(of("episode.end")).toMatchObject([{ termination: "environment-fault" }]);
  });

  test("asks nobody where nobody is: the answer is no, by policy", async () => {
    const { of, results } = await guarded(driver, ["ls"], {
      watch: { rules: [], askFor: ["bash"], approver: denyAll },
    });
    expect(results[0]).toMatchObject({ guard: "refused" });
    expect(of("approval.answer")).toMatchObject([{ granted: false, by: "policy" }]);
  });

  test("ends the episode before a call that a rule stops, without a verdict", async () => {
    const { results, of, termination, reward } = await guarded(driver, ["shred f", "echo never"], {
      watch: { rules: TEXT_RULE },
      instance: instance({ guard: { responses: { "no-shred": "stop" } } }),
    });
    expect(results).toMatchObject([{ guard: "refused" }]);
    expect(of("response")).toMatchObject([{ rule: "no-shred", response: "stop" }]);
    expect([termination, reward]).toEqual(["stopped-by-guard", undefined]);
  });

  test("only records where responses are off", async () => {
    const { results, of, termination } = await guarded(driver, ["echo a > f; rm f; shred f"], {
      watch: {
        responses: false,
        rules: [...onCall("no-shred", "shred", "stop"), ...onCall("ask-rm", "rm", "approve")],
      },
    });
    expect(results[0]!.guard).toBeUndefined();
    expect(of("response")).toEqual([]);
    expect(of("approval.request")).toEqual([]);
    expect(termination).toBe("submitted");
  });

  test("records the same as it always did where a recipe says nothing of guard", async () => {
    const guardedPath = { path: "/work/key", forbid: "write", rule: "evaluator-tampering" } as const;
    const { events, of } = await guarded(driver, ["echo x > key", "ssh -R 1:localhost:1 x.y"], {
      watch: plainWatch,
      instance: instance({
        files: [{ path: "/work/key", content: "a", mode: 0o644, owner: "agent" }],
        protectedPaths: [guardedPath],
      }),
    });
    expect(of("alert").map(({ alert }) => [alert.chunk, alert.rule, alert.source, alert.response])).toEqual([
      [0, "evaluator-tampering", "file", undefined],
      [1, "ssh-tunnel", "command", undefined],
    ]);
    expect(events.filter(({ type }) => ["telemetry", "response"].includes(type))).toEqual([]);
  });

  describe.skipIf(!sources.includes("tracefs"))("told by the kernel", () => {
    test("stops the episode in the middle of a command, with its result recorded", async () => {
      const { results, of, events, termination, reward } = await guarded(
        driver,
        ["echo begun; sh tool.sh; sleep 60; echo never", "echo never"],
        { watch: { rules: onFactor("stop") }, instance: withScript() },
      );
      expect([termination, reward]).toEqual(["stopped-by-guard", undefined]);
      expect(results).toMatchObject([{ chunk: 0, guard: "interrupted", exitCode: null }]);
      expect(results[0]!.content).toContain("begun");
      expect(results[0]!.content).not.toContain("never");
      expect(of("alert")).toMatchObject([{ chunk: 0, alert: { rule: "no-factor", response: "stop" } }]);
      const order = events.map(({ type }) => type).filter((type) => type !== "telemetry");
      expect(order.slice(-5)).toEqual(["alert", "response", "tool.result", "guard.totals", "episode.end"]);
    }, 120_000);

    test("waits for nobody any more when it stops the episode meanwhile", async () => {
      const store = await approvals(60_000);
      const { results, of, termination } = await guarded(
        driver,
        ["(sleep 1; sh tool.sh) > /dev/null 2>&1 &", thinking("touch f")],
        {
          watch: {
            rules: [...onFactor("stop"), ...onCall("ask-touch", "touch", "approve")],
            approver: store,
          },
          instance: withScript(),
        },
      );
      expect(termination).toBe("stopped-by-guard");
      expect(of("approval.request")).toMatchObject([{ rule: "ask-touch", chunk: 1 }]);
      expect(of("approval.answer")).toMatchObject([{ granted: false, by: "cancelled", chunk: 1 }]);
      expect(results[1]).toMatchObject({ guard: "refused" });
      expect(store.pending()).toEqual([]);
    }, 120_000);

    test("warns the agent below its next observation", async () => {
      let tell = () => {};
      const told = new Promise<void>((resolve) => {
        tell = resolve;
      });
      const afterAlert = async () => {
        await told;
        return "echo next";
      };
      const { results, of, termination } = await guarded(driver, ["sh tool.sh", afterAlert], {
        watch: { rules: onFactor("warn") },
        instance: withScript(),
        onEvent: (event) => {
          if (event.type === "alert") tell();
        },
      });
      expect(termination).toBe("submitted");
      // Whether the kernel's word comes before the first call has ended is chance; the agent hears of it either way, once.
      const warned = results.filter(({ note }) => note !== undefined);
      expect(warned).toHaveLength(1);
      expect(warned[0]!.content.endsWith(warned[0]!.note!)).toBe(true);
      expect(warned[0]!.note).toContain("no-factor");
      expect(of("response")).toMatchObject([{ rule: "no-factor", response: "warn" }]);
    }, 120_000);

    test("blames the chunk that started a process for what it does chunks later", async () => {
      let tell = () => {};
      const told = new Promise<void>((resolve) => {
        tell = resolve;
      });
      const { of } = await guarded(
        driver,
        [
          "true",
          thinking("(while [ ! -e go ]; do sleep 0.05; done; sh tool.sh) > /dev/null 2>&1 &"),
          thinking("true"),
          thinking("touch go"),
          async () => {
            await told;
            return "true";
          },
        ],
        {
          watch: { rules: onFactor("record") },
          instance: withScript(),
          onEvent: (event) => {
            if (event.type === "alert") tell();
          },
        },
      );
      expect(of("alert")).toMatchObject([
        { alert: { rule: "no-factor", chunk: 1, during: 3, attribution: "ancestry" } },
      ]);
    }, 120_000);

    test("keeps a quarantined sandbox frozen, and its files as a snapshot that can be forked", async () => {
      const { episode, results, of, events, termination, reward } = await guarded(
        driver,
        ["echo loot > /work/loot; sh tool.sh; sleep 60", "echo never"],
        { watch: { rules: onFactor("quarantine") }, instance: withScript() },
      );
      expect([termination, reward]).toEqual(["stopped-by-guard", undefined]);
      expect(results).toMatchObject([{ guard: "interrupted" }]);
      const [response] = of("response");
      expect(response).toMatchObject({ response: "quarantine", rule: "no-factor" });
      expect(events.indexOf(response!)).toBeLessThan(events.findIndex(({ type }) => type === "tool.result"));

      const snapshot = await driver.snapshots.get(response!.snapshot!);
      expect(snapshot).toMatchObject({ labels: { quarantine: "no-factor" } });
      const evidence = driver.list().find(({ id }) => id === snapshot!.sandbox)!;
      await expect(evidence.exec({ argv: ["true"] })).rejects.toMatchObject({ code: "sandbox-frozen" });
      await evidence.destroy();

      const [fork] = await driver.snapshots.fork(snapshot!.id, 1);
      expect((await fork!.exec({ argv: ["cat", "/work/loot"] })).stdout).toBe("loot\n");
      await fork!.destroy();
      await driver.snapshots.remove(snapshot!.id);

      // What is left when the driver's process has ended.
      const image = evidenceImage(episode);
      await using later = openOciDriver({ home });
      await using again = await later.create({ ...evidence.spec, image, files: [] });
      expect((await again.exec({ argv: ["cat", "/work/loot"] })).stdout).toBe("loot\n");
      await again.destroy();
      releaseEvidence(home, episode, { by: "test", reason: "it is a test's" });
      expect(pruneEvidence(home).removed).toContainEqual({ id: episode, bytes: expect.any(Number) });
    }, 120_000);
  });
});
