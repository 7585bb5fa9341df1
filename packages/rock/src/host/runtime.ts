import { spawnSync } from "node:child_process";

/** "crun 1.8.1", or undefined where it does not run. */
export function runtimeVersion(path: string): string | undefined {
  const result = spawnSync(path, ["--version"], { encoding: "utf8" });
  const version = /^crun version (\S+)/m.exec(result.stdout ?? "")?.[1];
  return result.status === 0 && version ? `crun ${version}` : undefined;
}
