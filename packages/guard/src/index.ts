export * from "./fingerprint.ts";
export { EpisodeMonitor, type MonitorReport, protectedPathsOf } from "./monitor.ts";
export { effectsOf, type PathEffect } from "./path-effects.ts";
export * from "./penalty.ts";
export * from "./rule.ts";
export * from "./rule-pack.ts";
export { cleanPassRate, isCleanPass, violationRate } from "./safety-figures.ts";
export { commandsOf, type ShellState, type SimpleCommand, shellStart } from "./shell-commands.ts";
export type { Argument } from "./shell-prefixes.ts";
