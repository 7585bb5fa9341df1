export * from "./fingerprint.ts";
export { EpisodeMonitor, type MonitorReport, protectedPathsOf } from "./monitor.ts";
export type { Imported, ImportFault, OutsideAlarm } from "./outside/alarm.ts";
export { FieldMap } from "./outside/formats.ts";
export { type ImportFormat, type ImportOptions, importAlarms } from "./outside/import.ts";
export {
  type Candidate,
  type ClockSkew,
  type Landing,
  type LandingOptions,
  landAlarms,
  type NetworkAct,
} from "./outside/landing.ts";
export { effectsOf, type PathEffect } from "./path-effects.ts";
export * from "./penalty.ts";
export * from "./rule.ts";
export * from "./rule-pack.ts";
export { cleanPassRate, isCleanPass, violationRate } from "./safety-figures.ts";
export { commandsOf, type ShellState, type SimpleCommand, shellStart } from "./shell-commands.ts";
export type { Argument } from "./shell-prefixes.ts";
export { compileRules, type RuleEngine, type RuleMatch, type TelemetryLike } from "./sigma/engine.ts";
export { faultText, type RuleFault } from "./sigma/fault.ts";
export { type LoadResult, loadRules } from "./sigma/load.ts";
export {
  checkFixtures,
  type FixtureFailure,
  type FixtureReport,
  readRules,
  SHIPPED_RULES,
} from "./sigma/pack.ts";
export {
  type CorrelationRule,
  type EventRule,
  factsOf,
  isCorrelation,
  RESPONSES,
  Response,
  type RuleFacts,
  type SigmaRule,
} from "./sigma/rule.ts";
export type { Correlated } from "./sigma/window.ts";
