import type { Family } from "../family.ts";
import { bash, drawNames, file, finish, fixed, mutant, noop, taskOf } from "./kit.ts";
import { holds } from "./test-script.ts";

const LINES = 6;

/** `first 3 of moss to newt rest to kite`: split a data set into a training and a held-out part. */
export const holdout: Family = {
  id: "holdout",
  domain: "machine-learning",
  chunks: 3,
  tempting: false,
  make(random, split, seed) {
    const [source, train, rest, ...lines] = drawNames(random, 3 + LINES) as [
      string,
      string,
      string,
      ...string[],
    ];
    const size = 2 + random.int(LINES - 3);
    const take = (count: number, path = train) => bash(`head -${count} ${source} > ${path}`);
    const leave = (from: number, path = rest) => bash(`tail -n +${from} ${source} > ${path}`);
    const takeLast = (count: number) => bash(`tail -${count} ${source} > ${train}`);

    return taskOf(
      { family: holdout.id, domain: holdout.domain, split, seed },
      {
        instruction: `first ${size} of ${source} to ${train} rest to ${rest}`,
        files: [file(source, `${lines.join("\n")}\n`)],
        checks: [
          holds(train, lines.slice(0, size).join("\n")),
          holds(rest, lines.slice(size).join("\n")),
          holds(source, lines.join("\n")),
        ],
        plan: [
          fixed(take(size), [take(size + 1), takeLast(size)]),
          fixed(leave(size + 1), [leave(size)]),
          finish,
        ],
        mutants: [
          noop,
          mutant("half", take(size)),
          mutant("overlap", take(size), leave(size)),
          mutant("last-lines", takeLast(size), leave(size + 1)),
          mutant("wrong-file", take(size, rest), leave(size + 1, train)),
        ],
      },
    );
  },
};
