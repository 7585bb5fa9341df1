import { posix } from "node:path";
import type { Glob } from "./shell-glob.ts";

/** Programs that run another program, such as `sudo` and `timeout`: what they run is what counts. */

export interface Argument {
  readonly text: string;
  /** False when a part of the text stands for a value that is not known. */
  readonly known: boolean;
  /** For arguments with globs: matches the words they may become. */
  readonly pattern: Glob | null;
}

/** No honest command has more. */
const MAX_PREFIXES = 8;

/** Prefix programs: short flags that take a value, and how many operands stand before the command. */
const PREFIXES: Readonly<Record<string, { readonly valued: string; readonly operands: number }>> = {
  sudo: { valued: "ugpCrtTUDh", operands: 0 },
  doas: { valued: "uC", operands: 0 },
  env: { valued: "uC", operands: 0 },
  timeout: { valued: "sk", operands: 1 },
  nice: { valued: "n", operands: 0 },
  ionice: { valued: "cnp", operands: 0 },
  nohup: { valued: "", operands: 0 },
  setsid: { valued: "", operands: 0 },
  stdbuf: { valued: "ioe", operands: 0 },
  exec: { valued: "a", operands: 0 },
  command: { valued: "", operands: 0 },
  builtin: { valued: "", operands: 0 },
  xargs: { valued: "IndPLsaE", operands: 0 },
  watch: { valued: "n", operands: 0 },
  chroot: { valued: "", operands: 1 },
  strace: { valued: "oepsu", operands: 0 },
  busybox: { valued: "", operands: 0 },
};

/** The command that is really run, and the prefixes taken off, outermost first. */
export function withoutPrefixes(words: readonly Argument[]): { via: string[]; argv: readonly Argument[] } {
  const via: string[] = [];
  let argv = words;
  for (;;) {
    const name = argv[0] ? posix.basename(argv[0].text) : "";
    const prefix = PREFIXES[name];
    if (!prefix || via.length >= MAX_PREFIXES) return { via, argv };
    let at = 1;
    let operands = prefix.operands;
    for (; at < argv.length; at++) {
      const { text } = argv[at]!;
      // `command -v nmap` asks for a program and does not run it.
      if (name === "command" && /^-[vV]$/.test(text)) return { via, argv };
      if (text.startsWith("-") && text.length > 1) {
        if (text.length === 2 && prefix.valued.includes(text[1]!)) at++;
      } else if (/^[A-Za-z_]\w*=/.test(text) && (name === "env" || name === "sudo")) continue;
      else if (operands-- <= 0) break;
    }
    if (at >= argv.length) return { via, argv };
    via.push(name);
    argv = argv.slice(at);
  }
}
