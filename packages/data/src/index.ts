export * from "./batches.ts";
export * from "./filters.ts";
export * from "./rename.ts";
export * from "./sft-set.ts";
