/**
 * Pages of the kernel's trace buffer, as `trace_pipe_raw` gives them: a time, a length, and events that each say how much later they are than
 * the one before. Read in this form nothing that a program calls itself can be taken for an event, which text cannot promise.
 */

const HEADER_BYTES = 16;
const LENGTH_MASK = 0x7ffffff;
const MISSED = 0x80000000;
const MISSED_COUNTED = 0x40000000;
const [PADDING, TIME_EXTEND, TIME_STAMP] = [29, 30, 31];
const DELTA_RANGE = 2 ** 27;

/** Calls back for each event; its data is a view that is gone with the page. Returns how many events the kernel threw away before it. */
export function readPage(page: Buffer, each: (ns: number, data: Buffer) => void): number {
  if (page.length < HEADER_BYTES) return 0;
  let ns = page.readUInt32LE(4) * 2 ** 32 + page.readUInt32LE(0);
  const commit = page.readUInt32LE(8);
  const end = Math.min(page.length, HEADER_BYTES + (commit & LENGTH_MASK));
  for (let at = HEADER_BYTES; at + 4 <= end; ) {
    const head = page.readUInt32LE(at);
    const type = head & 31;
    const delta = head >>> 5;
    const next = at + 8 <= page.length ? page.readUInt32LE(at + 4) : 0;
    if (type === TIME_EXTEND) {
      ns += next * DELTA_RANGE + delta;
      at += 8;
    } else if (type === TIME_STAMP) {
      // 59 bits; the ones above do not change within a buffer's life.
      const upper = Math.floor(ns / 2 ** 59) * 2 ** 59;
      ns = upper + next * DELTA_RANGE + delta;
      at += 8;
    } else if (type === PADDING) {
      if (delta === 0) break;
      ns += delta;
      at += 4 + next;
    } else {
      ns += delta;
      const length = type === 0 ? 4 + next : 4 + type * 4;
      const begin = type === 0 ? at + 8 : at + 4;
      if (at + length > end || length < 4) break;
      each(ns, page.subarray(begin, at + length));
      at += (length + 3) & ~3;
    }
  }
  return missedOf(page, commit, end);
}

function missedOf(page: Buffer, commit: number, end: number): number {
  if ((commit & MISSED) === 0) return 0;
  if ((commit & MISSED_COUNTED) === 0 || end + 8 > page.length) return 1;
  return page.readUInt32LE(end + 4) * 2 ** 32 + page.readUInt32LE(end);
}
