import { openOciDriver } from "../../packages/rock/src/index.ts";
import { type BenchContext, compared, measured, median, type Result } from "../benchmark.ts";
import { OrderShell, plain, spread, timed } from "./lab.ts";
import { openRocklet } from "./rocklet.ts";

/**
 * One command in a running session and one program by exec, against a bash behind a bare pipe outside any sandbox, and against ROCK's own
 * rocklet, whose request runs over HTTP on loopback with a connection kept alive.
 */
export async function commands(context: BenchContext): Promise<Result[]> {
  const repeats = context.quick ? 30 : 200;
  await using driver = openOciDriver();
  const boxes = await Promise.all(Array.from({ length: 8 }, () => driver.create(plain())));
  const pipes = boxes.map(() => new OrderShell(["bash"]));
  const rocklet = await openRocklet(context);
  const results: Result[] = [];
  try {
    for (const width of [1, 8]) {
      const [session, forked, exec, pipe, pipeForked, other]: number[][] = [[], [], [], [], [], []];
      const rounds = 10;
      for (let round = 0; round < rounds; round++) {
        context.signal.throwIfAborted();
        const n = Math.ceil(repeats / rounds);
        const box = (i: number) => boxes[i % width]!;
        session!.push(...(await spread(n, width, (i) => timed(() => box(i).shell.run("echo hi")))));
        pipe!.push(...(await spread(n, width, (i) => timed(() => pipes[i % width]!.line("echo hi")))));
        forked!.push(...(await spread(n, width, (i) => timed(() => box(i).shell.run("/bin/echo hi")))));
        pipeForked!.push(
          ...(await spread(n, width, (i) => timed(() => pipes[i % width]!.line("/bin/echo hi")))),
        );
        exec!.push(...(await spread(n, width, (i) => timed(() => box(i).exec({ argv: ["/bin/true"] })))));
        if (width === 1 && rocklet !== null)
          other!.push(...(await spread(4, 1, () => timed(() => rocklet.run("echo hi")))));
      }
      const at = width === 1 ? "" : `, ${width} at a time`;
      const [ours, bare] = [median(session!), median(pipe!)];
      results.push(
        compared(`a builtin in a session${at}, against a bare pipe`, ours, "ms", bare),
        ...(width === 1
          ? [measured("a builtin in a session, above the bare pipe", ours - bare, "ms", { atMost: 2 })]
          : []),
        compared(
          `a program in a session${at}, against a bare pipe`,
          median(forked!),
          "ms",
          median(pipeForked!),
        ),
        measured(`exec of /bin/true${at}`, median(exec!), "ms", width === 1 ? { atMost: 4 } : undefined),
      );
      if (other!.length > 0)
        results.push(
          compared("ROCK's rocklet run_in_session against ours", median(other!), "ms", ours, { atLeast: 40 }),
        );
    }
  } finally {
    await rocklet?.close();
    await Promise.all(pipes.map((pipe) => pipe.close()));
  }
  return results;
}
