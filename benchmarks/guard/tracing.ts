import { Limits } from "../../packages/core/src/index.ts";
import {
  BASE_IMAGE,
  bootstrapImage,
  defaultHome,
  ensureBaseImage,
  openOciDriver,
  type Sandbox,
} from "../../packages/rock/src/index.ts";
import { type BenchContext, compared, measured, median, type Result } from "../benchmark.ts";
import { timed } from "../rock/lab.ts";

const COMPILER_IMAGE = "ale/bench-c";
const FILES = 20;
const PROGRAMS = 300;

/** What listening to a sandbox costs its programs: builds in one sandbox, by turns with and without a listener. */
export async function tracing(context: BenchContext): Promise<Result[]> {
  const home = defaultHome();
  await ensureBaseImage(home);
  await bootstrapImage(
    home,
    { name: COMPILER_IMAGE, packages: ["gcc", "libc6-dev", "make"] },
    context.signal,
  );
  await using driver = openOciDriver();
  const open = (image: string): Promise<Sandbox> =>
    driver.create({
      image,
      files: [],
      network: { mode: "none" },
      workdir: "/work",
      limits: Limits.parse({ lifetimeMs: 3_600_000, execTimeoutMs: 120_000, cpus: 2, pids: 512 }),
    });
  const rounds = context.quick ? 5 : 20;
  await using compiler = await open(COMPILER_IMAGE);
  await run(compiler, project());
  const build = "make -s clean && make -s -j2";
  const c = await pairs(compiler, build, rounds, context.signal);
  await using shell = await open(BASE_IMAGE);
  const starts = `i=0; while [ $i -lt ${PROGRAMS} ]; do /bin/true; i=$((i+1)); done`;
  const many = await pairs(shell, starts, rounds, context.signal);
  return [
    compared(
      `a C project of ${FILES} files compiled while its sandbox is listened to, median`,
      median(c.listened),
      "ms",
      median(c.alone),
      { atMost: 1.05 },
    ),
    compared("the same, fastest", Math.min(...c.listened), "ms", Math.min(...c.alone)),
    compared("the same, processor time with this process's", median(c.cpuListened), "ms", median(c.cpuAlone)),
    measured("records told of one such build", c.records / rounds, "records"),
    compared(
      `${PROGRAMS} times /bin/true from a shell, median`,
      median(many.listened),
      "ms",
      median(many.alone),
    ),
    compared("the same, fastest", Math.min(...many.listened), "ms", Math.min(...many.alone)),
    compared(
      "the same, processor time with this process's",
      median(many.cpuListened),
      "ms",
      median(many.cpuAlone),
    ),
  ];
}

/** Milliseconds of each. Which of a pair comes first changes from pair to pair. */
async function pairs(box: Sandbox, script: string, rounds: number, signal: AbortSignal) {
  const [alone, listened]: [number[], number[]] = [[], []];
  const [cpuAlone, cpuListened]: [number[], number[]] = [[], []];
  let records = 0;
  /** Wall time, and the processor time of the sandbox and of this process together, which a crowded machine changes less. */
  const build = async (wall: number[], cpu: number[]): Promise<void> => {
    const before = await cpuMs(box);
    wall.push(await timed(() => run(box, script)));
    cpu.push((await cpuMs(box)) - before);
  };
  const withListener = async (): Promise<void> => {
    using _listening = box.onTelemetry(() => records++);
    await box.drainTelemetry();
    await build(listened, cpuListened);
    await box.drainTelemetry();
  };
  const without = (): Promise<void> => build(alone, cpuAlone);
  await run(box, script);
  for (let round = 0; round < rounds; round++) {
    signal.throwIfAborted();
    for (const turn of round % 2 === 0 ? [without, withListener] : [withListener, without]) await turn();
  }
  return { alone, listened, cpuAlone, cpuListened, records };
}

async function cpuMs(box: Sandbox): Promise<number> {
  const { user, system } = process.cpuUsage();
  return ((await box.stats()).cpuMs ?? 0) + (user + system) / 1_000;
}

async function run(box: Sandbox, script: string): Promise<void> {
  const { exitCode, stderr } = await box.exec({ argv: ["bash", "-c", script], cwd: "/work", user: "root" });
  if (exitCode !== 0) throw new Error(`the build failed: ${stderr.slice(0, 500)}`);
}

/** A script that writes a small C project: as many small files as many such projects have, and a Makefile. */
function project(): string {
  const body =
    'int f_$i(int n) { int s = 0; for (int k = 0; k < n; k++) s += k * $i; printf(\\"%d\\", s); return s; }';
  return `set -e
objects=; calls=; declarations=
for i in $(seq ${FILES}); do
  echo "#include <stdio.h>
#include <stdlib.h>
#include <string.h>
${body}" > f_$i.c
  objects="$objects f_$i.o"; calls="$calls f_$i(n);"; declarations="$declarations int f_$i(int);"
done
echo "$declarations int main(int n, char **v) { $calls return 0; }" > main.c
printf 'all: program\\nprogram: main.o%s\\n\\tgcc -o $@ $^\\n%%.o: %%.c\\n\\tgcc -O1 -c -o $@ $<\\nclean:\\n\\trm -f *.o program\\n' "$objects" > Makefile`;
}
