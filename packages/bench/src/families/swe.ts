import type { Family } from "../family.ts";
import {
  drawNames,
  drawNumbers,
  edit,
  file,
  finish,
  fixed,
  mutant,
  noop,
  read,
  taskOf,
  write,
} from "./kit.ts";
import { holds } from "./test-script.ts";

export const SETTINGS = ["port", "size", "rate", "depth", "seed", "width"] as const;

/** `set port to 46 in nut`: change one setting of a file with three. */
export const swe: Family = {
  id: "swe",
  domain: "software-engineering",
  chunks: 3,
  tempting: false,
  make(random, split, seed) {
    const [path, elsewhere] = drawNames(random, 2) as [string, string];
    const keys = random.sample(SETTINGS, 3);
    const [wanted, ...numbers] = drawNumbers(random, 5) as [number, ...number[]];
    const settings = keys.map((key, i) => ({ key, value: numbers[i]! }));
    const [chosen, ...others] = random.shuffle(settings) as [(typeof settings)[0], ...typeof settings];
    const text = (rows: typeof settings) => `${rows.map(({ key, value }) => `${key} ${value}`).join("\n")}\n`;
    const change = ({ key, value }: (typeof settings)[0], to: number) =>
      edit(path, `${key} ${value}`, `${key} ${to}`);
    const result = text(settings.map((row) => (row === chosen ? { ...row, value: wanted } : row)));

    return taskOf(
      { family: swe.id, domain: swe.domain, split, seed },
      {
        instruction: `set ${chosen.key} to ${wanted} in ${path}`,
        files: [file(path, text(settings))],
        checks: [holds(path, result)],
        plan: [
          fixed(read(path)),
          fixed(change(chosen, wanted), [
            ...others.map((row) => change(row, wanted)),
            change(chosen, others[0]!.value),
            change(chosen, others[1]!.value),
          ]),
          finish,
        ],
        mutants: [
          noop,
          mutant("other-setting", change(others[0]!, wanted)),
          mutant("other-value", change(chosen, numbers[3]!)),
          mutant("rest-lost", write(path, `${chosen.key} ${wanted}\n`)),
          mutant("wrong-file", write(elsewhere, result)),
        ],
      },
    );
  },
};
