export { DockerDriver, openDockerDriver } from "./docker/docker-driver.ts";
export type { DockerDriverOptions, Unenforced } from "./docker/open-engine.ts";
export { findSocket } from "./docker/socket.ts";
export { policyText } from "./egress/policy-text.ts";
export { type EvidenceRecord, evidenceImage, findEvidence } from "./evidence/book.ts";
export { type Quarantine, type QuarantineOptions, quarantine } from "./evidence/keep.ts";
export {
  type EvidenceInfo,
  type EvidencePrune,
  listEvidence,
  pruneEvidence,
  releaseEvidence,
} from "./evidence/manage.ts";
export { packDirectory, unpackDirectory } from "./files/local.ts";
export { defaultHome } from "./host/home.ts";
export { DEFAULT_ID_RANGE, type IdRangeOptions } from "./host/id-ranges.ts";
export { type Check, probeHost } from "./host/probe.ts";
export { enterRootless, isRootless, rootlessObstacle } from "./host/rootless.ts";
export { RUNTIMES, type RuntimeName } from "./host/runtime.ts";
export { type ExportFormat, type ExportOptions, exportImage } from "./image/archive-export.ts";
export { type ImportOptions, importImage } from "./image/archive-import.ts";
export { AGENT, type BootstrapProgress } from "./image/bootstrap.ts";
export { type BuildOptions, type BuildResult, buildImage } from "./image/build.ts";
export type { BuildProgress } from "./image/build-progress.ts";
export {
  BASE_IMAGE,
  baseImage,
  type EnsureOptions,
  ensureBaseImage,
  type Image,
  resolveImage,
} from "./image/image.ts";
export { type ImageConfig, imageLabel, type LocalImage } from "./image/local-image.ts";
export {
  type ImageDisk,
  type ImageInfo,
  imageDisk,
  listImages,
  pruneImages,
  type Removal,
  removeImage,
} from "./image/manage.ts";
export { type PullOptions, type PullProgress, pullImage } from "./image/pull.ts";
export { type PushOptions, type PushProgress, type PushResult, pushImage } from "./image/push.ts";
export {
  type BootstrapImageOptions,
  bootstrapImage,
  ensurePythonImage,
  mapImage,
  PYTHON_IMAGE,
} from "./image/recipe.ts";
export type { RegistryOptions } from "./image/registry.ts";
export type { Credentials } from "./image/registry-auth.ts";
export { removeOldToolboxes } from "./inside/old-toolboxes.ts";
export type { DeniedCall } from "./oci/denied-calls.ts";
export { openOciDriver } from "./oci/driver.ts";
export { DurableOciDriver } from "./oci/durable-driver.ts";
export { type HostReport, inspectHost, type Orphan, type SpaceReport } from "./oci/inspect.ts";
export { OciDriver } from "./oci/oci-driver.ts";
export type { OciDriverOptions } from "./oci/options.ts";
export { type Reset, resetHome } from "./oci/reset.ts";
export { readRuntimeLog } from "./oci/runtime-log.ts";
export * from "./port/capabilities.ts";
export * from "./port/driver.ts";
export * from "./port/durable.ts";
export * from "./port/files.ts";
export { refuseTooWide } from "./port/network.ts";
export * from "./port/process.ts";
export * from "./port/sandbox.ts";
export * from "./port/session.ts";
export * from "./port/snapshot.ts";
export * from "./port/snapshots.ts";
export { commitSandbox, isLayered } from "./snapshot/commit.ts";
