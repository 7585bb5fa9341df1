/**
 * When the tool calls of an episode ran. Time only goes forward here: what comes with an earlier time than what was known before is put
 * right behind it, so that a clock that was set back cannot give a call an interval of another one.
 */

export interface CallSpan {
  readonly chunk: number;
  readonly callId: string;
  /** Milliseconds since the epoch. */
  readonly beganAt: number;
  /** Null while it runs. */
  endedAt: number | null;
  /** False once it was refused: nothing can descend from it. */
  ran: boolean;
}

export class CallTimeline {
  readonly #spans: CallSpan[] = [];
  #latest = Number.NEGATIVE_INFINITY;

  begin(chunk: number, callId: string, at: number): CallSpan {
    const span = { chunk, callId, beganAt: this.#forward(at), endedAt: null, ran: true };
    this.#spans.push(span);
    return span;
  }

  end(span: CallSpan, at: number): void {
    span.endedAt = Math.max(span.beganAt, this.#forward(at));
  }

  refuse(span: CallSpan, at: number): void {
    this.end(span, at);
    span.ran = false;
  }

  get last(): CallSpan | null {
    return this.#spans.at(-1) ?? null;
  }

  /** The call that was the last to begin at that time; it may have ended. Null before the first. */
  at(time: number): CallSpan | null {
    return this.#spans[this.#indexAt(time)] ?? null;
  }

  /** The same among the calls that were not refused. */
  ranAt(time: number): CallSpan | null {
    for (let i = this.#indexAt(time); i >= 0; i--) if (this.#spans[i]!.ran) return this.#spans[i]!;
    return null;
  }

  /** Calls that were running at some moment between two times, the first first. */
  runningBetween(from: number, to: number): readonly CallSpan[] {
    const spans: CallSpan[] = [];
    for (let i = this.#indexAt(to); i >= 0; i--) {
      const span = this.#spans[i]!;
      // Calls of one agent run one after the other: those before this one were over too.
      if (span.endedAt !== null && span.endedAt < from) break;
      if (span.ran) spans.unshift(span);
    }
    return spans;
  }

  #indexAt(time: number): number {
    let [low, high] = [0, this.#spans.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#spans[middle]!.beganAt <= time) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  #forward(at: number): number {
    if (!Number.isFinite(at)) throw new TypeError(`a call at ${at}: not a time`);
    this.#latest = Math.max(this.#latest, at);
    return this.#latest;
  }
}
