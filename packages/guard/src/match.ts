import { effectsOf, type PathEffect } from "./path-effects.ts";
import type { CommandRule, Selection } from "./rule.ts";
import type { SimpleCommand } from "./shell-commands.ts";

/** A command with what was worked out about it once for all rules. */
export interface JudgedCommand {
  readonly command: SimpleCommand;
  readonly effects: readonly PathEffect[];
}

export const judged = (command: SimpleCommand): JudgedCommand => ({ command, effects: effectsOf(command) });

/** The first command that sets a rule off; null when none does. */
export function firstMatch(
  rule: CommandRule,
  commands: readonly JudgedCommand[],
  workdir: string,
): SimpleCommand | null {
  const { any, except = [] } = rule.detection;
  const hit = commands.find(
    (item) =>
      any.some((selection) => selects(selection, item, workdir)) &&
      !except.some((selection) => selects(selection, item, workdir)),
  );
  return hit?.command ?? null;
}

export function selects(selection: Selection, { command, effects }: JudgedCommand, workdir: string): boolean {
  const { program, argument, line, from, reads, writes, destroysOutside } = selection;
  const onPath = (kind: PathEffect["effect"], wanted: RegExp): boolean =>
    effects.some(
      (effect) => effect.effect === kind && effect.written !== null && wanted.test(effect.written),
    );
  return (
    (!program || program.includes(command.program)) &&
    (!argument || command.args.some((arg) => argument.test(arg.text))) &&
    (!line || line.test(command.text)) &&
    (!from || from.some((name) => command.from.includes(name))) &&
    (!reads || onPath("read", reads)) &&
    (!writes || onPath("write", writes)) &&
    (!destroysOutside || effects.some((effect) => isDestructiveOutside(effect, command, workdir)))
  );
}

function isDestructiveOutside(effect: PathEffect, command: SimpleCommand, workdir: string): boolean {
  if (effect.effect !== "write" || !effect.recursive || effect.written === null) return false;
  if (command.redirects.some(({ target }) => target.text === effect.written)) return false;
  // A glob is judged by the folder that it begins in: `/etc/*` is /etc, `/*` is the root.
  const fixed = effect.pattern ? effect.written.replace(/\/[^/]*[*?[{].*$/s, "") || "/" : effect.written;
  const below = effect.pattern && fixed !== "~" ? `${fixed}/` : fixed;
  const isInside = ["/tmp/", "/var/tmp/", "~/"].some((free) => below.startsWith(free));
  return !isInside && fixed !== workdir && !fixed.startsWith(`${workdir}/`);
}
