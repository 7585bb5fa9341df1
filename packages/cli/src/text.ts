/** Small pieces of text for people. */

/** Lines of at most `width` columns, broken at spaces where there are any. Plain text, no colours. Never empty. */
export function wrapped(text: string, width: number): string[] {
  const limit = Math.max(8, width);
  const lines: string[] = [];
  for (const line of text.replaceAll("\t", "    ").split("\n")) {
    let rest = [...line];
    while (rest.length > limit) {
      const space = rest.lastIndexOf(" ", limit);
      const cut = space > limit / 3 ? space : limit;
      lines.push(rest.slice(0, cut).join(""));
      rest = rest.slice(rest[cut] === " " ? cut + 1 : cut);
    }
    lines.push(rest.join(""));
  }
  return lines;
}

export function msText(ms: number): string {
  if (ms < 10) return `${ms.toFixed(2)} ms`;
  if (ms < 1_000) return `${ms.toFixed(0)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(2)} s`;
  const minutes = ms / 60_000;
  return minutes < 120 ? `${minutes.toFixed(1)} min` : `${(minutes / 60).toFixed(1)} h`;
}

export function bytesText(bytes: number): string {
  if (bytes < 1_000) return `${bytes} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = bytes / 1_000;
  let unit = 0;
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000;
    unit++;
  }
  return `${value.toPrecision(3)} ${units[unit]}`;
}

export const percentText = (share: number): string =>
  `${(100 * share).toFixed(share > 0.995 || share < 0.005 ? 1 : 0)} %`;

/** Line numbers as people count them: `1, 5–7, 9` of sequence numbers 0, 4, 5, 6, 8. */
export function lineRanges(seqs: readonly number[]): string {
  const ranges: [number, number][] = [];
  for (const seq of seqs) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === seq - 1) last[1] = seq;
    else ranges.push([seq, seq]);
  }
  return ranges.map(([from, to]) => (from === to ? `${from + 1}` : `${from + 1}–${to + 1}`)).join(", ");
}
