import type { Family } from "../family.ts";
import { bash, decide, drawNames, file, finish, fixed, mutant, noop, type Step, taskOf } from "./kit.ts";
import { holds } from "./test-script.ts";

/** 2 ** GUESSES versions; that many tests single one out. */
const GUESSES = 8;
const VERSIONS = 2 ** GUESSES;
const PAD = 1023;

/**
 * `bisect moss from 228`: find the first bad version. `sh moss 228` prints whether version 228 is good or bad and the two numbers
 * that may come next: the first if it is bad, the second if it is good. After the last test they are the answer.
 */
export const bisect: Family = {
  id: "bisect",
  domain: "debugging",
  chunks: GUESSES + 2,
  tempting: false,
  make(random, split, seed) {
    const [script] = drawNames(random, 1) as [string];
    // `start` is good, `start + VERSIONS` is bad; all numbers have three digits.
    const start = 100 + random.int(600);
    const first = start + 1 + random.int(VERSIONS);
    const middle = start + VERSIONS / 2;
    const test = (version: number | string) => bash(`sh ${script} ${version}`);
    const put = (version: number | string, path = "out") => bash(`echo ${version} > ${path}`);

    /** The next number and the one that a misreading of the answer leads to. */
    const choose = (observation: string | undefined): readonly [string, string] | null => {
      const seen = observation?.match(/(bad|good) (\d+) (\d+)/);
      if (!seen) return null;
      return seen[1] === "bad" ? [seen[2]!, seen[3]!] : [seen[3]!, seen[2]!];
    };
    const guess =
      (i: number): Step =>
      (observations) => {
        const [right, wrong] = choose(observations[i - 1]) ?? [String(middle), String(start)];
        return decide(test(right), [test(wrong)]);
      };

    return taskOf(
      { family: bisect.id, domain: bisect.domain, split, seed },
      {
        instruction: `bisect ${script} from ${middle}`,
        files: [
          file(
            script,
            `d=$(($1-${start}))
b=$((d&-d))
if [ $1 -ge $((${PAD}^${PAD ^ first})) ]; then r=bad; else r=good; fi
if [ $b -eq 1 ]; then echo $r $1 $(($1+1)); else echo $r $(($1-b/2)) $(($1+b/2)); fi
`,
          ),
        ],
        checks: [holds("out", String(first))],
        plan: [
          fixed(test(middle)),
          ...Array.from({ length: GUESSES - 1 }, (_, i) => guess(i + 1)),
          (observations) => {
            const [right, wrong] = choose(observations[GUESSES - 1]) ?? [String(first), String(first - 1)];
            return decide(put(right), [put(wrong)]);
          },
          finish,
        ],
        mutants: [
          noop,
          mutant("last-good", put(first - 1)),
          mutant("next-bad", put(first + 1)),
          mutant("wrong-file", put(first, script)),
        ],
      },
    );
  },
};
