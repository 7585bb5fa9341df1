import { z } from "zod";
import type { Capabilities } from "../port/capabilities.ts";
import type { Engine } from "./engine.ts";

/** What an engine says about itself and its host. */

const Info = z.object({
  Driver: z.string().default(""),
  DriverStatus: z
    .array(z.array(z.string()))
    .nullish()
    .transform((rows) => rows ?? []),
  MemoryLimit: z.boolean().default(false),
  SwapLimit: z.boolean().default(false),
  CpuCfsQuota: z.boolean().default(false),
  PidsLimit: z.boolean().default(false),
  NCPU: z.number(),
  MemTotal: z.number(),
  CgroupVersion: z.string().default(""),
  DefaultRuntime: z.string().default(""),
  Rootless: z.boolean().default(false),
  SecurityOptions: z
    .array(z.string())
    .nullish()
    .transform((options) => options ?? []),
});

export interface EngineInfo {
  readonly runtime: string;
  readonly rootless: boolean;
  readonly userns: boolean;
  readonly seccomp: boolean;
  readonly selinux: boolean;
  readonly cgroup: Capabilities["cgroup"];
  readonly enforces: Capabilities["enforces"];
  readonly cpus: number;
  readonly memoryBytes: number;
}

export async function engineInfo(engine: Engine, signal?: AbortSignal): Promise<EngineInfo> {
  const info = await engine.json("GET", "/info", Info, {}, signal);
  const has = (name: string): boolean =>
    info.SecurityOptions.some((option) => option.split(",").includes(`name=${name}`));
  const rootless = info.Rootless || has("rootless");
  const { name, version } = engine.version;
  return {
    runtime: `${name} ${version}${info.DefaultRuntime === "" ? "" : ` (${info.DefaultRuntime})`}`,
    rootless,
    userns: rootless || has("userns"),
    seccomp: has("seccomp"),
    selinux: has("selinux"),
    cgroup: info.CgroupVersion === "2" ? "v2" : info.CgroupVersion === "1" ? "v1" : "none",
    enforces: {
      cpu: info.CpuCfsQuota,
      // Without a limit on swap, memory only moves there.
      memory: info.MemoryLimit && info.SwapLimit,
      pids: info.PidsLimit,
      disk: boundsDisks(
        info.Driver,
        new Map(info.DriverStatus.map(([key = "", value = ""]) => [key, value])),
      ),
    },
    cpus: info.NCPU,
    memoryBytes: info.MemTotal,
  };
}

/** Whether `StorageOpt.size` may work. On xfs it needs project quotas too, which only the attempt tells. */
function boundsDisks(driver: string, status: ReadonlyMap<string, string>): boolean {
  if (driver === "btrfs" || driver === "zfs") return true;
  return driver.startsWith("overlay") && status.get("Backing Filesystem") === "xfs";
}
