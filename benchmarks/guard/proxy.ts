import { type BenchContext, measured, median, type Result } from "../benchmark.ts";
import { percentile } from "../rock/lab.ts";
import { client, openLab } from "./lab.ts";

/** What the gateway costs a connection that it lets through: the same client and the same server with a cable between them, and with the proxy. */
export async function proxy(context: BenchContext): Promise<Result[]> {
  await using lab = await openLab();
  const results: Result[] = [];
  const [rounds, each] = context.quick ? [3, 20] : [10, 40];
  for (const kind of ["http", "tls"] as const) {
    const [direct, behind]: [number[][], number[][]] = [[], []];
    for (let round = 0; round < rounds; round++) {
      context.signal.throwIfAborted();
      direct.push(await client(lab.direct, kind, `${each}`));
      behind.push(await client(lab.behind, kind, `${each}`));
    }
    const added = (figure: (times: readonly number[]) => number): number =>
      Math.min(...behind.map(figure)) - Math.min(...direct.map(figure));
    results.push(
      measured(
        `${kind}: added to a connection and its first answer, median, best of ${rounds} rounds`,
        added(median),
        "ms",
        { atMost: 5 },
      ),
      measured(
        `${kind}: added, 95th percentile, best of ${rounds} rounds`,
        added((times) => percentile(times, 95)),
        "ms",
      ),
      measured(`${kind}: direct, median, best of ${rounds} rounds`, Math.min(...direct.map(median)), "ms"),
    );
  }
  const mebibytes = context.quick ? 64 : 256;
  for (const kind of ["http", "tls"] as const) {
    const rate = async (where: "direct" | "behind"): Promise<number> =>
      (mebibytes * 1000) / Math.min(...(await client(lab[where], `${kind}-download`, "5", `${mebibytes}`)));
    const direct = await rate("direct");
    const before = process.cpuUsage();
    const behind = await rate("behind");
    const { user, system } = process.cpuUsage(before);
    results.push(
      measured(`${kind}: download through the proxy, best of 5`, behind, "MiB/s", { atLeast: 100 }),
      measured(`${kind}: download over the cable, best of 5`, direct, "MiB/s"),
      measured(
        `${kind}: the same by the proxy's processor time`,
        (5 * mebibytes * 1e6) / (user + system),
        "MiB/s",
      ),
    );
  }
  return results;
}
