/** Plain text tables: aligned columns, no frames, so that they read well and cut well. Widths ignore colour codes. */
export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
  /** Never cut where others are: a name that a person copies. */
  readonly whole?: true;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes begin with one
const COLOUR = /\u001b\[[0-9;]*m/g;
const COLOURS = new RegExp(`(${COLOUR.source})`);
export const visibleLength = (text: string): number => [...text.replace(COLOUR, "")].length;

/** `width`: of the terminal. What does not fit is cut, the longest columns first; undefined: nothing is. */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  width?: number,
): string[] {
  const natural = columns.map((column, i) =>
    rows.reduce((most, row) => Math.max(most, visibleLength(row[i] ?? "")), visibleLength(column.title)),
  );
  const widths = width === undefined ? natural : narrowed(natural, columns, width - 2 * (columns.length - 1));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => {
        const shown = cut(cell, widths[i]!);
        const gap = " ".repeat(Math.max(0, widths[i]! - visibleLength(shown)));
        return columns[i]?.align === "right" ? gap + shown : shown + gap;
      })
      .join("  ")
      .trimEnd();
  const lines = [line(columns.map((column) => column.title)), ...rows.map(line)];
  return width === undefined ? lines : lines.map((text) => cut(text, width));
}

/** Below this a column says nothing. */
const LEAST_WIDTH = 4;

function narrowed(natural: readonly number[], columns: readonly Column[], room: number): number[] {
  const widths = [...natural];
  const cuttable = widths.flatMap((_, i) => (columns[i]!.whole === true ? [] : [i]));
  let over = widths.reduce((sum, width) => sum + width, 0) - room;
  while (over > 0) {
    const [longest, second] = cuttable.toSorted((a, b) => widths[b]! - widths[a]!);
    if (longest === undefined || widths[longest]! <= LEAST_WIDTH) break;
    const next = Math.max(LEAST_WIDTH, second === undefined ? 0 : widths[second]!);
    const step = Math.min(over, Math.max(1, widths[longest]! - next));
    widths[longest] = widths[longest]! - step;
    over -= step;
  }
  return widths;
}

/** Colours stay, so that what is open is closed. */
function cut(text: string, width: number): string {
  if (visibleLength(text) <= width) return text;
  let left = width - 1;
  return text
    .split(COLOURS)
    .map((part, i) => {
      if (i % 2 === 1 || left < 0) return i % 2 === 1 ? part : "";
      const letters = [...part];
      const kept = letters.slice(0, left).join("");
      const isLast = letters.length > left;
      left = isLast ? -1 : left - letters.length;
      return isLast ? `${kept}…` : kept;
    })
    .join("");
}
