import type { Out } from "./out.ts";

/**
 * Progress of long work, on stderr. On a terminal one line is redrawn in place; elsewhere (a file, CI) the newest state is
 * written as a line of its own every few seconds, so that a log stays readable and still shows life.
 */
export interface Progress {
  /** What is going on now; replaces what was shown before. */
  status(text: string): void;
  /** Something that has happened and stays in view. */
  say(text: string): void;
  /** Takes the status off the screen. Called before anything else is printed. */
  clear(): void;
}

const PLAIN_INTERVAL_MS = 5_000;
const REDRAW_INTERVAL_MS = 80;

export function createProgress(out: Out, nowMs: () => number = () => performance.now()): Progress {
  const live = out.isTTY === true;
  const interval = live ? REDRAW_INTERVAL_MS : PLAIN_INTERVAL_MS;
  let drawn = false;
  // What is over within one interval leaves no line in a log.
  let lastAt = live ? Number.NEGATIVE_INFINITY : nowMs();
  const clear = (): void => {
    if (drawn) out.write("\r\u001b[K");
    drawn = false;
  };
  return {
    status(text) {
      if (nowMs() - lastAt < interval) return;
      lastAt = nowMs();
      if (live) {
        out.write(`\r\u001b[K${fit(text, (out.columns ?? 80) - 1)}`);
        drawn = true;
      } else out.write(`${text}\n`);
    },
    say(text) {
      clear();
      // What was just said counts as a sign of life; the next status of a plain stream can wait.
      if (!live) lastAt = nowMs();
      out.write(`${text}\n`);
    },
    clear,
  };
}

const fit = (text: string, width: number): string =>
  text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;

const BLOCKS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"] as const;

/** A bar of `width` cells filled to `fraction` (0…1), in eighths of a cell. */
export function bar(fraction: number, width: number): string {
  const eighths = Math.round(Math.min(1, Math.max(0, fraction)) * width * 8);
  const full = "█".repeat(Math.floor(eighths / 8)) + BLOCKS[eighths % 8]!;
  return full.padEnd(width, "░");
}
