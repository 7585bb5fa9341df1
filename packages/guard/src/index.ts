export { type ApprovalChange, approvalChanges } from "./approvals/changes.ts";
export {
  type Answered,
  type ApprovalState,
  ApprovalStore,
  type ApprovalStoreOptions,
  type AskedApproval,
  approvalsOf,
  DEFAULT_APPROVAL_MS,
  type GivenAnswer,
  type PendingApproval,
} from "./approvals/store.ts";
export { causeKey } from "./episode/cause.ts";
export { EpisodeGuard, type GuardRequest } from "./episode/episode-guard.ts";
export type { Decision, Judgement, RefusedRecord } from "./episode/judgement.ts";
export * from "./evidence.ts";
export * from "./evidence-check.ts";
export { signatureFinding, signatureText, signed } from "./evidence-signature.ts";
export * from "./fingerprint.ts";
export * from "./incident.ts";
export { type AlertLine, type Attempt, attemptsOf } from "./incident-head.ts";
export { incidentsOf } from "./incidents.ts";
export { EpisodeMonitor, type MonitorReport, protectedPathsOf } from "./monitor.ts";
export type { Act } from "./outside/act.ts";
export { actsOf, type RecordedAct } from "./outside/acts.ts";
export type { ImportFault, OutsideAlarm } from "./outside/alarm.ts";
export type { Anchor, ClockStretch } from "./outside/clock.ts";
export { MAX_SKEW_MS } from "./outside/explanation.ts";
export { FieldMap } from "./outside/formats.ts";
export {
  AlarmReader,
  type Imported,
  type ImportFormat,
  type ImportOptions,
  importAlarms,
} from "./outside/import.ts";
export {
  type Candidate,
  type Landed,
  type Landing,
  type LandingOptions,
  landAlarms,
} from "./outside/landing.ts";
export {
  type AlarmLine,
  type AlarmPlace,
  alarmDigest,
  alarmLineOf,
  anchorsOf,
  isSameLanding,
  LANDING_STATUS,
  LedgerEvent,
  mainClock,
  type OutsideAlarmLine,
  type OutsideImport,
  type OutsideMatch,
  standingAlarms,
} from "./outside/ledger.ts";
export type { Unmatched } from "./outside/unmatched.ts";
export { effectsOf, type PathEffect } from "./path-effects.ts";
export * from "./penalty.ts";
export * from "./rule.ts";
export * from "./rule-pack.ts";
export { cleanPassRate, isCleanPass, violationRate } from "./safety-figures.ts";
export { commandsOf, type ShellState, type SimpleCommand, shellStart } from "./shell-commands.ts";
export type { Argument } from "./shell-prefixes.ts";
export { compileRules, type RuleEngine, type RuleMatch, type TelemetryLike } from "./sigma/engine.ts";
export { faultText, type RuleFault } from "./sigma/fault.ts";
export { type LoadResult, loadRules, type RuleSource } from "./sigma/load.ts";
export {
  checkFixtures,
  type FixtureFailure,
  type FixtureReport,
  readPacks,
  readRules,
  SHIPPED_RULES,
  shippedRules,
} from "./sigma/pack.ts";
export {
  type CorrelationRule,
  type EventRule,
  factsOf,
  familyOf,
  isCorrelation,
  type RuleFacts,
  type SigmaRule,
} from "./sigma/rule.ts";
export type { Correlated } from "./sigma/window.ts";
