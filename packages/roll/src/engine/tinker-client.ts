import { AleError } from "@ale/core";
import { type EngineCallOptions, type EngineCalls, engineCalls } from "./calls.ts";
import { type Datum, datumToWire } from "./datum.ts";
import type {
  AdamSettings,
  LossResult,
  SavedWeights,
  TinkerClient,
  TinkerModel,
  TinkerSampler,
  TinkerSession,
} from "./tinker.ts";
import {
  CapabilitiesAnswer,
  CreateModelResult,
  LoadWeightsResult,
  LossAnswer,
  OptimResult,
  parseAnswer,
  SampleAnswer,
  SamplingSessionAnswer,
  SaveForSamplerResult,
  SaveWeightsResult,
  SessionAnswer,
} from "./wire.ts";

export interface TinkerClientOptions extends EngineCallOptions {
  /** Time between signs of life of a session. */
  readonly heartbeatMs?: number;
}

export function connectTinker(options: TinkerClientOptions): TinkerClient {
  const calls = engineCalls(options);
  const sessions = new Set<TinkerSession>();
  return {
    baseUrl: options.baseUrl,
    health: async (signal) => {
      await calls.get("/healthz", signal);
    },
    models: async (signal) => {
      const answer = await calls.get("/get_server_capabilities", signal);
      const { supported_models } = parseAnswer("get_server_capabilities", CapabilitiesAnswer, answer);
      return supported_models.map((model) => (typeof model === "string" ? model : model.model_name));
    },
    createSession: async (signal) => {
      const body = { tags: [], user_metadata: {}, sdk_version: "0.38.0", type: "create_session" };
      const answer = await calls.post("/create_session", body, signal);
      const { session_id } = parseAnswer("create_session", SessionAnswer, answer);
      const session = openSession(calls, session_id, options.heartbeatMs ?? 10_000);
      sessions.add(session);
      return session;
    },
    close: () => {
      for (const session of sessions) session.close();
      calls.close();
    },
  };
}

function openSession(calls: EngineCalls, id: string, heartbeatMs: number): TinkerSession {
  const heartbeat = setInterval(() => {
    // A lost sign of life is not worth an error: the next real call will say what is wrong.
    calls.post("/session_heartbeat", { session_id: id, type: "session_heartbeat" }).catch(() => {});
  }, heartbeatMs);
  heartbeat.unref();
  let models = 0;
  const samplers = { next: 0 };
  return {
    id,
    createModel: async (request, signal) => {
      const body = {
        session_id: id,
        model_seq_id: models++,
        base_model: request.baseModel,
        lora_config: {
          rank: request.rank ?? 0,
          seed: request.seed,
          train_attn: true,
          train_mlp: true,
          train_unembed: true,
        },
        type: "create_model",
      };
      const result = await calls.run("/create_model", body, signal);
      return openModel(calls, parseAnswer("create_model", CreateModelResult, result).model_id, samplers);
    },
    loadModel: async (path, optimizer, signal) => {
      const model_seq_id = models++;
      const body = { session_id: id, model_seq_id, path, optimizer, type: "load_weights" };
      const result = await calls.run("/load_weights", body, signal);
      // The SDK fixes the name of such a model and does not look at the answer, so that servers may leave it out.
      const { model_id = `${id}:train:${model_seq_id}` } = parseAnswer(
        "load_weights",
        LoadWeightsResult,
        result,
      );
      return openModel(calls, model_id, samplers);
    },
    openSampler: async (of, signal) => {
      const body = {
        session_id: id,
        sampling_session_seq_id: samplers.next++,
        ...("modelPath" in of ? { model_path: of.modelPath } : { base_model: of.baseModel }),
        type: "create_sampling_session",
      };
      const answer = await calls.post("/create_sampling_session", body, signal);
      return openSampler(
        calls,
        parseAnswer("create_sampling_session", SamplingSessionAnswer, answer).sampling_session_id,
      );
    },
    finish: async (signal) => {
      clearInterval(heartbeat);
      await calls.post(`/sessions/${id}/finish`, { reason: { type: "success" }, detail: null }, signal);
    },
    close: () => clearInterval(heartbeat),
  };
}

