import { readFileSync } from "node:fs";
import { join } from "node:path";
import { AGENT } from "./bootstrap.ts";

/** What the driver tells PID 1 about itself and the machine. */

/** System call numbers; perl has no names for them. */
const NUMBERS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  x64: {
    clock_gettime: 228,
    close: 3,
    dup3: 292,
    exit_group: 231,
    fcntl: 72,
    prctl: 157,
    rt_sigprocmask: 14,
    setgroups: 116,
    setresgid: 119,
    setresuid: 117,
    setsid: 112,
    signalfd4: 289,
  },
  arm64: {
    clock_gettime: 113,
    close: 57,
    dup3: 24,
    exit_group: 94,
    fcntl: 25,
    prctl: 167,
    rt_sigprocmask: 135,
    setgroups: 159,
    setresgid: 149,
    setresuid: 147,
    setsid: 157,
    signalfd4: 74,
  },
};

export const isSupportedMachine = (arch: string = process.arch): boolean => arch in NUMBERS;

let program: string | undefined;
let script: string | undefined;

const besideThis = (name: string): string => readFileSync(join(import.meta.dirname, name), "utf8");

/** The argument vector of PID 1. The program travels in it, so that an image needs nothing of ours. */
export function initArgv(): string[] {
  program ??= besideThis("init.pl")
    .split("\n")
    .filter((line) => !/^\s*(#|$)/.test(line))
    .join("\n");
  return ["/usr/bin/perl", "-e", program];
}

/** The fields of the first frame. */
export function startFields(workdir: string, env: Readonly<Record<string, string>>): (string | number)[] {
  script ??= besideThis("session.sh");
  const numbers = Object.entries(NUMBERS[process.arch] ?? {}).flat();
  return [numbers.join(" "), AGENT.uid, AGENT.gid, workdir, script, ...Object.entries(env).flat()];
}

const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export function environmentOf(
  user: "agent" | "root",
  ...more: (Readonly<Record<string, string>> | undefined)[]
): Record<string, string> {
  const home = user === "agent" ? AGENT.home : "/root";
  const name = user === "agent" ? AGENT.name : "root";
  const base = {
    PATH,
    HOME: home,
    USER: name,
    LOGNAME: name,
    SHELL: "/bin/bash",
    LANG: "C.UTF-8",
    TERM: "dumb",
  };
  return Object.assign(base, ...more.map((part) => part ?? {}));
}
