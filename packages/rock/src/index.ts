export { type Check, probeHost } from "./host/probe.ts";
export { AGENT, type BootstrapProgress } from "./image/bootstrap.ts";
export { BASE_IMAGE, baseImage, type EnsureOptions, ensureBaseImage, type Image } from "./image/image.ts";
export { defaultHome, OciDriver, type OciDriverOptions, openOciDriver } from "./oci/driver.ts";
export * from "./sandbox.ts";
