import { openOciDriver } from "../../packages/rock/src/index.ts";
import { type BenchContext, measured, median, type Result } from "../benchmark.ts";
import { percentile, plain, timed } from "./lab.ts";

/** From a warm pool: take → first output. The pool is full again before each take. */
export async function pool(context: BenchContext): Promise<Result[]> {
  await using driver = openOciDriver();
  await using ready = driver.pool(plain(), { size: 4 });
  const times: number[] = [];
  for (let i = 0; i < (context.quick ? 10 : 60); i++) {
    context.signal.throwIfAborted();
    await ready.filled();
    let box: Awaited<ReturnType<typeof ready.take>> | undefined;
    times.push(
      await timed(async () => {
        box = await ready.take();
        await box.exec({ argv: ["/bin/echo", "hello"] });
      }),
    );
    await box?.destroy();
  }
  return [
    measured("take from the warm pool → first output, median", median(times), "ms", { atMost: 5 }),
    measured("take from the warm pool → first output, p95", percentile(times, 95), "ms"),
  ];
}
