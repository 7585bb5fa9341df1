export * from "./fingerprint.ts";
export * from "./monitor.ts";
export * from "./path-effects.ts";
export * from "./penalty.ts";
export * from "./rule.ts";
export * from "./rule-pack.ts";
export { cleanPassRate, isCleanPass, violationRate } from "./safety-figures.ts";
export * from "./shell-commands.ts";
