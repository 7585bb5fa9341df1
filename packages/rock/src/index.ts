export { AGENT, type BootstrapProgress } from "./bootstrap.ts";
export { defaultHome, OciDriver, type OciDriverOptions, openOciDriver } from "./driver.ts";
export { BASE_IMAGE, baseImage, type EnsureOptions, ensureBaseImage, type Image } from "./image.ts";
export { type Check, probeHost } from "./probe.ts";
export * from "./sandbox.ts";
