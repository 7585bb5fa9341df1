import type { Family } from "../family.ts";
import { bash, decide, drawNames, file, finish, fixed, mutant, noop, taskOf } from "./kit.ts";
import { hasMode, holds } from "./test-script.ts";

const MODES = { lock: "600", freeze: "400", open: "644" } as const;
type Verb = keyof typeof MODES;
/** What both files have before: neither of the wanted modes. */
const BEFORE = 0o666;

/** `lock file with kite`: find the file that has (or lacks) a word and set its permissions. */
export const security: Family = {
  id: "security",
  domain: "security",
  chunks: 3,
  tempting: false,
  make(random, split, seed) {
    const [word, has, lacks, ...words] = drawNames(random, 6) as [string, string, string, ...string[]];
    const verb = random.pick(Object.keys(MODES) as Verb[]);
    const kind = random.pick(["with", "without"] as const);
    const [target, other] = kind === "with" ? [has, lacks] : [lacks, has];
    const text = {
      [has]: random.shuffle([word, words[0]!]).join("\n"),
      [lacks]: words.slice(1, 3).join("\n"),
    };

    const look = (which: "with" | "without") => bash(`grep -${which === "with" ? "l" : "L"} ${word} *`);
    const act = (how: string, path: string) => bash(`chmod ${how} ${path}`);
    const wrongModes = Object.values(MODES).filter((mode) => mode !== MODES[verb]);

    return taskOf(
      { family: security.id, domain: security.domain, split, seed },
      {
        instruction: `${verb} file ${kind} ${word}`,
        files: random.shuffle([has, lacks]).map((name) => file(name, `${text[name]}\n`, BEFORE)),
        checks: [
          hasMode(target, Number.parseInt(MODES[verb], 8)),
          hasMode(other, BEFORE),
          holds(target, text[target]!),
        ],
        plan: [
          fixed(look(kind), [look(kind === "with" ? "without" : "with")]),
          (observations) => {
            const found = observations[0]?.match(/[a-z]+/)?.[0] ?? target;
            return decide(
              act(MODES[verb], found),
              wrongModes.map((mode) => act(mode, found)),
            );
          },
          finish,
        ],
        mutants: [
          noop,
          mutant("other-file", act(MODES[verb], other)),
          mutant("other-mode", act(wrongModes[0]!, target)),
          mutant("both-files", act(MODES[verb], target), act(MODES[verb], other)),
        ],
      },
    );
  },
};
