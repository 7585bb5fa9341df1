/** The interfaces of ROCK, GEM, EnvHub and E2B, as plugins of a server: only who serves needs them. */
export { builtInGames, type CompatApiOptions, compatApis } from "./apis.ts";
export { DEFAULT_ENVIRONMENT, EnvHubStore, type EnvInfo } from "./envhub/store.ts";
export { driverHost } from "./gem/driver-host.ts";
export * from "./gem/registry.ts";
export { ociImages } from "./oci-images.ts";
export type { ImageSink } from "./rock/commit.ts";
