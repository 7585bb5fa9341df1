import { getName } from "../image/names.ts";
import { pushImage } from "../image/push.ts";
import { openStore } from "../image/store.ts";
import { commitSandbox, type LayeredDriver } from "../snapshot/commit.ts";
import type { ImageSink } from "./rock/commit.ts";

/** Where ROCK's commit puts images when sandboxes are OCI containers: the home's own store. */
export const ociImages = (driver: LayeredDriver): ImageSink => ({
  has: (name) => getName(openStore(driver.home), name) !== undefined,
  commit: async (sandbox, name, signal) => {
    await commitSandbox(driver, sandbox, name, signal);
  },
  push: async (name, reference, credentials, signal) => {
    const auth = credentials === undefined ? {} : { auth: credentials };
    await pushImage(driver.home, name, reference, { ...auth, dockerConfig: null }, signal);
  },
});
