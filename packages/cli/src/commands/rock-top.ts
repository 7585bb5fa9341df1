import { defineUsage, oneOf, parseArguments, wholeNumber } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withRock } from "../rock/client.ts";
import { LiveScreen } from "../rock/live-screen.ts";
import { type Sampled, Sampler } from "../rock/sampler.ts";
import { HELP, isSortKey, KEYS, ORDERS, type Order, topLines } from "../rock/top-view.ts";

const usage = defineUsage({
  positionals: "",
  options: {
    sort: { type: "string", value: "COLUMN", help: `${ORDERS.join(", ")} (default cpu)` },
    interval: { type: "string", value: "SECONDS", help: "between two looks (default 2)" },
    once: { type: "boolean", help: "one look, printed, and out" },
  },
  notes: `keys: ${HELP}`,
});

export const rockTop: Action = {
  usage,
  endsBySignal: true,
  async run(argv, io, signal) {
    const { values } = parseArguments(usage, argv);
    const order = oneOf("--sort", values.sort, ORDERS) ?? "cpu";
    const seconds = wholeNumber("--interval", values.interval, { min: 1, max: 3_600 }) ?? 2;
    const live = !values.once && !io.json && process.stdout.isTTY === true && process.stdin.isTTY === true;
    return withRock(io, async (client) => {
      const sampler = new Sampler(client);
      if (!live) {
        // Two looks a moment apart: a share of the processor is a difference.
        await sampler.sample(signal);
        await new Promise((resolve) => setTimeout(resolve, 200));
        const sampled = await sampler.sample(signal);
        for (const line of topLines(sampled, { order, width: io.width, rows: 10_000, paint: io.paint }))
          io.print(line);
        io.result(sampled);
        return EXIT.ok;
      }
      await watch(sampler, order, seconds * 1_000, io.paint, signal);
      return EXIT.ok;
    });
  },
};

async function watch(
  sampler: Sampler,
  first: Order,
  intervalMs: number,
  paint: Parameters<typeof topLines>[1]["paint"],
  signal: AbortSignal,
): Promise<void> {
  using screen = new LiveScreen();
  let order = first;
  let sampled: Sampled | undefined;
  const draw = (): void => {
    if (sampled === undefined) return;
    const { cols, rows } = screen.size;
    screen.draw(topLines(sampled, { order, width: cols, rows, paint }));
  };
  const quit = new AbortController();
  const stop = AbortSignal.any([signal, quit.signal]);
  screen.onResize(draw);
  screen.onKey((key) => {
    if (key === "q" || key === "\u0003" || key === "\u001b") quit.abort();
    if (isSortKey(key)) order = KEYS[key];
    draw();
  });
  while (!stop.aborted) {
    sampled = await sampler.sample(stop).catch((error: unknown) => {
      if (stop.aborted) return sampled;
      throw error;
    });
    draw();
    await screen.pause(intervalMs, stop);
  }
}
