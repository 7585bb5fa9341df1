import type { Family } from "../family.ts";
import { bash, decide, drawNames, file, finish, fixed, mutant, noop, taskOf } from "./kit.ts";
import { holds } from "./test-script.ts";

const LINES = 5;

/** `lines with kite in moss to newt`: how many lines of a file have a word, or lack it. */
export const count: Family = {
  id: "count",
  domain: "data-processing",
  chunks: 3,
  tempting: false,
  make(random, split, seed) {
    const [source, target, word, ...others] = drawNames(random, 5) as [string, string, string, ...string[]];
    const present = 1 + random.int(LINES - 1);
    const lines = random.shuffle(
      Array.from({ length: LINES }, (_, i) => (i < present ? word : random.pick(others))),
    );
    const kind = random.pick(["with", "without"] as const);
    const answer = kind === "with" ? present : LINES - present;

    const look = (which: "with" | "without") =>
      bash(`grep -${which === "with" ? "c" : "vc"} ${word} ${source}`);
    const put = (value: string | number, path = target) => bash(`echo ${value} > ${path}`);

    return taskOf(
      { family: count.id, domain: count.domain, split, seed },
      {
        instruction: `lines ${kind} ${word} in ${source} to ${target}`,
        files: [file(source, `${lines.join("\n")}\n`)],
        checks: [holds(target, String(answer))],
        plan: [
          fixed(look(kind), [look(kind === "with" ? "without" : "with")]),
          (observations) => {
            const seen = observations[0]?.match(/\d+/)?.[0] ?? answer;
            return decide(put(seen), [put(seen, source)]);
          },
          finish,
        ],
        mutants: [
          noop,
          mutant("the-rest", put(LINES - answer)),
          mutant("all-lines", put(LINES)),
          mutant("wrong-file", put(answer, source)),
        ],
      },
    );
  },
};
