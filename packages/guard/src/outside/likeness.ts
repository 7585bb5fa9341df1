import { basename } from "node:path/posix";
import type { Act } from "./act.ts";
import type { OutsideAlarm } from "./alarm.ts";

/** How much an act looks like what an alarm tells of, time apart. Pure. */
export interface Likeness {
  /** Of what many acts have in common: addresses, ports, names. At most `MOST_ALIKE`. */
  readonly common: number;
  /** Of what tells one from others that are alike: its source port, its process, its sandbox. 1 where nothing is known. */
  readonly own: number;
}

export const MOST_ALIKE = 8 * 4;

/** Each fact that both have multiplies; one that contradicts makes it impossible. Undefined: it cannot be, or there is no reason to think so. */
export function likenessOf(alarm: OutsideAlarm, act: Act): Likeness | undefined {
  if (!agrees(alarm.protocol, act.protocol) || !agrees(alarm.toIp, act.ip)) return undefined;
  if (!agrees(alarm.toPort, act.port) || !agrees(alarm.pid, act.pid)) return undefined;
  let common = 1;
  if (alarm.toIp !== null && act.ip !== null) common *= 8;
  if (alarm.toPort !== null && act.port !== null) common *= 4;
  if (alarm.host !== null && act.host !== null) common *= isSameHost(alarm.host, act.host) ? 8 : 0.1;
  let own = 1;
  // Address translation may rewrite the source, so that a difference there proves nothing.
  if (alarm.fromIp !== null && act.fromIp !== null) own *= alarm.fromIp === act.fromIp ? 2 : 0.5;
  if (alarm.fromPort !== null && act.fromPort !== null) own *= alarm.fromPort === act.fromPort ? 64 : 0.25;
  if (alarm.pid !== null && act.pid !== null) own *= 64;
  if (alarm.path !== null && act.path !== null) own *= alarm.path === act.path ? 16 : 0.1;
  const isInside = act.sandbox !== null && alarm.containers.some((name) => isSandbox(name, act.sandbox!));
  if (isInside) own *= 16;
  own *= programLikeness(alarm, act);
  return common > 1 || own > 1 ? { common: Math.min(common, MOST_ALIKE), own } : undefined;
}

/** Not known is no contradiction. */
const agrees = <T>(theirs: T | null, ours: T | null): boolean =>
  theirs === null || ours === null || theirs === ours;

const isSameHost = (a: string, b: string): boolean =>
  a.toLowerCase().replace(/\.$/, "") === b.toLowerCase().replace(/\.$/, "");

/** Monitors cut ids short (to 12 characters), and put words before or after names. */
export const isSandbox = (name: string, sandbox: string): boolean =>
  name === sandbox ||
  (sandbox.length >= 8 && name.includes(sandbox)) ||
  (name.length >= 12 && sandbox.startsWith(name));

function programLikeness(alarm: OutsideAlarm, act: Act): number {
  if (alarm.command !== null && act.command !== null) {
    const [theirs, ours] = [plainCommand(alarm.command), plainCommand(act.command)];
    if (theirs === ours) return 16;
    // Either side cuts long ones off.
    if (Math.min(theirs.length, ours.length) >= 60 && (theirs.startsWith(ours) || ours.startsWith(theirs)))
      return 12;
  }
  const [theirs, ours] = [programsOf(alarm), programsOf(act)];
  if (theirs.length === 0 || ours.length === 0) return 1;
  return theirs.some((name) => ours.includes(name)) ? 3 : 0.2;
}

/** Falco has the bare name of a program before its arguments, where others have its path. */
function plainCommand(command: string): string {
  const [program = "", ...rest] = command.trim().split(/\s+/);
  return [basename(program), ...rest].join(" ");
}

/** Names that a program goes by: of its file, which links may lead to, and what it was called. The kernel's have 15 characters. */
export function programsOf({ program, command }: Pick<Act, "program" | "command">): readonly string[] {
  const words = [program, command?.trim().split(/\s+/)[0]].flatMap((word) =>
    word === null || word === undefined || word === "" ? [] : [basename(word).replace(/^-/, "").slice(0, 15)],
  );
  return [...new Set(words)];
}