function openModel(calls: EngineCalls, id: string, samplers: { next: number }): TinkerModel {
  let sequence = 1;
  let last: Promise<unknown> = Promise.resolve();
  let interrupted: unknown = null;
  /** One call after the other, each with the next sequence number. A call that was aborted before its turn takes none. */
  const inTurn = (path: string, body: object, signal?: AbortSignal): Promise<unknown> => {
    const turn = last.then(async () => {
      signal?.throwIfAborted();
      if (interrupted !== null) throw uncertain(id, interrupted);
      try {
        const numbered = { model_id: id, seq_id: sequence++, type: path.slice(1), ...body };
        return await calls.run(path, numbered, signal);
      } catch (error) {
        // The server skips no number: going on after one that may never have arrived would wait for ever.
        if (!isAnswer(error)) interrupted = error;
        throw error;
      }
    });
    last = turn.catch(() => {});
    return turn;
  };
  const loss = async (
    path: "/forward" | "/forward_backward",
    data: readonly Datum[],
    signal?: AbortSignal,
  ) => {
    const input = { data: data.map(datumToWire), loss_fn: "cross_entropy" };
    const answer = await inTurn(path, { [`${path.slice(1)}_input`]: input }, signal);
    return lossResult(path, data, answer);
  };
  return {
    id,
    forward: (data, signal) => loss("/forward", data, signal),
    forwardBackward: (data, signal) => loss("/forward_backward", data, signal),
    optimStep: async (adam, signal) => {
      const answer = await inTurn("/optim_step", { adam_params: adamToWire(adam) }, signal);
      const metrics = parseAnswer("optim_step", OptimResult, answer).metrics ?? {};
      return { gradNorm: metrics.grad_norm ?? metrics["skyrl.ai/grad_norm"] ?? null, metrics };
    },
    saveWeights: async (name, signal) => {
      const answer = await inTurn("/save_weights", { path: name }, signal);
      return savedWeights("save_weights", answer);
    },
    loadWeights: async (path, optimizer, signal) => {
      await inTurn("/load_weights", { path, optimizer }, signal);
    },
    saveSamplerWeights: async (name, signal) => {
      const answer = await inTurn("/save_weights_for_sampler", { path: name, kind: "snapshot" }, signal);
      return savedWeights("save_weights_for_sampler", answer);
    },
    sampler: async (signal) => {
      const body = { sampling_session_seq_id: samplers.next++, kind: "snapshot" };
      const answer = await inTurn("/save_weights_for_sampler", body, signal);
      const session = parseAnswer(
        "save_weights_for_sampler",
        SaveForSamplerResult,
        answer,
      ).sampling_session_id;
      if (session) return openSampler(calls, session);
      throw new AleError(
        "engine-protocol",
        "the engine saved sampler weights but opened no sampling session",
      );
    },
  };
}

/** Whether the server carried out its part, if only to refuse. */
const isAnswer = (error: unknown): boolean =>
  error instanceof AleError && (error.code === "engine-rejected" || error.code === "engine-failed");

const uncertain = (model: string, cause: unknown): AleError =>
  new AleError("engine-uncertain", `a call to model ${model} was interrupted; what it did is not known`, {
    next: "go on from the last saved weights",
    cause,
  });

function savedWeights(call: string, answer: unknown): SavedWeights {
  const { path, directory = null } = parseAnswer(call, SaveWeightsResult, answer);
  return { path, directory };
}

function lossResult(path: string, data: readonly Datum[], answer: unknown): LossResult {
  const { loss_fn_outputs, metrics } = parseAnswer(path, LossAnswer, answer);
  const logprobs = loss_fn_outputs.map((output) => output.logprobs.data);
  const fits =
    logprobs.length === data.length && logprobs.every((row, i) => row.length === data[i]!.targets.length);
  if (!fits)
    throw new AleError("engine-protocol", `the engine's answer to ${path} does not fit the data it was sent`);
  return { logprobs, loss: metrics?.["loss:sum"] ?? null };
}

function adamToWire(adam: AdamSettings): object {
  return {
    learning_rate: adam.learningRate,
    beta1: adam.beta1,
    beta2: adam.beta2,
    eps: adam.eps,
    weight_decay: adam.weightDecay,
    grad_clip_norm: adam.gradClipNorm,
  };
}

function openSampler(calls: EngineCalls, id: string): TinkerSampler {
  let sequence = 0;
  return {
    id,
    sample: async (request, signal) => {
      const body = {
        sampling_session_id: id,
        seq_id: sequence++,
        num_samples: request.samples ?? 1,
        prompt: { chunks: [{ type: "encoded_text", tokens: request.prompt }] },
        sampling_params: {
          max_tokens: request.maxTokens,
          temperature: request.temperature,
          top_p: request.topP,
          top_k: request.topK,
          stop: request.stop,
          seed: request.seed,
        },
        type: "sample",
      };
      const { sequences } = parseAnswer("asample", SampleAnswer, await calls.run("/asample", body, signal));
      return sequences.map(({ tokens, logprobs, stop_reason }) => ({
        tokens,
        logprobs,
        stopReason: stop_reason,
      }));
    },
  };
}
