import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type OciDriver, openOciDriver } from "../../packages/rock/src/index.ts";
import { type BenchContext, compared, median, type Result } from "../benchmark.ts";
import { OrderShell, plain, scratch, spread, timed } from "./lab.ts";

/**
 * From the wish for a sandbox to the first output of a command in it, against `crun run` of the same bundle (the very config.json
 * of a living sandbox, with `echo` in the place of our PID 1) and against `podman run --rm` on the same root filesystem. All take
 * turns, each time in another order, and each ends with the removal of what it began. The reference does not mount its root filesystem; ours does.
 */
export async function start(context: BenchContext): Promise<Result[]> {
  await using driver = openOciDriver();
  context.version("runtime", (await driver.capabilities()).runtime);
  const dir = scratch();
  const bundle = await bareBundle(driver, dir);
  const results: Result[] = [];
  for (const width of [1, 8]) {
    const pairs = context.quick ? 8 : width === 1 ? 40 : 48;
    const shells = Array.from({ length: width }, () => new OrderShell(["unshare", "-m", "bash"]));
    const prepare = `umount /sys/fs/cgroup/unified 2>/dev/null; mount --rbind ${bundle.space} ${SEEN} && echo prepared`;
    for (const shell of shells) await shell.line(prepare);
    const [ours, bare, podman]: [number[], number[], number[]] = [[], [], []];
    const turns = [
      async (count: number) => ours.push(...(await spread(count, width, () => ourStart(driver)))),
      async (count: number, turn: number) =>
        bare.push(
          ...(await spread(count, width, (i) => bareStart(shells, bundle, `b${width}-${turn}-${i}`, i))),
        ),
      async (count: number) =>
        podman.push(...(await spread(count, width, (i) => podmanStart(shells[i % width]!, bundle, dir)))),
    ];
    // In turn, one or eight at a time, so that other load on the machine and what the kernel still does meets all three.
    for (let turn = 0; turn * width < pairs; turn++)
      for (let k = 0; k < turns.length; k++) {
        context.signal.throwIfAborted();
        await turns[(turn + k) % turns.length]!(Math.min(width, pairs - turn * width), turn);
        await ended(shells);
      }
    await Promise.all(shells.map((shell) => shell.close()));
    const at = width === 1 ? "one at a time" : `${width} at a time`;
    results.push(
      compared(`create → first output, ${at}, against a bare crun run`, median(ours), "ms", median(bare), {
        atMost: 1.5,
      }),
      compared(`podman run --rm against create → first output, ${at}`, median(podman), "ms", median(ours), {
        atLeast: 6,
      }),
    );
  }
  rmSync(dir, { recursive: true, force: true });
  return results;
}

/** After its first output a reference still has its container to remove, which must not happen in another one's turn. */
async function ended(shells: readonly OrderShell[]): Promise<void> {
  await Promise.all(shells.map((shell) => shell.line("echo ended")));
}

async function ourStart(driver: OciDriver): Promise<number> {
  const startedAt = performance.now();
  await using box = await driver.create(plain());
  await box.exec({ argv: ["/bin/echo", "hello"] });
  return performance.now() - startedAt;
}

interface Bundle {
  readonly paths: readonly string[];
  readonly rootfs: string;
  /** The driver's folder. */
  readonly space: string;
  release(): Promise<void>;
}

/** Where the references find the driver's folder: the sandbox's root user may not pass through a person's home. */
const SEEN = "/mnt";

/** A living sandbox's own bundle, with another program. */
async function bareBundle(driver: OciDriver, dir: string): Promise<Bundle> {
  const box = await driver.create(plain());
  const { space, config } = bundleOf(driver.home, box.id);
  config.process.args = ["/bin/echo", "hello"];
  // One for each that runs at a time, with control groups of its own.
  const paths = Array.from({ length: 8 }, (_, i) => {
    const path = join(dir, `bundle-${i}`);
    mkdirSync(path);
    config.linux.cgroupsPath = `/ale-bench/bare-${i}`;
    writeFileSync(join(path, "config.json"), JSON.stringify(config));
    return path;
  });
  return { paths, rootfs: config.root.path, space, release: () => box.destroy() };
}

/** The configuration of a living sandbox. The launcher sees its folder at another place than everybody else does. */
function bundleOf(home: string, id: string) {
  for (const space of globSync(join(home, "rock", "*")))
    for (const path of globSync(join(space, ".layers", "*", "bundle", "config.json"))) {
      const text = readFileSync(path, "utf8");
      const root: string = JSON.parse(text).root.path;
      const at = root.indexOf(`/${id}/`);
      if (at >= 0) return { space, config: JSON.parse(text.replaceAll(root.slice(0, at), SEEN)) };
    }
  throw new Error("the bundle of a living sandbox is not where it is looked for");
}

function bareStart(shells: readonly OrderShell[], bundle: Bundle, id: string, i: number): Promise<number> {
  const shell = shells[i % shells.length]!;
  return timed(async () => {
    const said = await shell.line(
      `crun --cgroup-manager=cgroupfs run --bundle ${bundle.paths[i % shells.length]} ${id} 2>&1`,
    );
    if (said !== "hello") throw new Error(`the bare runtime failed: ${said}`);
  });
}

function podmanStart(shell: OrderShell, bundle: Bundle, dir: string): Promise<number> {
  const storage = `--root ${dir}/podman --runroot ${dir}/podman-run --storage-driver vfs`;
  const engine = `podman ${storage} --cgroup-manager cgroupfs --runtime crun`;
  const limits = "--network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024";
  return timed(() =>
    shell.line(`${engine} run --rm ${limits} --rootfs ${bundle.rootfs}:O /bin/echo hello || echo failed`),
  );
}
