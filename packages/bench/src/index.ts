export {
  type Admission,
  type AdmissionOptions,
  admit,
  type Finding,
  oracleActor,
  type Run,
  sandboxRun,
} from "./admission.ts";
export { isAnother, openEnvironment, policyOf, specOf } from "./environment.ts";
export {
  type ActionResult,
  type Actor,
  type Execution,
  executeAction,
  executeActions,
  scripted,
} from "./executor.ts";
export type * from "./family.ts";
export {
  familyEnvironment,
  familyEnvironments,
  type InstanceEnvironmentOptions,
  instanceEnvironment,
} from "./gem.ts";
export { harborFiles, writeHarborTask } from "./harbor.ts";
export {
  type HarborIssue,
  type HarborNetwork,
  type HarborTables,
  harborNetwork,
  harborNetworkLines,
} from "./harbor-network.ts";
export { runInstall } from "./install.ts";
export { type Expert, type ExpertOptions, type ExpertStep, expertPolicy } from "./oracle.ts";
export { contentDigest, FAMILIES, heldoutSet, makeTask, secretSalt, splitOf } from "./registry.ts";
export {
  clusteredStandardError,
  type Difference,
  fisherExact,
  type Interval,
  type MeanEstimate,
  mcnemarExact,
  meanOf,
  newcombe,
  type PairedDifference,
  pairedDifference,
  type Rate,
  studentInterval,
  wilson,
} from "./statistics.ts";
export { rewardOf, testResults, verify } from "./verifier.ts";
export { COPIED_NUMBERS, NAMES, NANO_WORDS, pieces, unknownPieces } from "./words.ts";
