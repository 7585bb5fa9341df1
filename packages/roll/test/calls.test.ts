import { AleError } from "@ale/core";
import { afterEach, describe, expect, test } from "vitest";
import { engineCalls } from "../src/engine/calls.ts";
import { connectTinker, scoringDatum, weightedDatum } from "../src/index.ts";
import { reply, type Script, type ScriptedServer, scriptedServer } from "./scripted-server.ts";

let server: ScriptedServer;
const serve = async (script: Script): Promise<string> => {
  server = await scriptedServer(script);
  return server.baseUrl;
};
afterEach(() => server?.close());

describe("a server that knows the wait extension", () => {
  test("gives the result in one round trip", async () => {
    const baseUrl = await serve((_seen, response) =>
      reply(response, 200, { request_id: "7", result: { n: 1 } }),
    );
    expect(await engineCalls({ baseUrl }).run("/optim_step", { model_id: "m" })).toEqual({ n: 1 });
    expect(server.seen).toEqual([{ path: "/optim_step", body: { model_id: "m", wait: true } }]);
  });
});

describe("a server that ignores the wait extension", () => {
  test("is asked for the result until it has one", async () => {
    const waiting = [
      { status: 408, body: { detail: "not yet" } },
      { status: 200, body: { type: "try_again", request_id: "7", queue_state: "active" } },
      { status: 200, body: { n: 2 } },
    ];
    const baseUrl = await serve((seen, response) => {
      if (seen.path !== "/retrieve_future") return reply(response, 200, { request_id: 7 });
      const { status, body } = waiting.shift()!;
      reply(response, status, body);
    });
    expect(await engineCalls({ baseUrl }).run("/forward", {})).toEqual({ n: 2 });
    expect(server.seen.slice(1)).toEqual(
      new Array(3).fill({ path: "/retrieve_future", body: { request_id: "7" } }),
    );
  });

  test.each([
    ["user", "engine-rejected"],
    ["server", "engine-failed"],
    ["unknown", "engine-failed"],
  ])("fails with the message of the work when it failed by fault of the %s", async (category, code) => {
    const baseUrl = await serve((seen, response) =>
      reply(
        response,
        200,
        seen.path === "/retrieve_future" ? { error: "no such token", category } : { request_id: "7" },
      ),
    );
    await expect(engineCalls({ baseUrl }).run("/forward", {})).rejects.toMatchObject({
      code,
      message: expect.stringContaining("no such token"),
    });
  });
});

