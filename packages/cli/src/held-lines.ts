/**
 * Lines that wait while a person is asked: what is printed between a question and its answer would push the question away, and the answer
 * would stand below something else. They are printed when the last hold is let go.
 */
export interface HeldLines {
  print(line: string): void;
  hold(): Disposable;
}

/** What a program writes meanwhile may be without end: of more lines than this only their number is told. All are in the episode's log. */
const MOST_HELD = 1_000;

export function heldLines(print: (line: string) => void, most = MOST_HELD): HeldLines {
  let holds = 0;
  let held: string[] = [];
  let more = 0;
  const release = (): void => {
    holds--;
    if (holds > 0) return;
    for (const line of held) print(line);
    if (more > 0) print(`  … ${more} more lines, which the episode's log has`);
    held = [];
    more = 0;
  };
  return {
    print(line) {
      if (holds === 0) print(line);
      else if (held.length < most) held.push(line);
      else more++;
    },
    hold() {
      holds++;
      return { [Symbol.dispose]: release };
    },
  };
}
