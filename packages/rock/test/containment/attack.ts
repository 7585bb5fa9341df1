import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import type { Sandbox } from "../../src/index.ts";

/** Whether it still does what it is for: a fresh program of root's and a command of the agent's. */
export async function healthy(box: Sandbox): Promise<void> {
  expect((await box.exec({ argv: ["echo", "alive"], user: "root" })).stdout).toBe("alive\n");
  expect((await box.shell.run("echo alive")).output).toBe("alive\n");
}

/** A shell script as root of the sandbox: what a walled-in root cannot do, nobody in there can. */
export const asRoot = (box: Sandbox, script: string) =>
  box.exec({ argv: ["bash", "-c", script], user: "root", timeoutMs: 10_000 });

export const asAgent = (box: Sandbox, script: string) =>
  box.exec({ argv: ["bash", "-c", script], user: "agent", timeoutMs: 10_000 });

/**
 * A perl program that makes one system call, `number, argument, …` in perl, and says whether it was refused. An argument that is a string
 * is passed as its address.
 */
export function attempt(call: string): string[] {
  const program = `my @a = (${call}); my $r = syscall($a[0], @a[1 .. $#a]);
    print $r == -1 && grep({ $!{$_} } qw(EPERM EACCES ENOSYS EAFNOSUPPORT)) ? "refused" : "result $r: $!"`;
  return ["perl", "-e", program];
}

/** Things of the host that no sandbox may change, and a secret that none may read. */
export interface Canaries extends Disposable {
  readonly directory: string;
  readonly secret: string;
  /** Fails where something is not as it was. */
  check(): void;
}

const KNOBS = [
  "kernel/core_pattern",
  "kernel/modprobe",
  "vm/panic_on_oom",
  "kernel/sysrq",
  "kernel/hostname",
].filter((knob) => existsSync(join("/proc/sys", knob)));

export function plantCanaries(): Canaries {
  const directory = mkdtempSync(join(tmpdir(), "ale-canary-"));
  const secret = `secret-${Math.random().toString(36).slice(2)}`;
  writeFileSync(join(directory, "secret"), secret, { mode: 0o644 });
  const state = (): unknown => ({
    secret: readFileSync(join(directory, "secret"), "utf8"),
    hostname: hostname(),
    knobs: KNOBS.map((knob) => readFileSync(join("/proc/sys", knob), "utf8")),
    devices: ["null", "zero", "random"].map((name) => {
      const { mode, uid, gid, rdev } = statSync(join("/dev", name));
      return { name, mode, uid, gid, rdev };
    }),
  });
  const before = state();
  return {
    directory,
    secret,
    check: () => expect(state()).toEqual(before),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}
