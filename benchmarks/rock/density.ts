import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { openOciDriver, type Sandbox } from "../../packages/rock/src/index.ts";
import { type BenchContext, measured, type Result } from "../benchmark.ts";
import { plain, spread, timed } from "./lab.ts";

/** Idle sandboxes alive at once, what each costs, and how many are made and destroyed a second over a minute. */
export async function density(context: BenchContext): Promise<Result[]> {
  return [...(await alive(context)), ...(await churn(context))];
}

async function alive(context: BenchContext): Promise<Result[]> {
  const count = context.quick ? 50 : 1000;
  await using driver = openOciDriver({ concurrency: 4 });
  await (await driver.create(plain())).destroy();
  const before = await settledAvailable();
  const boxes: Sandbox[] = [];
  const startedAt = performance.now();
  await spread(count, 4, () => timed(async () => void boxes.push(await driver.create(plain()))));
  const seconds = (performance.now() - startedAt) / 1000;
  const each = (before - (await settledAvailable())) / count / 2 ** 20;
  // They are all there: each answers.
  let answers = 0;
  for (const box of boxes) if ((await box.exec({ argv: ["/bin/true"] })).exitCode === 0) answers++;
  await Promise.all(boxes.map((box) => box.destroy()));
  return [
    measured("idle sandboxes alive at once, all answering", answers, "sandboxes", { atLeast: count }),
    measured("memory of the machine that each takes", each, "MiB", { atMost: 1 }),
    measured("created per second meanwhile", count / seconds, "1/s"),
  ];
}

async function churn(context: BenchContext): Promise<Result[]> {
  const seconds = context.quick ? 5 : 60;
  const before = leftovers();
  let made = 0;
  let longestStall = 0;
  {
    await using driver = openOciDriver({ concurrency: 6 });
    await (await driver.create(plain())).destroy();
    const deadline = performance.now() + seconds * 1000;
    const stalls = watchStalls((ms) => {
      longestStall = Math.max(longestStall, ms);
    });
    const worker = async (): Promise<void> => {
      while (performance.now() < deadline) {
        context.signal.throwIfAborted();
        await (await driver.create(plain())).destroy();
        made++;
      }
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    stalls();
  }
  const leaked = Object.entries(leftovers()).filter(([what, count]) => count > before[what]!);
  return [
    measured(`create + destroy per second, sustained for ${seconds} s`, made / seconds, "1/s", {
      atLeast: 50,
    }),
    measured(
      "mounts, control groups, network namespaces, loop devices, processes left afterwards",
      leaked.length,
      "kinds",
      { atMost: 0 },
    ),
    measured("longest stall of the event loop meanwhile", longestStall, "ms"),
  ];
}

function watchStalls(onStall: (ms: number) => void): () => void {
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    onStall(now - last - 5);
    last = now;
  }, 5);
  return () => clearInterval(timer);
}

async function settledAvailable(): Promise<number> {
  await sleep(1500);
  const line = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync("/proc/meminfo", "utf8"));
  return Number(line?.[1]) * 1024;
}

/** What sandboxes leave on a host when they leak. */
function leftovers(): Record<string, number> {
  const names = (path: string): string[] => {
    try {
      return readdirSync(path);
    } catch {
      return [];
    }
  };
  const groups = names("/sys/fs/cgroup").flatMap((hierarchy) => names(`/sys/fs/cgroup/${hierarchy}/ale`));
  return {
    mounts: readFileSync("/proc/self/mountinfo", "utf8").split("\n").length,
    groups: groups.filter((name) => name.startsWith("sb-")).length,
    loops: names("/sys/block").filter((name) => names(`/sys/block/${name}/loop`).length > 0).length,
    processes: names("/proc").filter((pid) => /^\d+$/.test(pid) && isInit(pid)).length,
  };
}

function isInit(pid: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "init" && pid !== "1";
  } catch {
    return false;
  }
}
