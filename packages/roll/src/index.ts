export * from "./algorithms/algorithm.ts";
export * from "./algorithms/baselines.ts";
export * from "./algorithms/imitation.ts";
export * from "./algorithms/ipa.ts";
export * from "./algorithms/ratios.ts";
export * from "./algorithms/returns.ts";
export * from "./algorithms/sft.ts";
export * from "./algorithms/trajectory.ts";
export {
  type Datum,
  layOut,
  scoringDatum,
  type WeightedChunk,
  weightedDatum,
} from "./engine/datum.ts";
export * from "./engine/locate.ts";
export { type EngineExit, type EngineOptions, type EngineProcess, startEngine } from "./engine/process.ts";
export {
  type AdamSettings,
  type CreateModel,
  connectTinker,
  type LossResult,
  type OptimResultMetrics,
  type TinkerClient,
  type TinkerClientOptions,
  type TinkerModel,
  type TinkerSample,
  type TinkerSampleRequest,
  type TinkerSampler,
  type TinkerSession,
} from "./engine/tinker-client.ts";
export { engineUpstream } from "./engine/upstream.ts";
