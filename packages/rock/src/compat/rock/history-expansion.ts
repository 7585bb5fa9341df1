/**
 * Where ROCK's shells hang and ours do not. They are interactive with history expansion on: a `!word` on a continuation line of an open
 * double quote names no event, the line is thrown away, and the shell waits for the rest of the quote for ever. Ours run such commands. A server
 * that is asked to behave as ROCK's does (its own test-suite asserts it) finds them with this. Pure.
 */
export function hangsInInteractiveShell(command: string): boolean {
  let quote: '"' | "'" | null = null;
  let line = 0;
  let openedAt = 0;
  for (let at = 0; at < command.length; at++) {
    const char = command[at]!;
    if (char === "\n") line++;
    if (quote === "'") {
      if (char === "'") quote = null;
      continue;
    }
    if (char === "\\") {
      if (command[at + 1] === "\n") line++;
      at++;
    } else if (char === '"') {
      quote = quote === null ? '"' : null;
      openedAt = line;
    } else if (char === "'" && quote === null) quote = "'";
    else if (char === "!" && quote === '"' && line > openedAt && /[^\s="(]/.test(command[at + 1] ?? " "))
      return true;
  }
  return false;
}
