export * from "./algorithms/baselines.ts";
export * from "./algorithms/dispatch.ts";
export * from "./algorithms/imitation.ts";
export * from "./algorithms/ipa.ts";
export * from "./algorithms/ratios.ts";
export * from "./algorithms/returns.ts";
export * from "./algorithms/sft.ts";
export * from "./algorithms/trajectory.ts";