describe("failures", () => {
  test("a refused request is not repeated, and the refusal is quoted", async () => {
    const baseUrl = await serve((_seen, response) => reply(response, 400, { detail: "datum 3: holds NaN" }));
    await expect(engineCalls({ baseUrl }).run("/forward", {})).rejects.toMatchObject({
      code: "engine-rejected",
      message: expect.stringContaining("datum 3: holds NaN"),
    });
    expect(server.seen).toHaveLength(1);
  });

  test("a busy server is asked again", async () => {
    let busy = 2;
    const baseUrl = await serve((_seen, response) =>
      busy-- > 0 ? reply(response, 503, {}) : reply(response, 200, { request_id: "1", result: {} }),
    );
    expect(await engineCalls({ baseUrl }).run("/forward", {})).toEqual({});
  });

  test("a lost connection is tried again with the same body, by which the server knows the repetition", async () => {
    let lost = 2;
    const baseUrl = await serve((_seen, response, request) =>
      lost-- > 0
        ? request.socket.destroy()
        : reply(response, 200, { request_id: "1", result: { metrics: null } }),
    );
    const answer = await engineCalls({ baseUrl }).run("/optim_step", { model_id: "m", seq_id: 4 });
    expect(answer).toEqual({ metrics: null });
    expect(new Set(server.seen.map((seen) => JSON.stringify(seen))).size).toBe(1);
    expect(server.seen).toHaveLength(3);
  });

  test("a server that is not there is engine-unreachable after the given time, with the address", async () => {
    const baseUrl = await serve(() => {});
    await server.close();
    await expect(engineCalls({ baseUrl, retryMs: 200 }).get("/healthz")).rejects.toMatchObject({
      code: "engine-unreachable",
      message: expect.stringContaining(baseUrl),
    });
  });

  test("when the engine's process dies, calls in flight fail at once with its error", async () => {
    const baseUrl = await serve(() => {}); // never answers
    const error = new AleError("engine-died", "exit code 1");
    let die: (error: AleError) => void = () => {};
    const died = new Promise<AleError>((resolve) => {
      die = resolve;
    });
    const pending = engineCalls({ baseUrl, died }).run("/forward", {});
    setTimeout(() => die(error), 20);
    await expect(pending).rejects.toBe(error);
  });

  test("an aborted call rejects with the reason of its signal", async () => {
    const baseUrl = await serve(() => {});
    const reason = new Error("Ctrl-C");
    const controller = new AbortController();
    const pending = engineCalls({ baseUrl }).run("/forward", {}, controller.signal);
    setTimeout(() => controller.abort(reason), 20);
    await expect(pending).rejects.toBe(reason);
  });

  test("an answer that does not fit is engine-protocol and names the call and the field", async () => {
    const baseUrl = await serve((_seen, response) => reply(response, 200, { session: 1 }));
    await expect(connectTinker({ baseUrl }).createSession()).rejects.toMatchObject({
      code: "engine-protocol",
      message: expect.stringMatching(/create_session.*session_id/),
    });
  });

  test("log-probabilities that do not fit the data are engine-protocol", async () => {
    const baseUrl = await serve((seen, response) => {
      const results: Record<string, unknown> = {
        "/create_model": { model_id: "m" },
        "/forward": { loss_fn_outputs: [{ logprobs: { data: [-1] } }] },
      };
      const result = results[seen.path];
      reply(response, 200, result ? { request_id: "1", result } : { session_id: "s" });
    });
    const client = connectTinker({ baseUrl });
    const model = await (await client.createSession()).createModel({ baseModel: "nano" });
    await expect(model.forward([weightedDatum([1, 2, 3], [0, 1, 1])])).rejects.toMatchObject({
      code: "engine-protocol",
    });
    client.close();
  });
});

describe("the order of training calls", () => {
  test("is that in which they were made, with sequence numbers from 1 and one in flight at a time", async () => {
    let inFlight = 0;
    let most = 0;
    const baseUrl = await serve((seen, response) => {
      if (seen.path === "/create_session") return reply(response, 200, { session_id: "s" });
      if (seen.path === "/create_model")
        return reply(response, 200, { request_id: "1", result: { model_id: "m" } });
      most = Math.max(most, ++inFlight);
      setTimeout(() => {
        inFlight--;
        const path = `tinker://m/weights/${seen.body.path as string}`;
        reply(response, 200, { request_id: "1", result: { path, metrics: { grad_norm: 2 } } });
      }, 5);
    });
    const client = connectTinker({ baseUrl });
    const model = await (await client.createSession()).createModel({ baseModel: "nano" });
    const adam = { learningRate: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0, gradClipNorm: 1 };
    const [step, saved] = await Promise.all([model.optimStep(adam), model.saveWeights("a")]);
    expect(step.gradNorm).toBe(2);
    expect(saved).toEqual({ path: "tinker://m/weights/a", directory: null });
    expect(most).toBe(1);
    expect(server.seen.slice(2).map(({ path: call, body }) => [call, body.seq_id])).toEqual([
      ["/optim_step", 1],
      ["/save_weights", 2],
    ]);
    client.close();
  });

  test("is not continued after a call of which nobody knows whether it was carried out", async () => {
    const baseUrl = await serve((seen, response) => {
      if (seen.path === "/create_session") return reply(response, 200, { session_id: "s" });
      if (seen.path === "/create_model")
        return reply(response, 200, { request_id: "1", result: { model_id: "m" } });
      if (seen.path === "/save_weights")
        return reply(response, 400, { error: "exists already", category: "user" });
    });
    const client = connectTinker({ baseUrl });
    const model = await (await client.createSession()).createModel({ baseModel: "nano" });
    await expect(model.saveWeights("a")).rejects.toMatchObject({ code: "engine-rejected" });
    await expect(model.forward([scoringDatum([1, 2])], AbortSignal.timeout(50))).rejects.toMatchObject({
      name: "TimeoutError",
    });
    await expect(model.saveWeights("b")).rejects.toMatchObject({ code: "engine-uncertain" });
    client.close();
  });
});
