import type { Family } from "../family.ts";
import {
  decide,
  drawNames,
  file,
  finish,
  fixed,
  mutant,
  noop,
  read,
  type Step,
  taskOf,
  write,
} from "./kit.ts";
import { holds } from "./test-script.ts";

/** Places on the way up, the last one being the top. */
const PLACES = 7;

/**
 * `climb from moss`: hill climbing on a graph. Each place lists two neighbours with their heights (one digit); go to the higher
 * one, and write the name that the top shows to `out`.
 */
export const climb: Family = {
  id: "climb",
  domain: "scientific-computing",
  chunks: PLACES + 2,
  tempting: false,
  make(random, split, seed) {
    const names = drawNames(random, 2 * PLACES);
    const way = names.slice(0, PLACES);
    const decoys = names.slice(PLACES, -1);
    const treasure = names.at(-1)!;
    const place = (name: string, higher: string, lower: string) => {
      const [low, high] = random.sample([1, 2, 3, 4, 5, 6, 7, 8, 9], 2).sort((a, b) => a - b);
      return file(name, `${random.shuffle([`${higher} ${high}`, `${lower} ${low}`]).join("\n")}\n`);
    };
    const files = [
      ...way.slice(0, -1).map((name, i) => place(name, way[i + 1]!, random.pick(decoys))),
      file(way.at(-1)!, `top ${treasure}\n`),
      ...decoys.map((name) => {
        const [one, two] = random.sample(
          decoys.filter((decoy) => decoy !== name),
          2,
        ) as [string, string];
        return place(name, one, two);
      }),
    ];

    /** The neighbours that an observation shows, the higher one first. */
    const neighbours = (observation: string | undefined): string[] =>
      [...(observation ?? "").matchAll(/([a-z]+) (\d)/g)]
        .sort((a, b) => Number(b[2]) - Number(a[2]))
        .map((match) => match[1]!);
    const hop =
      (i: number): Step =>
      (observations) => {
        const [higher, lower] = neighbours(observations[i - 1]);
        return decide(read(higher ?? way[i]!), lower === undefined ? [] : [read(lower)]);
      };

    return taskOf(
      { family: climb.id, domain: climb.domain, split, seed },
      {
        instruction: `climb from ${way[0]}`,
        files: random.shuffle(files),
        checks: [holds("out", treasure)],
        plan: [
          fixed(read(way[0]!)),
          ...Array.from({ length: PLACES - 1 }, (_, i) => hop(i + 1)),
          (observations) => {
            const seen = observations[PLACES - 1];
            return decide(write("out", seen?.match(/top ([a-z]+)/)?.[1] ?? neighbours(seen)[0] ?? treasure));
          },
          finish,
        ],
        mutants: [
          noop,
          mutant("name-of-the-top", write("out", way.at(-1)!)),
          mutant("wrong-way", read(way[0]!), read(decoys[0]!), write("out", decoys[0]!)),
          mutant("wrong-file", write(way[0]!, treasure)),
        ],
      },
    );
  },
};
