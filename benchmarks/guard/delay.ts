import { type Alert, NetworkPolicy, type SandboxFile } from "../../packages/core/src/index.ts";
import { openOciDriver } from "../../packages/rock/src/index.ts";
import { type BenchContext, measured, median, type Result } from "../benchmark.ts";
import { percentile } from "../rock/lab.ts";
import { ensureWorkImage, openStage, type Played, workInstance } from "./episodes.ts";

const SANDBOXES = 8;

/**
 * From the first packet or program of a violation, by the kernel's own time stamp of it, to the alert with its cause in the episode's log. In
 * every chunk of eight episodes at once there is one, in the middle of other work. What the program itself notes right before says that
 * the time stamp is no later than it should be; between the two it waits for a processor like everybody.
 */
export async function delay(context: BenchContext): Promise<Result[]> {
  await ensureWorkImage();
  await using driver = openOciDriver();
  using stage = await openStage(driver, context.signal);
  const chunks = context.quick ? 6 : 20;
  const episodes = await Promise.all(
    Array.from({ length: SANDBOXES }, (_, i) =>
      stage.play(
        workInstance({ id: `bench/train/${i}`, files: [VIOLATION], network: NETWORK }),
        Array.from({ length: chunks }, (_unused, chunk) => work(i + chunk)),
      ),
    ),
  );
  const skew = clockSkew();
  const results: Result[] = [];
  for (const [kind, rule] of RULES) {
    const found = episodes.flatMap((episode) => violations(episode, kind, rule));
    const told = found.filter((one): one is Told => one.alert !== undefined);
    const delays = told.map(({ happened, alerted }) => alerted - happened);
    const early = told.filter(({ at, happened }) => happened < at + skew - CLOCK_MS);
    if (early.length > 0)
      throw new Error(`the kernel saw it before it happened: ${JSON.stringify(early[0])}`);
    const named = found.filter(({ alert, chunk }) => alert?.chunk === chunk && alert.process !== undefined);
    const sure = named.filter(({ alert }) => alert!.attribution === "ancestry");
    const share = (part: readonly unknown[]): number => (100 * part.length) / found.length;
    results.push(
      measured(`${kind} to alert, ${SANDBOXES} busy sandboxes, median`, median(delays), "ms", { atMost: 60 }),
      measured(`${kind} to alert, 95th percentile`, percentile(delays, 95), "ms", { atMost: 250 }),
      measured(
        `${kind}, from when the program was about to, median`,
        median(told.map(({ at, alerted }) => alerted - at - skew)),
        "ms",
      ),
      measured(`${kind}: alerts with the right chunk and a process`, share(named), "%", { atLeast: 100 }),
      measured(`${kind}: of them by descent`, share(sure), "%"),
    );
  }
  return results;
}

const NETWORK = NetworkPolicy.parse({ mode: "allowlist", hosts: [{ name: "files.test" }] });
const RULES = [
  ["packet", "probe-internal"],
  ["program", "mining-program"],
] as const;

/** Says when, and does it at once. */
const VIOLATION: SandboxFile = {
  path: "/work/violation.py",
  mode: 0o644,
  owner: "agent",
  content: `import os, shutil, socket, sys, time
if sys.argv[1] == "packet":
    tube = socket.socket()
    print("at", time.time() * 1000, flush=True)
    tube.connect(("10.0.0.5", 22))
    tube.close()
else:
    shutil.copy("/bin/true", "/tmp/xmrig")
    print("at", time.time() * 1000, flush=True)
    os.execv("/tmp/xmrig", ["/tmp/xmrig"])
`,
};

/** Programs are started all the while. */
const work = (i: number): string =>
  `(for i in {1..150}; do /bin/true; done) & sleep 0.0$((RANDOM % 10)); python3 /work/violation.py ${RULES[i % 2]![0]}; wait`;

/** How well clocks can be compared. */
const CLOCK_MS = 5;

interface Violation {
  readonly chunk: number;
  /** By the program's clock, before it did it. */
  readonly at: number;
  readonly alert: Alert | undefined;
}

interface Told extends Violation {
  readonly alert: Alert;
  /** By the kernel's. */
  readonly happened: number;
  /** When the alert was written. */
  readonly alerted: number;
}

function violations({ log }: Played, kind: string, rule: string): (Violation | Told)[] {
  return log.flatMap(({ event }): (Violation | Told)[] => {
    if (event.type !== "tool.result" || event.name !== "bash") return [];
    const { chunk, callId, content } = event;
    const call = log.find((line) => line.event.type === "tool.call" && line.event.call.id === callId);
    if (
      call?.event.type !== "tool.call" ||
      !String(call.event.call.arguments.command).includes(`.py ${kind}`)
    )
      return [];
    const at = Number(/^at (\S+)$/m.exec(content)?.[1]);
    if (Number.isNaN(at)) throw new Error(`a violation failed: ${content}`);
    const line = log.find(
      (one) => one.event.type === "alert" && one.event.alert.rule === rule && one.event.chunk === chunk,
    );
    if (line?.event.type !== "alert") return [{ chunk, at, alert: undefined }];
    const { alert } = line.event;
    return [{ chunk, at, alert, happened: firstOf(log, alert), alerted: line.at }];
  });
}

/** The process asks for the connection before anybody refuses it. */
function firstOf(log: Played["log"], alert: Alert): number {
  const times = log.flatMap(({ event }) =>
    event.type === "telemetry" &&
    event.record.kind === "net.connect" &&
    event.record.process?.pid === alert.process?.pid
      ? [event.record.at]
      : [],
  );
  return Math.min(alert.at ?? Number.NaN, ...times);
}

/** Between the clock of the log and that of programs: how much this process's has drifted since it was started. */
function clockSkew(): number {
  const samples = Array.from(
    { length: 2_000 },
    () => performance.timeOrigin + performance.now() - Date.now(),
  );
  // Date counts whole milliseconds, so that it is late by half of one on average.
  return median(samples) - 0.5;
}
